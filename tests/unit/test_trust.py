"""A channel missing from listings is gone after 60 s."""

import pytest

from tests.unit.build import ACCOUNT, OTHER_PHONE, World, at, channel, ready, row, unlisted
from wazzup_operator.domain.listing import EMPTY, Listing
from wazzup_operator.reconcile.observation import Listed
from wazzup_operator.reconcile.trust import Trust, weigh
from wazzup_operator.resources.channel import ChannelStatus


class Listings:
    """The trust of one process over a series of listings."""

    def __init__(self, *recorded):
        self.trust, self.shown = Trust(frozenset(recorded)), EMPTY

    def at(self, seconds, *rows, ambiguous_ids=()):
        """Return the listing that comes at this time, as a pass sees it."""
        listing = Listing.of(rows, ambiguous_ids)
        self.trust = weigh(self.trust, listing, seconds, self.shown)
        self.shown = listing
        return Listed(listing, self.trust)


@pytest.mark.parametrize(
    ("listings", "known", "unconfirmed"),
    [
        pytest.param([(0, "")], "", "", id="nothing"),
        pytest.param([(0, "ab")], "ab", "", id="all are listed"),
        pytest.param([(0, "ab"), (10, "a")], "ab", "b", id="missing once"),
        pytest.param([(0, "ab"), (10, "a"), (69, "a")], "ab", "b", id="missing for 59 s"),
        pytest.param([(0, "ab"), (10, "a"), (70, "a")], "a", "", id="missing for 60 s"),
        pytest.param([(0, "ab"), (3600, "a")], "ab", "b", id="the second listing after an hour"),
        pytest.param([(0, "ab"), (10, "a"), (20, "ab")], "ab", "", id="it came back"),
        pytest.param(
            [(0, "ab"), (10, "a"), (60, "ab"), (70, "a")], "ab", "b", id="missing with a break"
        ),
        pytest.param([(0, "ab"), (10, ""), (70, "b")], "b", "", id="one of two is gone"),
        pytest.param(
            [(0, "abc"), (10, "ac"), (70, "a")], "ac", "c", id="one gone, one newly missing"
        ),
    ],
)
def test_weigh(listings, known, unconfirmed):
    history = Listings()
    for seconds, ids in listings:
        history.at(seconds, *map(row, ids))
    assert (history.trust.known, set(history.trust.missing)) == (set(known), set(unconfirmed))


def test_an_ambiguous_row_is_not_missing():
    listings = Listings("a", "b")
    listings.at(0, row("a"), ambiguous_ids=["b"])
    assert not listings.trust.missing


def test_the_number_of_a_missing_channel_is_remembered():
    listings = Listings("recorded")
    listings.at(0, row("a"), row("b", number=None))
    for seconds in (10, 20, 30):
        listings.at(seconds)
        assert listings.trust.numbers == {row("a").number}


@pytest.mark.parametrize("declared", [None, "a"], ids=["by number", "by id"])
def test_it_keeps_its_state_for_60_s_and_is_not_added_then(declared):
    world, listings = World(channel(channel_id=declared)), Listings()
    world.step(listings.at(0, row("a")), at(0))
    before = world.status()
    for seconds in (10, 20, 30, 40, 50, 60, 69):
        assert not world.step(listings.at(seconds), at(seconds / 60)).statuses
    assert world.status() == before

    world.step(listings.at(70), at(2))
    assert ready(world.status()) == ("False", "NotAdded")
    assert world.status().state == "NotAdded"
    assert world.status().channel_id is None
    assert world.status().upstream_state is None
    assert world.status().state_since == at(2)


def test_missing_every_other_time_is_never_gone():
    world, listings = World(channel()), Listings()
    world.step(listings.at(0, row("a")), at(0))
    for minute in range(1, 20, 2):
        assert not world.step(listings.at(60 * minute), at(minute)).statuses
        assert not world.step(listings.at(60 * minute + 60, row("a")), at(minute + 1)).statuses


def test_a_failure_between_two_listings_does_not_count():
    world, listings = World(channel()), Listings()
    world.step(listings.at(0, row("a")), at(0))
    world.step(listings.at(60), at(1))
    assert not world.step(unlisted(), at(2)).statuses
    assert not world.step(listings.at(180, row("a")), at(3)).statuses


def test_the_first_listing_is_compared_with_the_statuses():
    status = ChannelStatus(state="Active", channel_id="a", observed_generation=1)
    world, listings = World(channel(status=status)), Listings("a")
    world.step(listings.at(0), at(0))
    assert world.status().state == "Active"
    assert world.status().channel_id == "a"
    world.step(listings.at(60), at(1))
    assert world.status().state == "NotAdded"


def test_a_channel_never_seen_is_not_added_at_once():
    world, listings = World(channel()), Listings()
    world.step(listings.at(0, row("b", number=OTHER_PHONE)), at(0))
    assert world.status().state == "NotAdded"


def test_empty_listings_change_nothing_for_60_s():
    world, listings = World(channel(), channel("other", OTHER_PHONE)), Listings()
    rows = row("a"), row("b", "qr", OTHER_PHONE), row("c", number="1")
    world.step(listings.at(0, *rows), at(0))
    before = world.accounts[ACCOUNT].status
    for seconds in (10, 69):
        planned = world.step(listings.at(seconds), at(1))
        assert not planned.statuses
        assert planned.account_status is None
    assert world.accounts[ACCOUNT].status == before
    world.step(listings.at(70), at(2))
    assert world.status().state == world.status("other").state == "NotAdded"
    counts = world.accounts[ACCOUNT].status.channels
    assert (counts.declared, counts.observed, counts.ready) == (2, 0, 0)
    assert world.accounts[ACCOUNT].status.unmanaged == ()


def test_an_object_whose_channel_is_missing_does_not_take_another_yet():
    world, listings = World(channel()), Listings()
    world.step(listings.at(0, row("a")), at(0))
    assert not world.step(listings.at(10, row("b", "qr")), at(1)).statuses
    world.step(listings.at(70, row("b", "qr")), at(2))
    assert (world.status().channel_id, world.status().state) == ("b", "ScanQRCode")


def test_an_object_follows_its_channel_while_another_of_the_number_is_missing():
    world, listings = World(channel()), Listings()
    world.step(listings.at(0, row("a")), at(0))
    world.step(listings.at(10, row("a"), row("b", "qr")), at(1))
    world.step(listings.at(20, row("a", "openElsewhere")), at(2))
    assert (world.status().channel_id, world.status().state) == ("a", "EnableHere")


def test_an_object_whose_channel_is_missing_takes_an_active_one_at_once():
    world, listings = World(channel()), Listings()
    world.step(listings.at(0, row("a")), at(0))
    world.step(listings.at(10, row("b")), at(1))
    assert (world.status().channel_id, world.status().state) == ("b", "Active")
