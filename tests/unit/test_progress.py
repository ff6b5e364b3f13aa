"""Reconciling first, Stalled later; when times move."""

from datetime import timedelta

import pytest

from tests.unit.build import (
    OTHER_PHONE,
    PAUSED,
    World,
    account,
    at,
    body,
    channel,
    condition,
    listed,
    progress,
    ready,
    row,
    unlisted,
)
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.codec import ACCOUNTS, CHANNELS


def seeing(state):
    return listed(row("a", state))


def stalled(**attributes):
    """Return a world in which the object has been Stalled since minute 15."""
    world = World(channel(**attributes))
    world.step(seeing("qr"), at(0))
    world.step(seeing("qr"), at(15))
    assert progress(world.status()) == "Stalled"
    return world


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        (0, "Reconciling"),
        (15 - 1 / 60, "Reconciling"),
        (15, "Stalled"),
        (10_000, "Stalled"),
    ],
)
def test_the_deadline(minutes, expected):
    world = World(channel())
    world.step(seeing("qr"), at(0))
    world.step(seeing("qr"), at(minutes))
    assert progress(world.status()) == expected


def test_the_plan_says_when_it_is_due():
    world = World(channel())
    assert world.step(seeing("qr"), at(0)).due == at(15)
    assert world.step(seeing("qr"), at(5)).due == at(15)
    assert world.step(seeing("qr"), at(15)).due is None
    assert world.step(seeing("active"), at(16)).due is None


def test_the_plan_is_due_for_the_first_of_several():
    world = World(channel())
    world.step(seeing("qr"), at(0))
    world.put(channel("young", OTHER_PHONE))
    assert world.step(seeing("qr"), at(3)).due == at(15)


@pytest.mark.parametrize(
    "states",
    [
        ["qr", "init", "qr", "phoneUnavailable"],
        ["phoneUnavailable", "notEnoughMoney", "disabled", "openElsewhere"],
        ["init", "onModeration", "melted", "waitForCode"],
    ],
)
def test_flapping_between_failures_does_not_restart_the_clock(states):
    world = World(channel())
    for minute in range(15):
        world.step(seeing(states[minute % len(states)]), at(minute))
        assert progress(world.status()) == "Reconciling"
    world.step(seeing(states[0]), at(15))
    assert progress(world.status()) == "Stalled"
    assert condition(world.status(), "Stalled").last_transition_time == at(15)


@pytest.mark.parametrize(
    "observation",
    [
        pytest.param(seeing("init"), id="WaitAMinute"),
        pytest.param(seeing("phoneUnavailable"), id="NoConnectionWithPhone"),
        pytest.param(seeing("onModeration"), id="OnModeration"),
        pytest.param(listed(), id="NotAdded"),
        pytest.param(listed(row("a", "qr"), unconfirmed=["a"]), id="unconfirmed"),
        pytest.param(unlisted(), id="outage"),
        pytest.param(unlisted(stale=True), id="long outage"),
        pytest.param(unlisted("SecretNotFound"), id="no secret"),
        pytest.param(unlisted("CredentialsInvalid", stale=True), id="wrong key"),
    ],
)
def test_stalled_stays(observation):
    world = stalled()
    for minute in (16, 17, 100):
        world.step(observation, at(minute))
        assert progress(world.status()) == "Stalled"
        assert condition(world.status(), "Stalled").last_transition_time == at(15)
        world.step(seeing("qr"), at(minute + 0.5))
        assert progress(world.status()) == "Stalled"


def test_an_outage_does_not_stop_the_clock():
    world = World(channel())
    world.step(seeing("qr"), at(0))
    world.step(unlisted(), at(5))
    world.step(unlisted(stale=True), at(12))
    assert progress(world.status()) == "Reconciling"
    world.step(unlisted(stale=True), at(15))
    assert progress(world.status()) == "Stalled"


def test_an_outage_of_a_working_channel_starts_the_clock_when_it_is_stale():
    world = World(channel())
    world.step(seeing("active"), at(0))
    assert not world.step(unlisted(), at(5)).statuses
    world.step(unlisted(stale=True), at(10))
    assert progress(world.status()) == "Reconciling"
    world.step(unlisted(stale=True), at(24.9))
    assert progress(world.status()) == "Reconciling"
    world.step(unlisted(stale=True), at(25))
    assert progress(world.status()) == "Stalled"


def test_ready_restarts_the_clock():
    world = stalled()
    world.step(seeing("active"), at(16))
    assert progress(world.status()) is None
    world.step(seeing("qr"), at(17))
    assert progress(world.status()) == "Reconciling"
    world.step(seeing("qr"), at(31.9))
    assert progress(world.status()) == "Reconciling"
    world.step(seeing("qr"), at(32))
    assert progress(world.status()) == "Stalled"


