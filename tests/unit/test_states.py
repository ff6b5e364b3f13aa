"""The 16 states, declared on and off: what each object is told, at first and in the end."""

from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.unit.build import (
    DEADLINE,
    World,
    at,
    channel,
    condition,
    listed,
    progress,
    ready,
    row,
)
from wazzup_operator.domain.states import TABLE, State, from_upstream
from wazzup_operator.reconcile.finding import Found, Held, NotListed
from wazzup_operator.reconcile.status import next_status

NOT_ADDED, IN_DOUBT = "no such channel", "in doubt"
"""What stands for the two states that no API state leads to."""


class Case(NamedTuple):
    """One state, declared on or off, and what the object is told."""

    state: str
    upstream: str
    active: bool
    ready: str
    reason: str
    words: str | None
    first: str | None
    later: str | None

    @property
    def name(self) -> str:
        """Its name in the test's report."""
        return f"{self.state}-{'on' if self.active else 'off'}"


R, S = "Reconciling", "Stalled"
TURN_OFF = "Turn the channel off"
ROWS = [
    Case("Active", "active", True, "True", "Active", None, None, None),
    Case("Active", "active", False, "False", "StillActive", TURN_OFF, R, S),
    Case("WaitAMinute", "init", True, "False", "WaitAMinute", None, R, S),
    Case("WaitAMinute", "init", False, "False", "StillActive", TURN_OFF, R, S),
    Case("Off", "disabled", True, "False", "Off", "Enable the channel", R, S),
    Case("Off", "disabled", False, "True", "Off", None, None, None),
    Case("NotPaidFor", "notEnoughMoney", True, "False", "NotPaidFor", "Pay", R, S),
    Case("NotPaidFor", "notEnoughMoney", False, "True", "NotConnected", None, None, None),
    Case("ScanQRCode", "qr", True, "False", "ScanQRCode", "scan the QR code", R, S),
    Case("ScanQRCode", "qr", False, "True", "NotConnected", None, None, None),
    Case("EnableHere", "openElsewhere", True, "False", "EnableHere", '"enable here"', R, S),
    Case("EnableHere", "openElsewhere", False, "False", "StillActive", TURN_OFF, R, S),
    Case(
        "NoConnectionWithPhone",
        "phoneUnavailable",
        True,
        "False",
        "NoConnectionWithPhone",
        "battery and internet",
        R,
        S,
    ),
    Case(
        "NoConnectionWithPhone", "phoneUnavailable", False, "False", "StillActive", TURN_OFF, R, S
    ),
    Case("SomethingWentWrong", "melted", True, "False", "SomethingWentWrong", "support", R, S),
    Case("SomethingWentWrong", "melted", False, "False", "StillActive", TURN_OFF, R, S),
    Case("WrongPhone", "foreignphone", True, "False", "WrongPhone", "declared number", R, S),
    Case("WrongPhone", "foreignphone", False, "True", "NotConnected", None, None, None),
    Case("NotAuthorized", "unauthorized", True, "False", "NotAuthorized", '"Authorize"', R, S),
    Case("NotAuthorized", "unauthorized", False, "True", "NotConnected", None, None, None),
    Case(
        "PasswordRequired",
        "waitForPassword",
        True,
        "False",
        "PasswordRequired",
        "two-factor password",
        R,
        S,
    ),
    Case("PasswordRequired", "waitForPassword", False, "True", "NotConnected", None, None, None),
    Case("Blocked", "blocked", True, "False", "Blocked", "support", S, S),
    Case("Blocked", "blocked", False, "True", "NotConnected", None, None, None),
    Case("OnModeration", "onModeration", True, "False", "OnModeration", None, R, S),
    Case("OnModeration", "onModeration", False, "False", "StillActive", TURN_OFF, R, S),
    Case("Rejected", "rejected", True, "False", "Rejected", "support", S, S),
    Case("Rejected", "rejected", False, "True", "NotConnected", None, None, None),
    Case("NotAdded", NOT_ADDED, True, "False", "NotAdded", "Add the number", R, S),
    Case("NotAdded", NOT_ADDED, False, "True", "NotConnected", None, None, None),
    Case("Unknown", IN_DOUBT, True, "Unknown", "Unknown", None, R, S),
    Case("Unknown", IN_DOUBT, False, "Unknown", "Unknown", None, R, S),
]
ALL_STATES = {
    *("Active", "WaitAMinute", "Off", "NotPaidFor", "ScanQRCode", "EnableHere"),
    *("NoConnectionWithPhone", "SomethingWentWrong", "WrongPhone", "NotAuthorized"),
    *("PasswordRequired", "Blocked", "OnModeration", "Rejected", "NotAdded", "Unknown"),
}

each_case = pytest.mark.parametrize("case", [pytest.param(each, id=each.name) for each in ROWS])


def _sight(case):
    if case.upstream == NOT_ADDED:
        return listed()
    if case.upstream == IN_DOUBT:
        return listed(doubtful_numbers=[("whatsapp", "79865784457")])
    return listed(row("a", case.upstream))


