"""Which changes of a status are reported as an Event."""

import pytest

from tests.unit.build import ACCOUNT, World, at, channel, condition, listed, row, unlisted
from wazzup_operator.reconcile.transitions import account_transition, channel_transition
from wazzup_operator.resources.account import AccountStatus
from wazzup_operator.resources.channel import ChannelStatus

ACTIVE = listed(row("a"))
SCAN = listed(row("a", "qr"))
PAY = listed(row("a", "notEnoughMoney"))
OUTAGE = unlisted()
STALE = unlisted(stale=True)
WARNING, NORMAL, NOTHING = "Warning", "Normal", None


def reported(observations):
    """Return the last observation's Events for the channel and for the account."""
    world = World(channel())
    outcome = NOTHING, NOTHING
    for minute, observation in enumerate(observations):
        old, old_account = world.status(), world.accounts[ACCOUNT].status
        world.step(observation, at(minute))
        outcome = (
            channel_transition(old, world.status()),
            account_transition(old_account, world.accounts[ACCOUNT].status),
        )
    return outcome


@pytest.mark.parametrize(
    ("observations", "expected"),
    [
        pytest.param([ACTIVE], NOTHING, id="working from the start"),
        pytest.param([SCAN], (WARNING, "ScanQRCode"), id="broken from the start"),
        pytest.param([ACTIVE, SCAN], (WARNING, "ScanQRCode"), id="breaks"),
        pytest.param([SCAN, ACTIVE], (NORMAL, "Active"), id="recovers"),
        pytest.param([SCAN, PAY], (WARNING, "NotPaidFor"), id="another trouble"),
        pytest.param([SCAN, SCAN], NOTHING, id="the same trouble"),
        pytest.param([ACTIVE, ACTIVE], NOTHING, id="still working"),
        pytest.param(
            [SCAN, listed(row("a", "qridle"))], NOTHING, id="another spelling of the same trouble"
        ),
        pytest.param([ACTIVE, OUTAGE], NOTHING, id="a short outage"),
        pytest.param([ACTIVE, STALE], NOTHING, id="a long outage is the account's"),
        pytest.param([OUTAGE], NOTHING, id="an outage from the start"),
        pytest.param([ACTIVE, STALE, ACTIVE], NOTHING, id="working after an outage"),
        pytest.param([ACTIVE, STALE, SCAN], (WARNING, "ScanQRCode"), id="broken after an outage"),
        pytest.param(
            [listed(ambiguous_numbers=[("whatsapp", "79865784457")])], NOTHING, id="inconclusive"
        ),
        pytest.param(
            [ACTIVE, listed(row("b"), row("c"))], (WARNING, "AmbiguousChannel"), id="ambiguous"
        ),
    ],
)
def test_of_a_channel(observations, expected):
    transition, _ = reported(observations)
    assert (transition and (transition.type, transition.reason)) == expected


@pytest.mark.parametrize(
    ("observations", "expected"),
    [
        pytest.param([ACTIVE], NOTHING, id="working from the start"),
        pytest.param([OUTAGE], (WARNING, "AccountUnreachable"), id="an outage from the start"),
        pytest.param([ACTIVE, OUTAGE], (WARNING, "AccountUnreachable"), id="an outage"),
        pytest.param([ACTIVE, OUTAGE, OUTAGE], NOTHING, id="the outage continues"),
        pytest.param([ACTIVE, OUTAGE, STALE], NOTHING, id="the outage turns stale"),
        pytest.param([OUTAGE, ACTIVE], (NORMAL, "UpToDate"), id="the outage ends"),
        pytest.param(
            [OUTAGE, unlisted("CredentialsInvalid")], (WARNING, "CredentialsInvalid"), id="another"
        ),
        pytest.param([ACTIVE, SCAN], NOTHING, id="a channel's trouble"),
    ],
)
def test_of_an_account(observations, expected):
    _, transition = reported(observations)
    assert (transition and (transition.type, transition.reason)) == expected


def test_a_pause_and_its_end():
    world = World(channel())
    world.step(SCAN, at(0))
    seen = world.status()
    world.annotate({"wazzup.dev/paused": "true"})
    world.step(SCAN, at(1))
    transition = channel_transition(seen, world.status())
    assert transition
    assert (transition.type, transition.reason) == (NORMAL, "Paused")
    paused = world.status()
    world.annotate({})
    world.step(SCAN, at(2))
    transition = channel_transition(paused, world.status())
    assert transition
    assert (transition.type, transition.reason) == (WARNING, "ScanQRCode")


def test_the_note_is_the_message():
    world = World(channel())
    world.step(listed(), at(0))
    before = world.status()
    world.step(SCAN, at(1))
    transition = channel_transition(before, world.status())
    assert transition
    assert transition.note == condition(world.status(), "Ready").message


def test_a_stalled_channel_is_not_reported_again():
    world = World(channel())
    world.step(SCAN, at(0))
    before = world.status()
    world.step(SCAN, at(15))
    assert world.status() != before
    assert channel_transition(before, world.status()) is None


def test_empty_statuses_report_nothing():
    assert channel_transition(ChannelStatus(), ChannelStatus()) is None
    assert account_transition(AccountStatus(), AccountStatus()) is None


def test_another_channel_is_reported_with_both_ids():
    world = World(channel())
    world.step(listed(row("a", "qridle")), at(0))
    before = world.status()
    world.step(listed(row("a", "qridle"), row("b")), at(1))
    transition = channel_transition(before, world.status())
    assert (transition.type, transition.reason) == ("Normal", "Active")
    assert transition.note.endswith("The number has another channel in Wazzup: b instead of a.")


def test_another_channel_is_reported_although_ready_stays():
    world = World(channel())
    world.step(listed(row("a")), at(0))
    before = world.status()
    world.step(listed(row("b"), unconfirmed=["a"]), at(1))
    assert world.status().channel_id == "b"
    transition = channel_transition(before, world.status())
    assert (transition.type, transition.reason) == (NORMAL, "Active")
    assert transition.note.endswith(" The number has another channel in Wazzup: b instead of a.")
