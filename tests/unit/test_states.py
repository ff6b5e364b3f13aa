"""Every state, declared on and off: its status at first and after the deadline."""

from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.expected_states import BY_NAME, SPELLINGS, STATES, WAZZUP, Expected, meant
from tests.unit.build import (
    World,
    at,
    channel,
    condition,
    listed,
    progress,
    ready,
    row,
)
from wazzup_operator.domain.states import State, from_upstream

NOT_ADDED, AMBIGUOUS = "no such channel", "ambiguous"
"""Observations for the two states without an API state."""


class Case(NamedTuple):
    """One state, declared on or off."""

    expected: Expected
    active: bool

    @property
    def upstream(self) -> str:
        """The API state."""
        own = {"SomethingWentWrong": "melted", "NotAdded": NOT_ADDED, "Unknown": AMBIGUOUS}
        return own.get(self.expected.state) or self.expected.spellings[0]


each_case = pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case(each, active), id=f"{each.state}-{'on' if active else 'off'}")
        for each in STATES
        for active in (True, False)
    ],
)


def _observation(case):
    if case.upstream == NOT_ADDED:
        return listed()
    if case.upstream == AMBIGUOUS:
        return listed(ambiguous_numbers=[("whatsapp", "79865784457")])
    return listed(row("a", case.upstream))


def _check(status, case):
    expected, words = case.expected, case.expected.action(active=case.active)
    assert status.state == expected.state
    assert ready(status) == expected.ready(active=case.active)
    assert (status.action is None) == (words is None)
    if words:
        assert words in status.action.summary
        assert status.action.by == expected.actor(active=case.active)
        assert words in condition(status, "Ready").message
        at_the_phone = case.active and expected.state == "NoConnectionWithPhone"
        assert status.action.url == (None if at_the_phone else WAZZUP)
    if case.upstream not in {NOT_ADDED, AMBIGUOUS}:
        assert status.upstream_state == case.upstream
        assert (status.channel_id, status.plain_id) == ("a", "79865784457")


def test_the_states_and_what_they_carry():
    assert {
        state: (
            {each.lower() for each in state.traits.upstream},
            state.traits.carries,
            state.traits.permanent,
        )
        for state in State
    } == {
        each.state: (
            {spelling.lower() for spelling in each.spellings},
            each.carries,
            each.permanent,
        )
        for each in STATES
    }


@each_case
def test_a_new_object_and_its_next_passes(case):
    world = World(channel(active=case.active))
    observation = _observation(case)

    world.step(observation, at(0))
    _check(world.status(), case)
    progress_at_first = case.expected.progress(active=case.active)
    assert progress(world.status()) == progress_at_first
    assert world.status().observed_generation == 1
    assert world.status().state_since == at(0)

    assert not world.step(observation, at(1)).statuses
    assert not world.step(observation, at(14.9)).statuses

    world.step(observation, at(15))
    _check(world.status(), case)
    assert progress(world.status()) == (progress_at_first and "Stalled")
    assert world.status().state_since == at(0)
    assert not world.step(observation, at(600)).statuses


@each_case
def test_a_channel_that_was_active(case):
    world = World(channel(active=case.active))
    world.step(listed(row("a", "active")), at(0))
    world.step(_observation(case), at(1))
    if case.upstream == AMBIGUOUS:
        assert world.status().state == "Active"  # an ambiguous listing keeps the state
        return
    _check(world.status(), case)
    assert world.status().state_since == (at(0) if case.expected.state == "Active" else at(1))


@each_case
def test_active_is_flipped(case):
    world = World(channel(active=not case.active))
    world.step(_observation(case), at(0))
    world.edit(active=case.active)
    world.step(_observation(case), at(1))
    _check(world.status(), case)
    assert world.status().observed_generation == 2
    assert world.status().state_since == at(0)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_api_states_are_case_insensitive(spelling):
    for each in (spelling, spelling.lower(), spelling.upper()):
        assert from_upstream(each) == meant(spelling)


@pytest.mark.parametrize("spelling", ["", "banned", "NotAdded", "Unknown", "active "])
def test_an_unknown_api_state_is_something_went_wrong(spelling):
    world = World(channel())
    world.step(listed(row("a", spelling)), at(0))
    assert world.status().state == "SomethingWentWrong"
    assert world.status().upstream_state == spelling


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("notEnoughMoney", "all missed messages then arrive"),
        ("openElsewhere", "disconnects the other place"),
        ("phoneUnavailable", "about three minutes"),
        ("blocked", "channel id"),
    ],
)
def test_the_message_of_ready(state, words):
    world = World(channel())
    world.step(listed(row("a", state)), at(0))
    assert words in condition(world.status(), "Ready").message


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("disabled", "The channel is off, as declared."),
        ("qr", "The channel is declared off and carries no messages."),
        (
            "active",
            "The channel is declared off but may still carry messages. Turn the channel off in"
            " Wazzup.",
        ),
    ],
)
def test_the_message_of_ready_of_a_channel_that_is_declared_off(state, message):
    world = World(channel(active=False))
    world.step(listed(row("a", state)), at(0))
    assert condition(world.status(), "Ready").message == message


def test_the_crd_names_the_states():
    path = Path(__file__).parents[2] / "crds" / "wazzupchannels.yaml"
    (version,) = yaml.safe_load(path.read_text())["spec"]["versions"]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    state = status["properties"]["state"]
    assert "enum" not in state
    listing = state["description"].partition(":")[2].partition(".")[0]
    assert set(listing.replace(" or ", ", ").replace(" ", "").split(",")) == set(BY_NAME)


def test_each_state_has_a_colour_of_its_own():
    colours = [state.traits.colour for state in State]
    assert len(set(colours)) == len(colours)