@pytest.mark.parametrize("before", ["Reconciling", "Stalled"])
def test_a_new_generation_restarts_the_clock(before):
    begun = 10 if before == "Reconciling" else 20
    world = World(channel())
    world.step(seeing("qr"), at(0))
    if before == "Stalled":
        world.step(seeing("qr"), at(15))
    world.edit(display_name="Sales")
    world.step(seeing("qr"), at(begun))
    assert progress(world.status()) == "Reconciling"
    world.step(seeing("qr"), at(begun + 14.9))
    assert progress(world.status()) == "Reconciling"
    world.step(seeing("qr"), at(begun + 15))
    assert progress(world.status()) == "Stalled"


def test_a_new_generation_in_an_outage_restarts_the_clock():
    world = stalled()
    world.edit(active=False)
    world.step(unlisted(), at(20))
    assert progress(world.status()) == "Reconciling"
    assert world.status().action is None, "what the former spec asked for"
    world.step(unlisted(), at(35))
    assert progress(world.status()) == "Stalled"


def test_the_end_of_a_pause_restarts_the_clock():
    world = stalled()
    world.annotate(PAUSED)
    world.step(seeing("qr"), at(20))
    assert progress(world.status()) is None
    world.step(seeing("qr"), at(500))
    assert progress(world.status()) is None
    world.annotate({})
    world.step(seeing("qr"), at(600))
    assert progress(world.status()) == "Reconciling"
    world.step(seeing("qr"), at(615))
    assert progress(world.status()) == "Stalled"


def test_a_channel_just_turned_on_has_time_to_be_scanned():
    world = World(channel(active=False))
    world.step(seeing("qr"), at(0))
    assert progress(world.status()) is None
    world.edit(active=True)
    world.step(seeing("qr"), at(60))
    assert progress(world.status()) == "Reconciling"


AT_ONCE = [
    pytest.param([channel()], seeing("blocked"), "Blocked", id="Blocked"),
    pytest.param(
        [channel("older"), channel(created=1)],
        seeing("active"),
        "DuplicatePhoneNumber",
        id="DuplicatePhoneNumber",
    ),
    pytest.param(
        [channel("older"), channel(created=1, annotations={"wazzup.dev/replaces": "another"})],
        seeing("active"),
        "DuplicatePhoneNumber",
        id="DuplicatePhoneNumber that replaces another object",
    ),
    pytest.param(
        [channel()], listed(row("a"), row("b")), "AmbiguousChannel", id="AmbiguousChannel"
    ),
    pytest.param(
        [channel(channel_id="a")],
        listed(row("a", number=OTHER_PHONE)),
        "ChannelMismatch",
        id="ChannelMismatch",
    ),
]


@pytest.mark.parametrize(("objects", "observation", "reason"), AT_ONCE)
def test_stalled_at_once(objects, observation, reason):
    world = World(*objects)
    world.step(observation, at(0))
    assert ready(world.status()) == ("False", reason)
    assert progress(world.status()) == "Stalled"


@pytest.mark.parametrize(("objects", "observation", "reason"), AT_ONCE)
def test_reconciling_becomes_stalled_at_once(objects, observation, reason):
    world = World(objects[-1])
    world.step(listed(), at(0))
    assert progress(world.status()) == "Reconciling"
    world.put(*objects[:-1])
    world.step(observation, at(1))
    assert ready(world.status()) == ("False", reason)
    assert progress(world.status()) == "Stalled"
    assert condition(world.status(), "Stalled").last_transition_time == at(1)


def test_permanent_failure_stays_stalled_in_a_better_state():
    world = World(channel())
    world.step(seeing("blocked"), at(0))
    world.step(seeing("qr"), at(1))
    assert ready(world.status()) == ("False", "ScanQRCode")
    assert progress(world.status()) == "Stalled"


def test_permanent_failure_is_stalled_after_a_new_generation_too():
    world = World(channel())
    world.step(seeing("blocked"), at(0))
    world.edit(display_name="Sales")
    world.step(seeing("blocked"), at(1))
    assert progress(world.status()) == "Stalled"
    assert condition(world.status(), "Stalled").last_transition_time == at(0)


