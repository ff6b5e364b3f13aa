"""Which changes of a status are told as an Event, and which are not."""

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


def told(observations):
    """Return what the last of these observations leads to, for the channel and for the account."""
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
        pytest.param([ACTIVE], NOTHING, id="well from the beginning"),
        pytest.param([SCAN], (WARNING, "ScanQRCode"), id="not well from the beginning"),
        pytest.param([ACTIVE, SCAN], (WARNING, "ScanQRCode"), id="breaks"),
        pytest.param([SCAN, ACTIVE], (NORMAL, "Active"), id="is mended"),
        pytest.param([SCAN, PAY], (WARNING, "NotPaidFor"), id="another trouble"),
        pytest.param([SCAN, SCAN], NOTHING, id="the same trouble"),
        pytest.param([ACTIVE, ACTIVE], NOTHING, id="still well"),
        pytest.param(
            [SCAN, listed(row("a", "qridle"))], NOTHING, id="another spelling of the same trouble"
        ),
        pytest.param([ACTIVE, OUTAGE], NOTHING, id="a short outage"),
        pytest.param([ACTIVE, STALE], NOTHING, id="a long outage is the account's"),
        pytest.param([OUTAGE], NOTHING, id="an outage from the beginning"),
        pytest.param([ACTIVE, STALE, ACTIVE], NOTHING, id="well again after an outage"),
        pytest.param([ACTIVE, STALE, SCAN], (WARNING, "ScanQRCode"), id="broken after an outage"),
        pytest.param(
            [listed(ambiguous_numbers=[("whatsapp", "79865784457")])], NOTHING, id="nothing known"
        ),
        pytest.param(
            [ACTIVE, listed(row("b"), row("c"))], (WARNING, "AmbiguousChannel"), id="ambiguous"
        ),
    ],
)
def test_of_a_channel(observations, expected):
    transition, _ = told(observations)
    assert (transition and (transition.type, transition.reason)) == expected


@pytest.mark.parametrize(
    ("observations", "expected"),
    [
        pytest.param([ACTIVE], NOTHING, id="well from the beginning"),
        pytest.param([OUTAGE], (WARNING, "AccountUnreachable"), id="an outage from the beginning"),
        pytest.param([ACTIVE, OUTAGE], (WARNING, "AccountUnreachable"), id="an outage"),
        pytest.param([ACTIVE, OUTAGE, OUTAGE], NOTHING, id="the outage goes on"),
        pytest.param([ACTIVE, OUTAGE, STALE], NOTHING, id="the outage goes on for long"),
        pytest.param([OUTAGE, ACTIVE], (NORMAL, "UpToDate"), id="the outage ends"),
        pytest.param(
            [OUTAGE, unlisted("CredentialsInvalid")], (WARNING, "CredentialsInvalid"), id="another"
        ),
        pytest.param([ACTIVE, SCAN], NOTHING, id="a channel's trouble"),
    ],
)
def test_of_an_account(observations, expected):
    _, transition = told(observations)
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
    world.step(SCAN, at(0))
    transition = channel_transition(ChannelStatus(), world.status())
    assert transition
    assert transition.note == condition(world.status(), "Ready").message


def test_a_stalled_channel_is_not_told_again():
    world = World(channel())
    world.step(SCAN, at(0))
    before = world.status()
    world.step(SCAN, at(15))
    assert world.status() != before
    assert channel_transition(before, world.status()) is None


def test_nothing_from_nothing():
    assert channel_transition(ChannelStatus(), ChannelStatus()) is None
    assert account_transition(AccountStatus(), AccountStatus()) is None
