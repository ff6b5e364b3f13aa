"""A changed accountRef: only the new account counts."""

from dataclasses import replace

import pytest

from tests.unit.build import (
    GONE,
    PAUSED,
    World,
    account,
    at,
    channel,
    condition,
    listed,
    progress,
    ready,
    row,
    unlisted,
)
from wazzup_operator.reconcile.observation import Listed
from wazzup_operator.reconcile.trust import Missing, Trust
from wazzup_operator.resources.base import NamespacedName

FORMER, SECOND = NamespacedName("shop", "default"), NamespacedName("shop", "second")
SEEN = listed(row("a"))
NUMBER = channel().number


def moved(*objects, **spec):
    """Return a world whose object was Active in one account and now refers to another."""
    world = World(channel(display_name="Support"), account("second"), *objects)
    world.step(SEEN, at(0))
    world.step(listed(), at(0), SECOND)
    world.move("second", **spec)
    return world


def short(*rows):
    """Return a listing that lacks a channel with the object's number."""
    observation = listed(*rows)
    known = frozenset({*observation.listing.channels, "z"})
    return Listed(observation.listing, Trust(known, {"z": Missing(0.0, NUMBER)}))


def facts(status):
    """Return the state, the channel, Ready's status and reason, and Synced's."""
    synced = condition(status, "Synced")
    return (
        status.state,
        status.channel_id,
        status.plain_id,
        ready(status),
        (synced.status, synced.reason),
    )


NOTHING = ("Unknown", None, None)
PLAIN = "79865784457"
KEPT = ("Unknown", "a", PLAIN)


def trouble(reason):
    return (*KEPT, ("Unknown", reason), ("False", reason))


FRESH = ("True", "UpToDate")
OBSERVATIONS = {
    "another channel": (listed(row("b")), ("Active", "b", PLAIN, ("True", "Active"), FRESH)),
    "the same channel": (SEEN, ("Active", "a", PLAIN, ("True", "Active"), FRESH)),
    "another state": (
        listed(row("b", "qr")),
        ("ScanQRCode", "b", PLAIN, ("False", "ScanQRCode"), FRESH),
    ),
    "nothing": (listed(), ("NotAdded", None, None, ("False", "NotAdded"), FRESH)),
    "several": (
        listed(row("a"), row("b")),
        (*NOTHING, ("False", "AmbiguousChannel"), FRESH),
    ),
    "the old id ambiguous, another channel": (
        listed(row("b"), unconfirmed=["a"], ambiguous_ids=["a"]),
        ("Active", "b", PLAIN, ("True", "Active"), FRESH),
    ),
    "the old id unconfirmed, nothing": (
        listed(unconfirmed=["a"]),
        ("NotAdded", None, None, ("False", "NotAdded"), FRESH),
    ),
    "the number unconfirmed": (
        short(),
        (*KEPT, ("Unknown", "Unknown"), ("Unknown", "Unknown")),
    ),
    "the old id without a number": (
        listed(row("a", number=None)),
        ("NotAdded", None, None, ("False", "NotAdded"), FRESH),
    ),
    "an outage": (unlisted(), trouble("AccountUnreachable")),
    "a long outage": (unlisted(stale=True), trouble("AccountUnreachable")),
    "no Secret": (unlisted("SecretNotFound"), trouble("SecretNotFound")),
    "no account": (GONE, trouble("AccountNotFound")),
    "a pause": (None, ("Active", "a", PLAIN, ("Unknown", "Paused"), ("Unknown", "Paused"))),
}
NOTHING_LEARNED = {
    "the number unconfirmed",
    "an outage",
    "a long outage",
    "no Secret",
    "no account",
    "a pause",
}
SEVERAL = listed(row("a"), row("b"))


def furnish(world, observation):
    """Create the second account as the observation needs it."""
    if observation is GONE:
        del world.accounts[SECOND]
    if observation is None:
        world.put(account("second", annotations=PAUSED))


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_only_the_new_account_counts(name):
    observation, expected = OBSERVATIONS[name]
    world = moved()
    furnish(world, observation)
    world.step(observation, at(1), SECOND)
    status = world.status()
    assert facts(status) == expected
    assert status.account == ("default" if name in NOTHING_LEARNED else "second")
    assert status.observed_generation == 2
    assert not world.step(observation, at(2), SECOND).statuses


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_changing_it_back_undoes_the_move(name):
    observation, _ = OBSERVATIONS[name]
    world = moved()
    before = World(channel(display_name="Support"))
    before.step(SEEN, at(0))
    furnish(world, observation)
    world.step(observation, at(1), SECOND)
    world.move("default")
    world.step(SEEN, at(2))
    assert facts(world.status()) == facts(before.status())
    assert world.status().account == "default"
    if observation is not None and observation is not GONE:
        world.step(observation, at(2), SECOND)
        assert world.accounts[SECOND].status.channels.declared == 0
    assert not world.step(SEEN, at(3)).statuses


