"""AccountMemory: when to list, and when a listing is stale."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.build import NOW, account, row, settings
from wazzup_operator.controller.memory import AccountMemory
from wazzup_operator.domain.listing import Listing
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.reconcile.observation import Listed, Trouble, Unlisted
from wazzup_operator.resources.account import AccountStatus

ONE = Listing.of([row("a")])
NONE = Listing.of([])


def wall(seconds):
    return NOW + timedelta(seconds=seconds)


def synced_before(seconds, poll="60s"):
    """Return an account whose lastSyncTime is this long before the start."""
    return replace(account(poll=poll), status=AccountStatus(last_sync_time=wall(-seconds)))


class Process:
    """A memory and its account."""

    def __init__(self, account_=None, **changes):
        self.memory = AccountMemory(settings(**changes))
        self.account = account_ or account()
        self.memory.follow(self.account, 0)

    def follow(self, account_, now):
        self.account = account_
        self.memory.follow(account_, now)

    def lists(self, now, *, woken=False, requested=False):
        return self.memory.may_list(now, woken=woken, requested=requested)

    def succeed(self, now, listing=ONE, recorded=()):
        self.memory.succeeded(listing, recorded, now, wall(now))

    def fail(self, now, reason="AccountUnreachable", retry_after=None):
        self.memory.failed(Trouble(Reason(reason), "Broken."), now, retry_after)

    def observation(self, now):
        return self.memory.observation(self.account, now, wall(now))

    def stale(self, now):
        observation = self.observation(now)
        assert isinstance(observation, Unlisted)
        return observation.stale

    def loss(self, now):
        return self.memory.stale_at(self.account, now, wall(now))


@pytest.fixture
def longest(monkeypatch):
    """Make random waits as long as possible."""
    monkeypatch.setattr(random, "uniform", lambda low, high: max(low, high))


@pytest.fixture
def shortest(monkeypatch):
    """Make random waits as short as possible."""
    monkeypatch.setattr(random, "uniform", lambda low, high: min(low, high))


class TestInterval:
    """Listing on the interval."""

    def test_a_new_account_is_listed_at_once(self):
        process = Process()
        assert process.lists(0)
        assert process.observation(0) is None

    @pytest.mark.parametrize(
        ("poll", "seconds"),
        [("60s", 60), ("5s", 5), ("1h", 3600), ("1m30s", 90), ("1s", 5), ("9h", 3600)],
    )
    @pytest.mark.usefixtures("longest")
    def test_on_the_interval(self, poll, seconds):
        process = Process(account(poll=poll))
        process.succeed(100)
        assert not process.lists(100 + seconds - 0.1)
        assert process.lists(100 + seconds)
        assert process.memory.next_listing(requested=False) == 100 + seconds

    @pytest.mark.usefixtures("longest")
    def test_not_below_the_minimum_interval(self):
        process = Process(account(poll="10s"), min_poll_interval=timedelta(seconds=45))
        process.succeed(0)
        assert not process.lists(44.9)
        assert process.lists(45)

    def test_jitter_spreads_listings_and_never_delays_them(self):
        waits = set()
        for _ in range(200):
            process = Process()
            process.succeed(0)
            waits.add(process.memory.next_listing(requested=False))
        assert len(waits) > 100
        assert max(waits) <= 60
        assert min(waits) >= 30

    @pytest.mark.usefixtures("longest")
    def test_a_shorter_interval_counts_from_now(self):
        process = Process(account(poll="1h"))
        process.succeed(0)
        process.follow(account(poll="60s"), 100)
        assert not process.lists(159)
        assert process.lists(160)

    @pytest.mark.usefixtures("longest")
    def test_a_longer_interval_does_not_bring_a_listing_forward(self):
        process = Process(account(poll="60s"))
        process.succeed(0)
        process.follow(account(poll="1h"), 10)
        assert process.memory.next_listing(requested=False) == 60

    @pytest.mark.parametrize("random_", [0, 1], ids=["shortest", "longest"])
    def test_it_lists_again_when_a_missing_channel_may_be_gone(self, random_, monkeypatch):
        monkeypatch.setattr(random, "uniform", lambda *bounds: bounds[random_])
        process = Process(account(poll="1h"))
        process.succeed(0, NONE, recorded=["a"])
        assert not process.lists(59.9)
        assert process.lists(60)
        process.succeed(60, NONE)
        assert not process.lists(200)

    @pytest.mark.usefixtures("longest")
    def test_a_missing_channel_does_not_lengthen_the_interval(self):
        process = Process(account(poll="10s"))
        process.succeed(0, NONE, recorded=["a"])
        assert process.memory.next_listing(requested=False) == 10


class TestWake:
    """Listing after a wake-up."""

    @pytest.mark.parametrize(
        ("seconds", "lists"), [(0, False), (1, False), (4.9, False), (5, True), (30, True)]
    )
    @pytest.mark.usefixtures("longest")
    def test_a_fresh_listing_is_reused(self, seconds, lists):
        process = Process()
        process.succeed(100)
        assert process.lists(100 + seconds, woken=True) == lists
        assert process.lists(100 + seconds) is False

    @pytest.mark.parametrize("seconds", [0, 1, 4.9, 5, 30])
    def test_a_request_lists_at_any_time(self, seconds):
        process = Process()
        process.succeed(100)
        assert process.lists(100 + seconds, woken=True, requested=True)

    @pytest.mark.usefixtures("longest")
    def test_a_change_does_not_shorten_the_backoff(self):
        process = Process()
        process.fail(0)
        assert not process.lists(1, woken=True)
        assert process.lists(1, requested=True)


class TestFailure:
    """Listing after a failure."""

    @pytest.mark.usefixtures("longest")
    def test_the_backoff_doubles_up_to_a_minute(self):
        process = Process()
        waits = []
        for _ in range(9):
            process.fail(1000)
            waits.append(process.memory.next_listing(requested=False) - 1000)
        assert waits == [2, 4, 8, 16, 32, 60, 60, 60, 60]

    @pytest.mark.usefixtures("longest")
    def test_a_success_resets_the_backoff(self):
        process = Process()
        for _ in range(5):
            process.fail(0)
        process.succeed(100)
        process.fail(200)
        assert process.memory.next_listing(requested=False) == 202

    def test_the_backoff_has_jitter(self):
        waits = set()
        for _ in range(200):
            process = Process()
            for _ in range(6):
                process.fail(0)
            waits.add(process.memory.next_listing(requested=False))
        assert len(waits) > 100
        assert min(waits) < 20
        assert max(waits) > 40

    def test_the_backoff_does_not_overflow(self):
        process = Process()
        for _ in range(5000):
            process.fail(0)
        assert 0 < process.memory.next_listing(requested=False) <= 60

    @pytest.mark.usefixtures("shortest")
    def test_retry_after_is_honoured(self):
        process = Process()
        process.fail(100, retry_after=30)
        for seconds in (1, 10, 29.9):
            assert not process.lists(100 + seconds)
            assert not process.lists(100 + seconds, woken=True, requested=True)
        assert process.lists(130)
        assert process.memory.next_listing(requested=False) == 130

    @pytest.mark.usefixtures("longest")
    def test_a_short_retry_after_does_not_shorten_the_backoff(self):
        process = Process()
        for _ in range(6):
            process.fail(100, retry_after=1)
        assert not process.lists(150)
        assert process.lists(160)

    @pytest.mark.usefixtures("shortest")
    def test_retry_after_outlasts_a_later_failure_of_another_kind(self):
        process = Process()
        process.fail(100, retry_after=100)
        process.fail(101)
        assert not process.lists(150, requested=True)
        assert process.lists(200)

    @pytest.mark.usefixtures("longest")
    @pytest.mark.parametrize("reason", ["SecretNotFound", "CredentialsInvalid"])
    @pytest.mark.parametrize(("poll", "seconds"), [("1h", 30), ("60s", 30), ("10s", 10)])
    def test_a_bad_key_is_retried_at_least_every_30_s(self, reason, poll, seconds):
        process = Process(account(poll=poll))
        for _ in range(20):
            process.fail(100, reason)
        assert not process.lists(100 + seconds - 0.1)
        assert process.lists(100 + seconds)


class TestStaleness:
    """How long channels keep their last state."""

    def test_a_listing_is_an_observation(self):
        process = Process()
        process.succeed(0)
        observation = process.observation(0)
        assert isinstance(observation, Listed)
        assert observation.listing is ONE
        assert not observation.trust.missing
        assert process.memory.last_sync == NOW

    @pytest.mark.parametrize(
        ("poll", "stale"), [("60s", 600), ("5s", 600), ("200s", 600), ("5m", 900), ("1h", 10800)]
    )
    def test_staleness_counts_from_this_process_s_listing(self, poll, stale):
        process = Process(account(poll=poll))
        process.succeed(1000)
        process.fail(1001)
        assert not process.stale(1000 + stale - 1)
        assert process.stale(1000 + stale)
        assert process.loss(1001) == 1000 + stale
        assert process.loss(1000 + stale) == float("inf")

    def test_the_stale_after_setting(self):
        process = Process(stale_after=timedelta(hours=1))
        process.succeed(0)
        process.fail(1)
        assert not process.stale(3599)
        assert process.stale(3600)

    def test_this_process_s_listing_overrides_the_recorded_time(self):
        process = Process(synced_before(3600))
        process.succeed(0)
        process.fail(1)
        assert not process.stale(599)
        assert process.stale(600)

    @pytest.mark.parametrize(
        ("before", "now", "stale"),
        [
            (0, 1, False),
            (300, 299, False),
            (300, 300, True),
            (599, 0.5, False),
            (600, 0, True),
            (86400, 0, True),
        ],
    )
    def test_a_new_process_uses_the_recorded_time(self, before, now, stale):
        process = Process(synced_before(before))
        process.fail(0)
        assert process.stale(now) == stale

    def test_a_new_process_has_no_observation_before_its_first_attempt(self):
        process = Process(synced_before(86400))
        assert process.observation(0) is None
        assert process.loss(0) == float("inf")

    def test_a_time_in_the_future_counts_as_now(self):
        process = Process(synced_before(-86400))
        process.fail(0)
        assert not process.stale(0)
        assert process.loss(0) == 600

    def test_never_listed_at_all(self):
        process = Process()
        process.fail(0)
        assert process.stale(0)

    def test_the_failure_is_in_the_observation(self):
        process = Process()
        process.fail(0, "SecretNotFound")
        assert process.observation(0).trouble == Trouble(Reason.SECRET_NOT_FOUND, "Broken.")

    def test_a_success_replaces_the_failure(self):
        process = Process()
        process.fail(0)
        process.succeed(1)
        assert isinstance(process.observation(10_000), Listed)

    def test_no_account(self):
        memory = AccountMemory(settings())
        memory.follow(None, 0)
        observation = memory.observation(None, 0, NOW)
        assert isinstance(observation, Unlisted)
        assert observation.stale
        assert observation.trouble.reason == "AccountNotFound"


class TestIdentity:
    """Another account of the same name, or another Secret."""

    @pytest.mark.parametrize(
        "other",
        [account(uid="another"), account(secret="another")],
        ids=["another object", "another Secret"],
    )
    def test_it_resets_the_memory(self, other):
        process = Process()
        process.succeed(0)
        process.follow(other, 1)
        assert process.observation(1) is None
        assert process.memory.last_sync is None
        assert process.lists(1)

    @pytest.mark.usefixtures("shortest")
    def test_another_secret_resets_the_backoff(self):
        process = Process()
        for _ in range(9):
            process.fail(0, "CredentialsInvalid")
        process.follow(account(secret="another"), 1)
        assert process.lists(1)

    @pytest.mark.parametrize(
        "same",
        [account(generation=7, version=9), account(annotations={"wazzup.dev/paused": "true"})],
        ids=["a new generation", "a pause"],
    )
    def test_other_changes_do_not_reset_it(self, same):
        process = Process()
        process.succeed(0)
        process.follow(same, 1)
        assert isinstance(process.observation(1), Listed)
        assert not process.lists(1)

    def test_a_recreated_account_resets_it(self):
        process = Process()
        process.succeed(0)
        process.follow(None, 1)
        process.follow(account(uid="another"), 2)
        assert process.lists(2)
        assert process.observation(2) is None


class TestTrust:
    """Channels missing from listings."""

    def test_the_record_counts_for_the_first_listing_only(self):
        process = Process()
        process.succeed(0, ONE, recorded=["a", "b"])
        assert set(process.observation(0).trust.missing) == {"b"}
        process.succeed(60, ONE, recorded=["a", "b"])
        assert not process.observation(60).trust.missing

    def test_a_failed_listing_is_none(self):
        process = Process()
        process.succeed(0)
        process.succeed(60, NONE)
        process.fail(62)
        process.succeed(130, NONE)
        assert not process.observation(130).trust.missing

    def test_another_secret_starts_again(self):
        process = Process()
        process.succeed(0)
        process.succeed(60, NONE)
        process.follow(account(secret="other"), 100)
        process.succeed(121, NONE, recorded=["a"])
        assert set(process.observation(121).trust.missing) == {"a"}


class TestAgeOfChange:
    """Seconds since a listing first showed a channel's current state."""

    def test_it_counts_from_the_first_listing_that_showed_it(self):
        process = Process()
        process.succeed(0, Listing.of([row("a", state="active")]))
        assert process.memory.take_age_of_change("a", 1) is None, "its start is unknown"
        process.succeed(60, Listing.of([row("a", state="qridle")]))
        process.succeed(120, Listing.of([row("a", state="qridle")]))
        assert process.memory.take_age_of_change("a", 130) == 70
        assert process.memory.take_age_of_change("a", 140) is None, "its status is written"

    def test_a_new_channel_is_a_change_and_a_removed_one_is_forgotten(self):
        process = Process()
        process.succeed(0, NONE)
        process.succeed(60, ONE)
        assert process.memory.take_age_of_change("a", 65) == 5
        process.succeed(120, NONE)
        assert process.memory.take_age_of_change("a", 125) is None
