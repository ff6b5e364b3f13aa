"""Metrics of a process that are computed at scrape time, so that they are never out of date.

Each collector maps metrics to functions that return their samples. `collect` runs in a thread
beside the event loop. That is safe because it copies a dictionary in one step and the values are
immutable.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from prometheus_client.registry import Collector

from wazzup_operator.observability import metrics
from wazzup_operator.observability.metrics import Family, Metric, Samples

S = TypeVar("S")


def _families(table: Mapping[Metric, Callable[[S], Samples]], source: S) -> Iterator[Family]:
    for metric, samples in table.items():
        family = metric.family()
        for labels, value in samples(source):
            family.add_metric(labels, value)
        yield family


class InformerStats(Protocol):
    """The part of an informer that a scrape reads."""

    lists: int
    """Full lists so far."""

    synced: asyncio.Event
    """Set after the first full list."""

    @property
    def silence(self) -> float:
        """Seconds since the last list, event or bookmark."""


class Queue(Protocol):
    """A queue whose depth is reported."""

    @property
    def waiting(self) -> int:
        """Items in the queue."""


class EventQueue(Queue, Protocol):
    """The part of the EventRecorder that a scrape reads."""

    dropped: int


class Election(Protocol):
    """The part of the LeaderElector that a scrape reads."""

    @property
    def name(self) -> str:
        """The Lease's name."""

    @property
    def leads(self) -> bool:
        """Whether this replica leads."""


@dataclass(frozen=True, slots=True)
class _Replica:
    informers: Mapping[tuple[str, str], InformerStats]
    writes: Queue
    events: EventQueue
    election: Election | None


def _queue_depths(replica: _Replica) -> Samples:
    yield ("status-writes",), replica.writes.waiting
    yield ("events",), replica.events.waiting


def _leader(replica: _Replica) -> Samples:
    """Report whether this replica leads; without leader election, it does once synced."""
    if replica.election:
        return [((replica.election.name,), replica.election.leads)]
    return [(("",), all(each.synced.is_set() for each in replica.informers.values()))]


_REPLICA: Mapping[Metric, Callable[[_Replica], Samples]] = {
    metrics.WATCH_SILENCE: lambda replica: [
        (key, each.silence) for key, each in replica.informers.items()
    ],
    metrics.RELISTS: lambda replica: [(key, each.lists) for key, each in replica.informers.items()],
    metrics.QUEUE_DEPTH: _queue_depths,
    metrics.EVENTS_DROPPED: lambda replica: [((), replica.events.dropped)],
    metrics.LEADER: _leader,
}


class ReplicaCollector(Collector):
    """Metrics of this replica, whether it leads or not.

    The keys of `informers` are (resource, namespace); an empty namespace means all namespaces.
    """

    def __init__(
        self,
        informers: Mapping[tuple[str, str], InformerStats],
        writes: Queue,
        events: EventQueue,
        election: Election | None,
    ) -> None:
        self._replica = _Replica(informers, writes, events, election)

    def collect(self) -> Iterator[Family]:
        """Return the current samples."""
        return _families(_REPLICA, self._replica)


class ServedCertificate(Protocol):
    """The part of the CertificateLoader that a scrape reads."""

    @property
    def valid_from(self) -> datetime | None:
        """Start of its validity; None until a certificate is loaded."""

    @property
    def expires(self) -> datetime | None:
        """Its expiry; None until a certificate is loaded."""


def _at(time: datetime | None) -> Samples:
    return [((), time.timestamp())] if time else []


_CERTIFICATE: Mapping[Metric, Callable[[ServedCertificate], Samples]] = {
    metrics.CERTIFICATE_EXPIRES: lambda served: _at(served.expires),
    metrics.CERTIFICATE_VALID_FROM: lambda served: _at(served.valid_from),
}


class CertificateCollector(Collector):
    """Validity of the webhook's serving certificate."""

    def __init__(self, served: ServedCertificate) -> None:
        self._served = served

    def collect(self) -> Iterator[Family]:
        """Return the current samples."""
        return _families(_CERTIFICATE, self._served)


class CertificateKeeping(Protocol):
    """The part of the CertificateKeeper that a scrape reads."""

    maintained: bool | None
    """Whether the last attempt succeeded; None before the first."""


_KEEPING: Mapping[Metric, Callable[[CertificateKeeping], Samples]] = {
    metrics.CERTIFICATE_MAINTAINED: lambda keeper: (
        [] if keeper.maintained is None else [((), keeper.maintained)]
    ),
}


class KeeperCollector(Collector):
    """Whether the leader can maintain the webhook's certificate."""

    def __init__(self, keeper: CertificateKeeping) -> None:
        self._keeper = keeper

    def collect(self) -> Iterator[Family]:
        """Return the current samples."""
        return _families(_KEEPING, self._keeper)
