"""Metrics of channels and accounts, computed from the Store at scrape time."""

import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.expected_states import BY_NAME
from tests.unit.build import NOW, PAUSED, account, at, channel
from wazzup_operator.controller.store import Store
from wazzup_operator.observability.fleet import FleetMetrics
from wazzup_operator.resources.account import AccountStatus
from wazzup_operator.resources.base import Condition
from wazzup_operator.resources.channel import ActionStatus, ChannelStatus
from wazzup_operator.resources.codec import CHANNELS


def in_state(state, name="support", **more):
    return channel(name, status=ChannelStatus(state=state, channel_id="id-4711"), **more)


def with_ready(status, name="default"):
    ready = Condition(
        type="Ready", status=status, last_transition_time=NOW, reason="Any", message="Any."
    )
    return replace(account(name), status=AccountStatus(conditions=(ready,)))


class Scraped:
    """A Store with these objects, and its metrics."""

    def __init__(self, *objects, limit=2000, labels=()):
        self.memories = {}
        self.store = Store(lambda key, requested: None)
        self.metrics = FleetMetrics(self.store, self.memories.get, limit, labels)
        for each in objects:
            self.table(each).upsert(each)

    def table(self, object_):
        is_channel = hasattr(object_, "account_key")
        return self.store.channels if is_channel else self.store.accounts

    def remove(self, object_):
        self.table(object_).remove(object_.metadata.key, object_.metadata.uid)

    def samples(self, metric):
        families = text_string_to_metric_families(self.metrics.text())
        (family,) = (each for each in families if each.name == metric)
        return family.samples

    def channels(self, account="default", namespace="shop"):
        """Return the counts of an account by (state, active)."""
        return {
            (sample.labels["state"], sample.labels["active"]): sample.value
            for sample in self.samples("wazzup_channels")
            if (sample.labels["namespace"], sample.labels["account"]) == (namespace, account)
        }

    def counts(self, *account):
        """Return the counts that are not zero."""
        return {key: value for key, value in self.channels(*account).items() if value}

    def up(self):
        return {
            (sample.labels["namespace"], sample.labels["account"]): sample.value
            for sample in self.samples("wazzup_account_up")
        }


class TestChannels:
    """wazzup_channels."""

    def test_an_account_without_channels_has_one_series(self):
        assert Scraped(account()).channels() == {("Active", "true"): 0}

    def test_there_is_no_sample_without_an_account(self):
        assert Scraped().samples("wazzup_channels") == []

    def test_states_without_objects_have_no_series(self):
        scraped = Scraped(account(), in_state("Blocked"))
        assert scraped.channels() == {("Active", "true"): 0, ("Blocked", "true"): 1}

    def test_accounts_that_do_not_exist_share_one_series(self):
        invented = (channel(f"c-{n}", account=f"invented-{n}") for n in range(100))
        scraped = Scraped(account(), in_state("Active"), *invented)
        assert scraped.channels() == {("Active", "true"): 1}
        assert scraped.channels("") == {("Unknown", "true"): 100}
        assert len(scraped.samples("wazzup_channels")) == 2

    def test_counts(self):
        scraped = Scraped(
            account(),
            in_state("Active", "a"),
            in_state("Active", "b"),
            in_state("Active", "c", active=False),
            in_state("ScanQRCode", "d"),
            in_state("Off", "e", active=False),
            account("second"),
            in_state("Blocked", "f", account="second"),
            account(namespace="elsewhere"),
            in_state("Blocked", "g", namespace="elsewhere"),
        )
        assert scraped.counts() == {
            ("Active", "true"): 2,
            ("Active", "false"): 1,
            ("ScanQRCode", "true"): 1,
            ("Off", "false"): 1,
        }
        assert scraped.counts("second") == {("Blocked", "true"): 1}
        assert scraped.counts("default", "elsewhere") == {("Blocked", "true"): 1}

    def test_an_object_without_a_status_is_unknown(self):
        assert Scraped(account(), channel()).counts() == {("Unknown", "true"): 1}

    def test_a_deleted_object_is_gone_at_once(self):
        kept, gone = in_state("Active", "a"), in_state("Active", "b")
        scraped = Scraped(account(), kept, gone)
        scraped.remove(gone)
        assert scraped.counts() == {("Active", "true"): 1}
        scraped.remove(kept)
        scraped.remove(account())
        assert scraped.samples("wazzup_channels") == []

    def test_an_object_moves_to_its_new_account_at_once_and_is_unknown_there(self):
        scraped = Scraped(account(), account("second"))
        there = judged("support", "True")
        there = replace(there, status=replace(there.status, account="default"))
        moved = channel(account="second", generation=2, version=2, status=there.status)
        found = replace(moved.status, account="second", state="ScanQRCode")
        scraped.table(there).put(there)
        assert (scraped.counts(), scraped.counts("second")) == ({("Active", "true"): 1}, {})
        scraped.table(moved).put(moved)
        assert (scraped.counts(), scraped.counts("second")) == ({}, {("Unknown", "true"): 1})
        assert labelled(scraped.samples("wazzup_channel_state")) == {
            (*("shop", "support", "second", "whatsapp", "true", "Unknown"), "unknown", "", ""): 1
        }
        assert scraped.samples("wazzup_channel_state_since_timestamp_seconds") == []
        scraped.table(moved).put(replace(moved, status=found))
        assert (scraped.counts(), scraped.counts("second")) == ({}, {("ScanQRCode", "true"): 1})

    def test_no_label_holds_a_number_or_an_id(self):
        scraped = Scraped(account(), in_state("Active"), with_ready("True", "second"))
        for metric, labels in (
            ("wazzup_channels", {"namespace", "account", "state", "active"}),
            ("wazzup_account_up", {"namespace", "account"}),
        ):
            for sample in scraped.samples(metric):
                assert sample.labels.keys() == labels
                values = " ".join(sample.labels.values())
                assert "4711" not in values
                assert "7986" not in values


