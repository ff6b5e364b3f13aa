"""Metrics of a process that are computed at scrape time."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import pytest

from tests.unit.build import NOW
from wazzup_operator.observability.collector import (
    CertificateCollector,
    KeeperCollector,
    ReplicaCollector,
)


def labelled(samples):
    return {tuple(each.labels.values()): each.value for each in samples}


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