def test_changed_back_before_a_pass_it_keeps_its_record():
    world = moved()
    world.move("default")
    assert world.claimed(world.get()) == "a"
    world.step(listed(unconfirmed=["a"]), at(1))
    assert facts(world.status())[:3] == ("Active", "a", PLAIN)
    assert world.status().state_since == at(0)


@pytest.mark.parametrize("name", sorted(NOTHING_LEARNED))
def test_the_record_is_kept_until_the_new_account_is_listed(name):
    """Several channels have its number; only the record says which is the object's."""
    observation, _ = OBSERVATIONS[name]
    world = moved()
    furnish(world, observation)
    world.step(observation, at(1), SECOND)
    assert world.claimed(world.get()) is None
    assert world.get().recorded.channel_id is None
    assert world.get().recorded.state == "Unknown"
    assert world.get().recorded.conditions == world.status().conditions
    world.step(observation, at(2), SECOND)
    world.edit(display_name="Sales")
    world.step(observation, at(3), SECOND)
    world.move("third")
    world.step(GONE, at(4), NamespacedName("shop", "third"))
    assert world.status().account == "default"
    world.move("default")
    assert world.claimed(world.get()) == "a"
    world.step(SEVERAL, at(5))
    assert facts(world.status()) == ("Active", "a", PLAIN, ("True", "Active"), FRESH)


@pytest.mark.parametrize("name", sorted(OBSERVATIONS.keys() - NOTHING_LEARNED))
def test_a_listing_of_the_new_account_replaces_the_record(name):
    observation, _ = OBSERVATIONS[name]
    world = moved()
    world.step(unlisted(), at(1), SECOND)
    world.step(observation, at(2), SECOND)
    assert world.status().account == "second"
    world.move("default")
    world.step(SEVERAL, at(3))
    assert ready(world.status()) == ("False", "AmbiguousChannel")


@pytest.mark.parametrize("channel_id", [None, "a"])
def test_a_paused_object_keeps_everything_while_it_is_moved_and_moved_back(channel_id):
    world = World(channel(channel_id=channel_id), account("second"))
    world.step(SEEN, at(0))
    before = world.status()
    world.annotate(PAUSED)
    world.move("second")
    world.step(listed(row("b")), at(1), SECOND)
    conditions = world.status().conditions
    assert world.status() == replace(before, observed_generation=2, conditions=conditions)
    assert ready(world.status()) == ("Unknown", "Paused")
    assert world.claimed(world.get()) is None
    world.move("default")
    world.step(SEVERAL, at(2))
    assert world.claimed(world.get()) == "a"
    conditions = world.status().conditions
    assert world.status() == replace(before, observed_generation=3, conditions=conditions)
    world.annotate({})
    world.step(SEVERAL, at(3))
    assert facts(world.status()) == ("Active", "a", PLAIN, ("True", "Active"), FRESH)


def test_after_a_move_back_in_an_outage_nothing_mentions_the_other_account():
    world = moved()
    world.step(GONE, at(1), SECOND)
    world.move("default")
    world.step(unlisted(), at(2))
    assert facts(world.status()) == trouble("AccountUnreachable")
    assert world.status().account == "default"


def test_the_deadline_runs_on_while_the_new_account_cannot_be_listed():
    world = moved()
    world.step(unlisted(), at(1), SECOND)
    assert condition(world.status(), "Reconciling").last_transition_time == at(1)
    world.step(unlisted(), at(17), SECOND)
    assert progress(world.status()) == "Stalled"


def test_a_record_without_a_channel_is_written_once():
    world = World(channel(), account("second"))
    world.step(listed(), at(0))
    world.move("second")
    for minute in (1, 2):
        planned = world.step(unlisted(), at(minute), SECOND)
    assert not planned.statuses
    assert world.status().state_since == at(1)