class TestAccountUp:
    """wazzup_account_up."""

    @pytest.mark.parametrize(("ready", "up"), [("True", 1), ("False", 0)])
    def test_up_or_down(self, ready, up):
        assert Scraped(with_ready(ready)).up() == {("shop", "default"): up}

    @pytest.mark.parametrize(
        "objects",
        [[with_ready("Unknown")], [account()], [channel()]],
        ids=["Unknown", "new", "none"],
    )
    def test_absent_while_it_is_unknown(self, objects):
        assert Scraped(*objects).up() == {}

    def test_several(self):
        scraped = Scraped(with_ready("True"), with_ready("False", "second"), account("third"))
        assert scraped.up() == {("shop", "default"): 1, ("shop", "second"): 0}

    def test_a_deleted_account_is_gone_at_once(self):
        scraped = Scraped(with_ready("True"))
        scraped.remove(with_ready("True"))
        assert scraped.up() == {}
        assert scraped.samples("wazzup_channels") == []


def labelled(samples):
    return {tuple(each.labels.values()): each.value for each in samples}


def judged(name, ready, state="Active", reason="Any", by=None, at=NOW, **more):
    """Return an object whose Ready has this status and reason, and who must act for it."""
    condition = Condition(
        type="Ready", status=ready, last_transition_time=at, reason=reason, message="Any."
    )
    action = ActionStatus(by=by, summary="Act.") if by else None
    status = ChannelStatus(state=state, state_since=NOW, conditions=(condition,), action=action)
    return channel(name, status=status, **more)