def _check(status, case):
    assert status.state == case.state
    assert ready(status) == (case.ready, case.reason)
    assert (status.action is None) == (case.words is None)
    if case.words:
        assert case.words in status.action.summary
        assert case.words in condition(status, "Ready").message
        assert status.action.url in {None, "https://app.wazzup24.com"}
    if case.upstream not in {NOT_ADDED, IN_DOUBT}:
        assert status.upstream_state == case.upstream
        assert (status.channel_id, status.plain_id) == ("a", "79865784457")


def test_the_rows_are_all_there():
    assert len(ROWS) == 32
    assert {(each.state, each.active) for each in ROWS} == {
        (state, active) for state in ALL_STATES for active in (True, False)
    }


@each_case
def test_a_new_object_and_its_next_passes(case):
    world = World(channel(active=case.active))
    sight = _sight(case)

    world.step(sight, at(0))
    _check(world.status(), case)
    assert progress(world.status()) == case.first
    assert world.status().observed_generation == 1
    assert world.status().state_since == at(0)

    assert not world.step(sight, at(1)).statuses
    assert not world.step(sight, at(14.9)).statuses

    world.step(sight, at(15))
    _check(world.status(), case)
    assert progress(world.status()) == case.later
    assert world.status().state_since == at(0)
    assert not world.step(sight, at(600)).statuses


@each_case
def test_one_status_alone(case):
    special = {NOT_ADDED: NotListed(), IN_DOUBT: Held()}
    finding = special.get(case.upstream) or Found(row("a", case.upstream))
    result = next_status(channel(active=case.active), finding, at(0), DEADLINE)
    _check(result, case)
    assert progress(result) == case.first


@each_case
def test_coming_from_active(case):
    world = World(channel(active=case.active))
    world.step(listed(row("a", "active")), at(0))
    world.step(_sight(case), at(1))
    if case.upstream == IN_DOUBT:
        assert world.status().state == "Active"  # in doubt, it keeps its state
        return
    _check(world.status(), case)
    assert world.status().state_since == (at(0) if case.state == "Active" else at(1))


@each_case
def test_declared_the_other_way(case):
    world = World(channel(active=not case.active))
    world.step(_sight(case), at(0))
    world.edit(active=case.active)
    world.step(_sight(case), at(1))
    _check(world.status(), case)
    assert world.status().observed_generation == 2
    assert world.status().state_since == at(0)


@pytest.mark.parametrize(
    ("upstream", "state"),
    [
        ("active", "Active"),
        ("ACTIVE", "Active"),
        ("init", "WaitAMinute"),
        ("disabled", "Off"),
        ("Disabled", "Off"),
        ("notEnoughMoney", "NotPaidFor"),
        ("notenoughmoney", "NotPaidFor"),
        ("qr", "ScanQRCode"),
        ("QR", "ScanQRCode"),
        ("qridle", "ScanQRCode"),
        ("qrIdle", "ScanQRCode"),
        ("openElsewhere", "EnableHere"),
        ("openelsewhere", "EnableHere"),
        ("phoneUnavailable", "NoConnectionWithPhone"),
        ("phoneunavailable", "NoConnectionWithPhone"),
        ("foreignphone", "WrongPhone"),
        ("foreignPhone", "WrongPhone"),
        ("unauthorized", "NotAuthorized"),
        ("waitForPassword", "PasswordRequired"),
        ("waitforpassword", "PasswordRequired"),
        ("waitForCode", "PasswordRequired"),
        ("blocked", "Blocked"),
        ("onModeration", "OnModeration"),
        ("onmoderation", "OnModeration"),
        ("rejected", "Rejected"),
        ("", "SomethingWentWrong"),
        ("banned", "SomethingWentWrong"),
        ("NotAdded", "SomethingWentWrong"),
        ("Unknown", "SomethingWentWrong"),
        ("active ", "SomethingWentWrong"),
    ],
)
def test_spellings_of_api_states(upstream, state):
    assert from_upstream(upstream) == state
    world = World(channel())
    world.step(listed(row("a", upstream)), at(0))
    assert world.status().state == state
    assert world.status().upstream_state == upstream


@pytest.mark.parametrize(
    ("state", "active", "words"),
    [
        ("notEnoughMoney", True, "every message since then arrives afterwards"),
        ("openElsewhere", True, "the other place is then cut off"),
        ("phoneUnavailable", True, "about three minutes"),
        ("blocked", True, "channel id"),
        ("disabled", False, "off, as declared"),
        ("active", False, "declared off"),
    ],
)
def test_what_the_message_says(state, active, words):
    world = World(channel(active=active))
    world.step(listed(row("a", state)), at(0))
    assert words in condition(world.status(), "Ready").message


def test_table_and_crd_name_the_same_states():
    assert {state.value for state in State} == ALL_STATES
    assert {state.value for state in TABLE} == ALL_STATES
    path = Path(__file__).parents[2] / "crds" / "wazzupchannels.yaml"
    (version,) = yaml.safe_load(path.read_text())["spec"]["versions"]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    state = status["properties"]["state"]
    assert "enum" not in state
    listing = state["description"].partition(":")[2].partition(".")[0]
    assert set(listing.replace(" or ", ", ").replace(" ", "").split(",")) == ALL_STATES
