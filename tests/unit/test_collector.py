"""Metrics computed from the Store at scrape time."""

import asyncio
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from tests.expected_states import BY_NAME
from tests.unit.build import NOW, account, channel
from wazzup_operator.controller.store import Store
from wazzup_operator.observability.collector import (
    CertificateCollector,
    KeeperCollector,
    ReplicaCollector,
    StoreCollector,
)
from wazzup_operator.resources.account import AccountStatus
from wazzup_operator.resources.base import Condition
from wazzup_operator.resources.channel import ActionStatus, ChannelStatus

EVERY = {(state, active) for state in BY_NAME for active in ("true", "false")}


def in_state(state, name="support", **more):
    return channel(name, status=ChannelStatus(state=state, channel_id="id-4711"), **more)


def with_ready(status, name="default"):
    ready = Condition(
        type="Ready", status=status, last_transition_time=NOW, reason="Any", message="Any."
    )
    return replace(account(name), status=AccountStatus(conditions=(ready,)))


class Scraped:
    """A Store with these objects, and its metrics."""

    def __init__(self, *objects, limit=2000):
        self.memories = {}
        self.store = Store(lambda key, requested: None)
        self.collector = StoreCollector(self.store, self.memories.get, limit)
        for each in objects:
            self.table(each).upsert(each)

    def table(self, object_):
        is_channel = hasattr(object_, "account_key")
        return self.store.channels if is_channel else self.store.accounts

    def remove(self, object_):
        self.table(object_).remove(object_.metadata.key, object_.metadata.uid)

    def samples(self, metric):
        (family,) = (each for each in self.collector.collect() if each.name == metric)
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

    @pytest.mark.parametrize(
        "objects",
        [[account()], [channel()], [account(), channel()]],
        ids=["account", "ref", "both"],
    )
    def test_each_account_has_each_state_declared_on_and_off(self, objects):
        assert Scraped(*objects).channels().keys() == EVERY

    def test_an_account_without_channels_has_zeros(self):
        assert set(Scraped(account()).channels().values()) == {0}

    def test_there_is_no_sample_without_an_account(self):
        assert Scraped().samples("wazzup_channels") == []

    def test_counts(self):
        scraped = Scraped(
            account(),
            in_state("Active", "a"),
            in_state("Active", "b"),
            in_state("Active", "c", active=False),
            in_state("ScanQRCode", "d"),
            in_state("Off", "e", active=False),
            in_state("Blocked", "f", account="second"),
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
        assert Scraped(channel()).counts() == {("Unknown", "true"): 1}

    def test_a_deleted_object_is_gone_at_once(self):
        kept, gone = in_state("Active", "a"), in_state("Active", "b")
        scraped = Scraped(kept, gone)
        scraped.remove(gone)
        assert scraped.counts() == {("Active", "true"): 1}
        scraped.remove(kept)
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


def test_registering_does_not_read_the_store():
    families = StoreCollector(None, None, 0).describe()
    assert not any(each.samples for each in families)
    assert {each.name for each in families} == {
        "wazzup_channels",
        "wazzup_channel_state",
        "wazzup_channel_state_since_timestamp_seconds",
        "wazzup_channels_without_series",
        "wazzup_account_up",
        "wazzup_account_last_sync_timestamp_seconds",
        "wazzup_account_consecutive_failures",
        "wazzup_account_unmanaged_channels",
    }


def labelled(samples):
    return {tuple(each.labels.values()): each.value for each in samples}


def judged(name, ready, state="Active", reason="Any", by=None, **more):
    """Return an object whose Ready has this status and reason, and who must act for it."""
    condition = Condition(
        type="Ready", status=ready, last_transition_time=NOW, reason=reason, message="Any."
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

    def test_the_time_of_the_state(self):
        scraped = Scraped(judged("a", "True"), channel("new"))
        since = labelled(scraped.samples("wazzup_channel_state_since_timestamp_seconds"))
        assert since == {("shop", "a"): NOW.timestamp()}

    def test_beyond_the_limit_ready_channels_have_no_series(self):
        scraped = Scraped(
            *(judged(f"ready-{n}", "True") for n in range(5)),
            judged("broken", "False"),
            judged("unknown", "Unknown"),
            limit=3,
        )
        names = {key[1] for key in labelled(scraped.samples("wazzup_channel_state"))}
        assert len(names) == 3
        assert {"broken", "unknown"} < names
        assert labelled(scraped.samples("wazzup_channels_without_series")) == {(): 4}
        assert sum(scraped.counts().values()) == 7

    def test_a_limit_of_zero(self):
        scraped = Scraped(judged("a", "False"), limit=0)
        assert scraped.samples("wazzup_channel_state") == []
        assert labelled(scraped.samples("wazzup_channels_without_series")) == {(): 1}


class TestSync:
    """Metrics from an account's memory."""

    def test_the_last_listing_of_this_process(self):
        scraped = Scraped(account())
        scraped.memories["shop", "default"] = SimpleNamespace(last_sync=NOW, failures=3)
        last = labelled(scraped.samples("wazzup_account_last_sync_timestamp_seconds"))
        assert last == {("shop", "default"): NOW.timestamp()}
        failures = labelled(scraped.samples("wazzup_account_consecutive_failures"))
        assert failures == {("shop", "default"): 3}

    def test_the_recorded_one_before_the_first_listing(self):
        recorded = replace(account(), status=AccountStatus(last_sync_time=NOW))
        scraped = Scraped(recorded, account("never"))
        scraped.memories["shop", "default"] = SimpleNamespace(last_sync=None, failures=0)
        last = labelled(scraped.samples("wazzup_account_last_sync_timestamp_seconds"))
        assert last == {("shop", "default"): NOW.timestamp()}


class TestUnderAnotherName:
    """An account that is deleted and created again under another name."""

    def test_the_old_name_is_counted_while_objects_refer_to_it(self):
        scraped = Scraped(with_ready("True"), in_state("Active"))
        scraped.remove(with_ready("True"))
        scraped.table(account()).upsert(with_ready("True", "renamed"))
        assert scraped.up() == {("shop", "renamed"): 1}
        assert scraped.counts() == {("Active", "true"): 1}
        assert set(scraped.channels("renamed").values()) == {0}

        scraped.remove(in_state("Active"))
        assert scraped.channels() == {}
        assert scraped.channels("renamed").keys() == EVERY


def reported(collector):
    """Return a collector's samples by metric."""
    return {family.name: labelled(family.samples) for family in collector.collect()}


class TestReplica:
    """Metrics of one replica."""

    synced = asyncio.Event()

    def collector(self, lease):
        followed = {
            ("wazzupchannels", ""): SimpleNamespace(silence=2.5, lists=1, synced=self.synced),
            ("wazzupaccounts", "shop"): SimpleNamespace(silence=0.5, lists=3, synced=self.synced),
        }
        events = SimpleNamespace(waiting=4, dropped=7)
        return ReplicaCollector(followed, SimpleNamespace(waiting=9), events, lease)

    def test_watches_and_queues(self):
        assert reported(self.collector(None)) == {
            "wazzup_operator_watch_silence_seconds": {
                ("wazzupchannels", ""): 2.5,
                ("wazzupaccounts", "shop"): 0.5,
            },
            "wazzup_operator_relists": {("wazzupchannels", ""): 1, ("wazzupaccounts", "shop"): 3},
            "workqueue_depth": {("status-writes",): 9, ("events",): 4},
            "wazzup_operator_events_dropped": {(): 7},
            "leader_election_master_status": {("",): 0},
        }

    @pytest.mark.parametrize("leads", [True, False])
    def test_who_leads(self, leads):
        lease = SimpleNamespace(name="wazzup-operator", leads=leads)
        status = reported(self.collector(lease))["leader_election_master_status"]
        assert status == {("wazzup-operator",): float(leads)}

    def test_without_an_election_it_leads_once_it_is_synced(self):
        self.synced = asyncio.Event()
        self.synced.set()
        assert reported(self.collector(None))["leader_election_master_status"] == {("",): 1}


def test_the_validity_of_the_served_certificate():
    begins = "wazzup_operator_webhook_certificate_not_before_timestamp_seconds"
    expires = "wazzup_operator_webhook_certificate_expiration_timestamp_seconds"
    none = SimpleNamespace(valid_from=None, expires=None)
    assert reported(CertificateCollector(none)) == {begins: {}, expires: {}}
    served = SimpleNamespace(valid_from=NOW - timedelta(days=1), expires=NOW)
    assert reported(CertificateCollector(served)) == {
        begins: {(): NOW.timestamp() - 86_400},
        expires: {(): NOW.timestamp()},
    }


@pytest.mark.parametrize(
    ("maintained", "samples"), [(None, {}), (False, {(): 0.0}), (True, {(): 1.0})]
)
def test_whether_the_certificate_is_maintained(maintained, samples):
    keeper = SimpleNamespace(maintained=maintained)
    name = "wazzup_operator_webhook_certificate_maintained"
    assert reported(KeeperCollector(keeper)) == {name: samples}


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
        for _ in range(300):
            families = {each.name: each.samples for each in scraped.collector.collect()}
            total = sum(each.value for each in families["wazzup_channels"])
            assert total == len(families["wazzup_channel_state"])
            assert len(families["wazzup_channels"]) % len(EVERY) == 0
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval)