class TestEachChannel:
    """Series of single objects."""

    def test_the_state(self):
        scraped = Scraped(
            judged("a", "True", reason="Active"),
            judged("b", "True", "Off", "Off", active=False, transport="wapi"),
            judged("c", "False", "ScanQRCode", "ScanQRCode", by="phone"),
            judged("d", "False", "Unknown", "DuplicatePhoneNumber", by="declaration"),
            judged("e", "Unknown", reason="Paused"),
            channel("f", account="second"),
        )
        at, on = "whatsapp", "true"
        assert labelled(scraped.samples("wazzup_channel_state")) == {
            ("shop", "a", "default", at, on, "Active", "true", "Active", ""): 1,
            ("shop", "b", "default", "wapi", "false", "Off", "true", "Off", ""): 1,
            ("shop", "c", "default", at, on, "ScanQRCode", "false", "ScanQRCode", "phone"): 1,
            (
                *("shop", "d", "default", at, on, "Unknown"),
                *("false", "DuplicatePhoneNumber", "declaration"),
            ): 1,
            ("shop", "e", "default", at, on, "Active", "unknown", "Paused", ""): 1,
            ("shop", "f", "second", at, on, "Unknown", "unknown", "", ""): 1,
        }

    def test_labels_of_the_object(self):
        labelled_channel = channel("a", labels=(("team", "sales"), ("acme.io/Site", "north")))
        scraped = Scraped(labelled_channel, channel("b"), labels=("acme.io/Site", "team"))
        first, second = scraped.samples("wazzup_channel_state")
        assert (first.labels["label_acme_io_Site"], first.labels["label_team"]) == (
            "north",
            "sales",
        )
        assert (second.labels["label_acme_io_Site"], second.labels["label_team"]) == ("", "")

    def test_only_the_wanted_labels_are_kept(self):
        """An object can have thousands."""
        metadata = {
            "name": "a",
            "namespace": "shop",
            "uid": "u",
            "resourceVersion": "1",
            "generation": 1,
            "creationTimestamp": "2026-11-22T10:00:00Z",
            "labels": {"team": "sales", "app": "x"},
        }
        body = {"metadata": metadata, "spec": {"phoneNumber": "+79865784457"}}
        assert CHANNELS.decode(body, ("team", "site")).metadata.labels == (("team", "sales"),)
        assert CHANNELS.decode(body).metadata.labels == ()

    def test_the_time_of_the_state(self):
        scraped = Scraped(judged("a", "True"), channel("new"))
        since = labelled(scraped.samples("wazzup_channel_state_since_timestamp_seconds"))
        assert since == {("shop", "a"): NOW.timestamp()}

    def test_channels_that_alert_get_series_before_any_others(self):
        """Anybody may create paused and Unknown objects, which must hide none that alerts."""
        objects = [
            judged("ready", "True"),
            *(judged(f"paused-{n}", "Unknown", reason="Paused") for n in range(5)),
            *(channel(f"new-{n}", account="invented") for n in range(5)),
            judged("still-on", "False", reason="StillActive", active=False),
            judged("broken", "False"),
        ]
        every = {each.metadata.name for each in objects}
        for limit, names in ((1, {"broken"}), (2, {"broken", "still-on"}), (12, every - {"ready"})):
            scraped = Scraped(*objects, limit=limit)
            assert names == {key[1] for key in labelled(scraped.samples("wazzup_channel_state"))}

    def test_thousands_in_one_namespace_hide_none_of_another(self):
        flood = [judged(f"broken-{n}", "False", namespace="hostile") for n in range(9)]
        others = [judged(name, "False", namespace="shop") for name in ("a", "b")]
        scraped = Scraped(*flood, *others, judged("c", "False", namespace="depot"), limit=5)
        shown = {key[:2] for key in labelled(scraped.samples("wazzup_channel_state"))}
        hostile = {("hostile", "broken-0"), ("hostile", "broken-1")}
        assert shown == {("shop", "a"), ("shop", "b"), ("depot", "c"), *hostile}

    def test_what_is_beyond_the_limit_is_counted_by_kind(self):
        scraped = Scraped(
            account(),
            judged("off", "True", active=False),
            *(judged(f"unknown-{n}", "Unknown") for n in range(3)),
            judged("still-on", "False", active=False),
            *(judged(f"broken-{n}", "False") for n in range(2)),
            limit=4,
        )
        assert labelled(scraped.samples("wazzup_channels_without_series")) == {
            ("true", "false"): 0,
            ("false", "false"): 0,
            ("true", "unknown"): 2,
            ("false", "unknown"): 0,
            ("true", "true"): 0,
            ("false", "true"): 1,
        }
        assert sum(scraped.counts().values()) == 7

    def test_a_limit_of_zero(self):
        scraped = Scraped(judged("a", "False"), limit=0)
        assert scraped.samples("wazzup_channel_state") == []
        without = labelled(scraped.samples("wazzup_channels_without_series"))
        assert {kind for kind, number in without.items() if number} == {("true", "false")}

    def test_a_value_with_quotes_is_escaped(self):
        scraped = Scraped(judged("a", "False", state='a "new" state\\\n'))
        (sample,) = scraped.samples("wazzup_channel_state")
        assert sample.labels["state"] == 'a "new" state\\\n'


class TestWithoutAccount:
    """wazzup_channels_without_account."""

    def test_active_objects_count_by_namespace(self):
        scraped = Scraped(
            account(),
            channel("a"),
            channel("b", account="none"),
            channel("c", account="nowhere"),
            channel("off", account="none", active=False),
            channel("paused", account="none", annotations=PAUSED),
            channel("d", namespace="elsewhere"),
        )
        counted = labelled(scraped.samples("wazzup_channels_without_account"))
        assert counted == {("shop",): 2, ("elsewhere",): 1}

    def test_zero_once_the_account_exists(self):
        scraped = Scraped(channel())
        scraped.table(account()).upsert(account())
        assert labelled(scraped.samples("wazzup_channels_without_account")) == {("shop",): 0}


