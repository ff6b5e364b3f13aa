"""A channel missing from a listing is gone after the second one."""

import pytest

from tests.unit.build import ACCOUNT, OTHER_PHONE, World, at, channel, ready, row, unlisted
from wazzup_operator.domain.listing import Listing
from wazzup_operator.reconcile.observation import Listed
from wazzup_operator.reconcile.trust import Trust, weigh
from wazzup_operator.resources.channel import ChannelStatus


@pytest.mark.parametrize(
    ("known", "unconfirmed", "listing", "known_then", "unconfirmed_then"),
    [
        pytest.param("", "", "", "", "", id="empty"),
        pytest.param("", "", "ab", "ab", "", id="new ones are known"),
        pytest.param("ab", "", "ab", "ab", "", id="all are listed"),
        pytest.param("ab", "", "a", "ab", "b", id="missing once"),
        pytest.param("ab", "b", "a", "a", "", id="missing twice"),
        pytest.param("ab", "b", "ab", "ab", "", id="it came back"),
        pytest.param("ab", "", "", "ab", "ab", id="an empty listing"),
        pytest.param("ab", "ab", "", "", "", id="a second empty listing"),
        pytest.param("abc", "b", "a", "ac", "c", id="one gone, one newly missing"),
        pytest.param("a", "", "b", "ab", "a", id="one instead of another"),
    ],
)
def test_weigh(known, unconfirmed, listing, known_then, unconfirmed_then):
    result = weigh(
        Trust(frozenset(known), frozenset(unconfirmed)), Listing.of(row(each) for each in listing)
    )
    assert result == Trust(frozenset(known_then), frozenset(unconfirmed_then))


def test_an_ambiguous_row_is_not_missing():
    result = weigh(Trust(frozenset("ab")), Listing.of([row("a")], ambiguous_ids=["b"]))
    assert result == Trust(frozenset("ab"))


class Listings:
    """The trust of one process over a series of listings."""

    def __init__(self, *recorded):
        self.trust = Trust(frozenset(recorded))

    def next(self, *rows):
        listing = Listing.of(rows)
        self.trust = weigh(self.trust, listing)
        return Listed(listing, self.trust)


@pytest.mark.parametrize("declared", [None, "a"], ids=["by number", "by id"])
def test_missing_once_keeps_the_state_and_twice_is_not_added(declared):
    world, listings = World(channel(channel_id=declared)), Listings()
    world.step(listings.next(row("a")), at(0))
    before = world.status()

    assert not world.step(listings.next(), at(1)).statuses
    assert world.status() == before

    world.step(listings.next(), at(2))
    assert ready(world.status()) == ("False", "NotAdded")
    assert world.status().state == "NotAdded"
    assert world.status().channel_id is None
    assert world.status().upstream_state is None
    assert world.status().state_since == at(2)


def test_missing_every_other_time_is_never_gone():
    world, listings = World(channel()), Listings()
    world.step(listings.next(row("a")), at(0))
    for minute in range(1, 20, 2):
        assert not world.step(listings.next(), at(minute)).statuses
        assert not world.step(listings.next(row("a")), at(minute + 1)).statuses


def test_a_failure_between_two_listings_does_not_count():
    world, listings = World(channel()), Listings()
    world.step(listings.next(row("a")), at(0))
    world.step(listings.next(), at(1))
    assert not world.step(unlisted(), at(2)).statuses
    assert not world.step(listings.next(row("a")), at(3)).statuses


def test_the_first_listing_is_compared_with_the_statuses():
    status = ChannelStatus(state="Active", channel_id="a", observed_generation=1)
    world, listings = World(channel(status=status)), Listings("a")
    world.step(listings.next(), at(0))
    assert world.status().state == "Active"
    assert world.status().channel_id == "a"
    world.step(listings.next(), at(1))
    assert world.status().state == "NotAdded"


def test_a_channel_never_seen_is_not_added_at_once():
    world, listings = World(channel()), Listings()
    world.step(listings.next(row("b", number=OTHER_PHONE)), at(0))
    assert world.status().state == "NotAdded"


def test_one_empty_listing_changes_nothing():
    world, listings = World(channel(), channel("other", OTHER_PHONE)), Listings()
    world.step(listings.next(row("a"), row("b", "qr", OTHER_PHONE), row("c", number="1")), at(0))
    before = world.accounts[ACCOUNT].status
    planned = world.step(listings.next(), at(1))
    assert not planned.statuses
    assert planned.account_status is None
    assert world.accounts[ACCOUNT].status == before
    world.step(listings.next(), at(2))
    assert world.status().state == world.status("other").state == "NotAdded"
    counts = world.accounts[ACCOUNT].status.channels
    assert (counts.declared, counts.observed, counts.ready) == (2, 0, 0)
    assert world.accounts[ACCOUNT].status.unmanaged == ()


def test_an_object_whose_channel_is_missing_does_not_take_another_yet():
    world, listings = World(channel()), Listings()
    world.step(listings.next(row("a")), at(0))
    assert not world.step(listings.next(row("b", "qr")), at(1)).statuses
    world.step(listings.next(row("b", "qr")), at(2))
    assert (world.status().channel_id, world.status().state) == ("b", "ScanQRCode")