def test_a_rename_in_git_waits_for_the_deadline():
    annotations = {"wazzup.dev/replaces": "old-name"}
    world = World(channel("old-name"), channel(created=1, annotations=annotations))
    world.step(seeing("active"), at(0))
    assert ready(world.status()) == ("False", "DuplicatePhoneNumber")
    assert progress(world.status()) == "Reconciling"
    world.step(seeing("active"), at(15))
    assert progress(world.status()) == "Stalled"
    world.remove("old-name")
    world.step(seeing("active"), at(16))
    assert ready(world.status()) == ("True", "Active")
    assert progress(world.status()) is None


def test_times_move_only_when_a_status_flips():
    world = World(channel())
    world.step(seeing("qr"), at(0))
    world.step(seeing("notEnoughMoney"), at(1))
    world.edit(display_name="Sales")
    world.step(seeing("init"), at(2))
    for type_, since in (("Ready", at(0)), ("Synced", at(0))):
        assert condition(world.status(), type_).last_transition_time == since
        assert condition(world.status(), type_).observed_generation == 2
    world.step(seeing("active"), at(3))
    assert condition(world.status(), "Ready").last_transition_time == at(3)
    assert condition(world.status(), "Synced").last_transition_time == at(0)
    world.step(unlisted(), at(4))
    assert condition(world.status(), "Ready").last_transition_time == at(3)
    world.step(unlisted(stale=True), at(20))
    assert condition(world.status(), "Ready").last_transition_time == at(20)
    assert condition(world.status(), "Synced").last_transition_time == at(20)
    world.step(seeing("active"), at(21))
    assert condition(world.status(), "Ready").last_transition_time == at(21)
    assert condition(world.status(), "Synced").last_transition_time == at(21)


def test_the_time_of_stalled_is_its_own():
    world = stalled()
    world.step(seeing("notEnoughMoney"), at(40))
    assert condition(world.status(), "Stalled").last_transition_time == at(15)
    assert condition(world.status(), "Stalled").reason == "NotPaidFor"


@pytest.mark.parametrize("state", ["qr", "active", "blocked"])
def test_a_clock_set_back_changes_nothing(state):
    world = World(channel())
    world.step(seeing(state), at(0))
    before = world.status()
    for minutes in (-1, -60, -60 * 24 * 365):
        assert not world.step(seeing(state), at(minutes)).statuses
    assert world.status() == before


def test_a_clock_set_back_does_not_undo_stalled():
    world = stalled()
    world.step(seeing("init"), at(-1000))
    assert progress(world.status()) == "Stalled"
    assert condition(world.status(), "Stalled").last_transition_time == at(15)


def test_accounts_follow_the_same_rules():
    world = World()
    key = NamespacedName("shop", "default")
    world.step(unlisted("SecretNotFound"), at(0))
    assert ready(world.accounts[key].status) == ("False", "SecretNotFound")
    assert progress(world.accounts[key].status) == "Reconciling"
    assert world.step(unlisted("CredentialsInvalid"), at(14)).due == at(15)
    assert progress(world.accounts[key].status) == "Reconciling"
    world.step(unlisted("CredentialsInvalid"), at(0) + timedelta(minutes=15))
    assert progress(world.accounts[key].status) == "Stalled"
    world.step(listed(), at(16))
    assert ready(world.accounts[key].status) == ("True", "UpToDate")
    assert progress(world.accounts[key].status) is None


@pytest.mark.parametrize(
    "time",
    [
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
    ],
)
def test_a_time_that_somebody_else_wrote_cannot_overflow(time):
    world = World(channel())
    world.step(seeing("qr"), at(0))
    status = CHANNELS.status_json(world.status())
    conditions = [{**each, "lastTransitionTime": time} for each in status["conditions"]]
    status |= {"conditions": conditions, "stateSince": time}
    world.put(CHANNELS.decode({**body(channel()), "status": status}))
    planned = world.step(seeing("qr"), at(1))
    assert not planned.failed
    world.step(seeing("active"), at(2))
    assert ready(world.status()) == ("True", "Active")
    assert condition(world.status(), "Ready").last_transition_time == at(2)


def test_a_time_of_an_account_cannot_overflow():
    world = World()
    world.step(unlisted("SecretNotFound"), at(0))
    status = ACCOUNTS.status_json(world.accounts["shop", "default"].status)
    status["conditions"] = [
        {**each, "lastTransitionTime": "9999-12-31T23:59:59Z"} for each in status["conditions"]
    ]
    status["lastSyncTime"] = "9999-12-31T23:59:59Z"
    world.put(ACCOUNTS.decode({**body(account()), "status": status}))
    world.step(unlisted("CredentialsInvalid"), at(1))
    assert ready(world.accounts["shop", "default"].status) == ("False", "CredentialsInvalid")