class TestUnknownSince:
    """wazzup_account_unknown_since_timestamp_seconds."""

    def since(self, *objects):
        samples = Scraped(*objects).samples("wazzup_account_unknown_since_timestamp_seconds")
        return labelled(samples)

    def test_the_earliest_counts(self):
        later = judged("later", "Unknown", at=at(5))
        assert self.since(account(), later, judged("first", "Unknown", at=NOW)) == {
            ("shop", "default"): NOW.timestamp()
        }

    def test_an_object_without_a_status_is_unknown_since_its_creation(self):
        new = channel()
        since = new.metadata.creation_timestamp.timestamp()
        assert self.since(account(), new) == {("shop", "default"): since}

    @pytest.mark.parametrize(
        "known",
        [
            judged("a", "True"),
            judged("a", "False"),
            judged("a", "Unknown", active=False),
            judged("a", "Unknown", reason="Paused"),
            channel("a", annotations=PAUSED),
            judged("a", "Unknown", account="none"),
        ],
        ids=["ready", "not ready", "off", "paused", "paused and new", "no account"],
    )
    def test_others_do_not_count(self, known):
        assert self.since(account(), known) == {}


class TestSync:
    """Metrics from an account's memory."""

    def test_the_last_listing_of_this_process(self):
        scraped = Scraped(account())
        scraped.memories["shop", "default"] = SimpleNamespace(last_sync=NOW, failures=3)
        last = labelled(scraped.samples("wazzup_account_last_sync_timestamp_seconds"))
        assert last == {("shop", "default"): NOW.timestamp()}
        failures = labelled(scraped.samples("wazzup_account_consecutive_failures"))
        assert failures == {("shop", "default"): 3}
        scraped.memories["shop", "default"] = SimpleNamespace(last_sync=NOW, failures=0)
        assert scraped.samples("wazzup_account_consecutive_failures") == []

    def test_the_recorded_one_before_the_first_listing(self):
        recorded = replace(account(), status=AccountStatus(last_sync_time=NOW))
        scraped = Scraped(recorded, account("never"))
        scraped.memories["shop", "default"] = SimpleNamespace(last_sync=None, failures=0)
        last = labelled(scraped.samples("wazzup_account_last_sync_timestamp_seconds"))
        assert last == {("shop", "default"): NOW.timestamp()}


class TestUnderAnotherName:
    """An account that is deleted and created again under another name."""

    def test_objects_that_refer_to_the_old_name_have_no_account(self):
        scraped = Scraped(with_ready("True"), in_state("Active"))
        scraped.remove(with_ready("True"))
        scraped.table(account()).upsert(with_ready("True", "renamed"))
        assert scraped.up() == {("shop", "renamed"): 1}
        assert scraped.counts("") == {("Active", "true"): 1}
        assert scraped.counts("renamed") == {}

        scraped.remove(in_state("Active"))
        assert scraped.channels("") == {}


def test_a_scrape_during_changes_is_consistent():
    """It runs in a thread while the Store changes."""
    scraped = Scraped(account())
    over = threading.Event()

    def change():
        while not over.is_set():
            for number in range(50):
                each = judged(f"channel-{number}", "True", account=f"account-{number % 7}")
                scraped.table(each).put(each)
            for number in range(0, 50, 2):
                each = judged(f"channel-{number}", "True", account=f"account-{number % 7}")
                scraped.remove(each)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(100):
            parsed = text_string_to_metric_families(scraped.metrics.text())
            families = {each.name: each.samples for each in parsed}
            total = sum(each.value for each in families["wazzup_channels"])
            assert total == len(families["wazzup_channel_state"])
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval)


def test_a_tenth_of_a_large_fleet_is_less_than_a_tenth_of_five_megabytes():
    """5,000 accounts with 50,000 objects; `make bench` measures how long a scrape takes."""
    states = list(BY_NAME)
    channels = (
        judged(f"channel-of-a-customer-{n}", "False", states[n % 7], account=f"account-{n % 500}")
        for n in range(5000)
    )
    accounts = (with_ready("True", f"account-{n}") for n in range(500))
    scraped = Scraped(*accounts, *channels, limit=200)
    assert len(scraped.metrics.text()) < 500_000