def test_a_channel_of_the_former_account_is_unmanaged_in_the_new_one():
    """Both are keys of one Wazzup account, and the channel's row has lost its number."""
    world = moved()
    world.annotate(PAUSED)
    world.step(listed(row("a", number=None)), at(1), SECOND)
    assert [each.channel_id for each in world.accounts[SECOND].status.unmanaged] == ["a"]


@pytest.mark.parametrize(
    ("observation", "since"),
    [
        pytest.param(SEEN, at(0), id="two keys of one Wazzup account"),
        pytest.param(listed(row("b")), at(1), id="another channel"),
        pytest.param(listed(row("a", "qr")), at(1), id="another state"),
    ],
)
def test_state_since(observation, since):
    world = moved()
    world.step(observation, at(1), SECOND)
    assert world.status().state_since == since
    assert condition(world.status(), "Synced").last_transition_time == at(0)


def test_not_added_starts_over_in_the_other_account():
    world = World(channel(), account("second"))
    world.step(listed(), at(0))
    world.move("second")
    world.step(listed(), at(1), SECOND)
    assert world.status().state == "NotAdded"
    assert world.status().state_since == at(1)


def test_the_progress_deadline_restarts():
    world = World(channel(), account("second"))
    world.step(listed(), at(0))
    world.step(listed(), at(20))
    assert progress(world.status()) == "Stalled"
    world.move("second")
    world.step(listed(), at(21), SECOND)
    assert progress(world.status()) == "Reconciling"
    assert condition(world.status(), "Reconciling").last_transition_time == at(21)


def test_a_declared_id_may_stay_or_change():
    rows = listed(row("b"), row("c"))
    world = moved(channel_id="c")
    world.step(rows, at(1), SECOND)
    assert world.status().channel_id == "c"
    world = moved(channel_id="a")
    world.step(rows, at(1), SECOND)
    assert facts(world.status()) == ("NotAdded", None, None, ("False", "NotAdded"), FRESH)


def test_an_older_object_there_keeps_the_number():
    """Within an account the oldest object keeps the number, wherever it came from."""
    older = channel("older", account="second", created=-5)
    world = moved(older)
    world.step(listed(row("b")), at(1), SECOND)
    assert world.status("older").channel_id == "b"
    assert ready(world.status()) == ("False", "DuplicatePhoneNumber")
    world.move("default")
    world.step(SEEN, at(2))
    assert facts(world.status())[:3] == ("Active", "a", PLAIN)


def test_a_waiting_duplicate_gets_the_former_channel():
    """Two keys of one Wazzup account in two namespaces; the younger object waits."""
    far = NamespacedName("elsewhere", "default")
    waiting = channel("waiting", namespace="elsewhere", created=5)
    world = World(channel(), waiting, account("second"), account(namespace="elsewhere"))
    world.step(SEEN, at(0))
    world.step(SEEN, at(0), far)
    assert ready(world.status("waiting", "elsewhere")) == ("False", "DuplicatePhoneNumber")
    world.move("second")
    world.step(SEEN, at(1), far)
    assert facts(world.status("waiting", "elsewhere"))[:2] == ("Active", "a")
    world.step(unlisted(), at(1), SECOND)
    world.step(SEEN, at(2), far)
    assert facts(world.status("waiting", "elsewhere"))[:2] == ("Active", "a")
    world.move("default")
    world.step(SEEN, at(3))
    world.step(SEEN, at(3), far)
    assert facts(world.status())[:2] == ("Active", "a")
    assert ready(world.status("waiting", "elsewhere")) == ("False", "DuplicatePhoneNumber")


def test_both_accounts_count_right_after_one_pass():
    world = moved()
    world.step(SEEN, at(1))
    world.step(listed(row("b"), row("c", number="+79990001122")), at(1), SECOND)
    former, new = (world.accounts[key].status for key in (FORMER, SECOND))
    assert (former.channels.declared, former.channels.observed, former.channels.ready) == (0, 1, 0)
    assert [each.channel_id for each in former.unmanaged] == ["a"]
    assert (new.channels.declared, new.channels.observed, new.channels.ready) == (1, 2, 1)
    assert [each.channel_id for each in new.unmanaged] == ["c"]


def test_a_status_without_an_account_is_the_current_ones():
    """An older CRD prunes the field, and forbids a change of the account."""
    world = World(channel())
    world.step(SEEN, at(0))
    world.put(replace(world.get(), status=replace(world.status(), account=None)))
    world.step(listed(unconfirmed=["a"]), at(1))
    assert facts(world.status())[:3] == ("Active", "a", PLAIN)
