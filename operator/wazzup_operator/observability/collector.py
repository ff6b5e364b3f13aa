"""Metrics that are computed when they are scraped, so that they are never out of date.

A collector has one table: each metric and the function that returns its samples. `collect` runs
beside the event loop, in a thread: it copies what it needs of a dictionary in one step, and what it
then looks at is immutable.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from prometheus_client.registry import Collector

from wazzup_operator.domain.states import State
from wazzup_operator.observability import metrics
from wazzup_operator.observability.metrics import Family, Metric
from wazzup_operator.resources.account import AccountStatus, WazzupAccount
from wazzup_operator.resources.base import READY, NamespacedName, find
from wazzup_operator.resources.channel import ChannelStatus, WazzupChannel

T = TypeVar("T", WazzupChannel, WazzupAccount)
S = TypeVar("S")

Samples = Iterable[tuple[tuple[str, ...], float]]
"""Values of labels, and the value."""


def _families(table: Mapping[Metric, Callable[[S], Samples]], source: S) -> Iterator[Family]:
    for metric, samples in table.items():
        family = metric.family()
        for labels, value in samples(source):
            family.add_metric(labels, value)
        yield family


class ObjectSource(Protocol):
    """What is read of the Store."""

    def all_channels(self) -> Sequence[WazzupChannel]:
        """Return every channel."""

    def all_accounts(self) -> Sequence[WazzupAccount]:
        """Return every account object."""

    def account_keys(self) -> Iterable[NamespacedName]:
        """Return every account that exists or is referred to."""


class SyncSource(Protocol):
    """What is read of an account's memory."""

    @property
    def last_sync(self) -> datetime | None:
        """When this process last listed the account."""

    @property
    def failures(self) -> int:
        """How often in a row it could not be listed."""


@dataclass(frozen=True, slots=True)
class _Fleet:
    """Channels and accounts as one scrape sees them; `shown` are those with series of their own."""

    channels: Sequence[WazzupChannel]
    shown: Sequence[WazzupChannel]
    accounts: Sequence[WazzupAccount]
    account_keys: Iterable[NamespacedName]
    sync: Callable[[NamespacedName], SyncSource | None]


def _counts(fleet: _Fleet) -> Samples:
    """Return the counts, zeros included: `state == 0` can be alerted on."""
    counts: Counter[tuple[str, ...]] = Counter()
    for account in fleet.account_keys:
        for state in State:
            for active in (True, False):
                counts[*account, str(state), _spelled(active)] = 0
    for channel in fleet.channels:
        state_name = channel.recorded.state or State.UNKNOWN
        counts[*channel.account_key, str(state_name), _spelled(channel.spec.active)] += 1
    return counts.items()


def _states(fleet: _Fleet) -> Samples:
    for channel in fleet.shown:
        ready = find(channel.recorded.conditions, READY)
        action = channel.recorded.action
        labels = (
            *channel.metadata.key,
            channel.account_key.name,
            channel.spec.transport,
            _spelled(channel.spec.active),
            str(channel.recorded.state or State.UNKNOWN),
            ready.status.lower() if ready else "unknown",
            ready.reason if ready else "",
            (action.by if action else None) or "",
        )
        yield labels, 1.0


def _last_syncs(fleet: _Fleet) -> Samples:
    for account in fleet.accounts:
        sync = fleet.sync(account.metadata.key)
        last = (sync.last_sync if sync else None) or account.status.last_sync_time
        if last:
            yield account.metadata.key, last.timestamp()


def _failures(fleet: _Fleet) -> Samples:
    for account in fleet.accounts:
        if sync := fleet.sync(account.metadata.key):
            yield account.metadata.key, sync.failures


def _each(objects: Iterable[T], value: Callable[[T], float | None]) -> Samples:
    """Return one sample per object, without those that have no value."""
    for each in objects:
        found = value(each)
        if found is not None:
            yield each.metadata.key, found


def _state_since(channel: WazzupChannel) -> float | None:
    since = channel.recorded.state_since
    return since.timestamp() if since else None


def _ready(status: ChannelStatus | AccountStatus) -> float | None:
    """Return 1 or 0, or None where it is not known."""
    ready = find(status.conditions, READY)
    return None if ready is None or ready.status == "Unknown" else float(ready.status == "True")


def _is_ready(channel: WazzupChannel) -> bool:
    return _ready(channel.recorded) == 1.0


def _spelled(active: bool) -> str:
    return str(active).lower()


_FLEET: Mapping[Metric, Callable[[_Fleet], Samples]] = {
    metrics.CHANNEL_COUNTS: _counts,
    metrics.CHANNEL_STATE: _states,
    metrics.CHANNEL_STATE_SINCE: lambda fleet: _each(fleet.shown, _state_since),
    metrics.CHANNELS_WITHOUT_SERIES: lambda fleet: [((), len(fleet.channels) - len(fleet.shown))],
    metrics.ACCOUNT_UP: lambda fleet: _each(fleet.accounts, lambda account: _ready(account.status)),
    metrics.ACCOUNT_LAST_SYNC: _last_syncs,
    metrics.ACCOUNT_FAILURES: _failures,
    metrics.ACCOUNT_UNMANAGED: lambda fleet: _each(
        fleet.accounts, lambda account: len(account.status.unmanaged)
    ),
}


class StoreCollector(Collector):
    """Reports channels and accounts; only the leader has one, or each object would count twice.

    `sync` returns what is remembered of an account, `limit` is how many objects have series of
    their own.
    """

    def __init__(
        self,
        source: ObjectSource,
        sync: Callable[[NamespacedName], SyncSource | None],
        limit: int,
    ) -> None:
        self._source, self._sync, self._limit = source, sync, limit

    def describe(self) -> list[Family]:
        """Return the metrics without samples, so that registering reads nothing."""
        return [metric.family() for metric in _FLEET]

    def collect(self) -> Iterator[Family]:
        """Return what the Store says now."""
        channels, accounts = self._source.all_channels(), self._source.all_accounts()
        shown = sorted(channels, key=_is_ready)[: self._limit]
        keys = self._source.account_keys()
        return _families(_FLEET, _Fleet(channels, shown, accounts, keys, self._sync))


class Follower(Protocol):
    """What is read of an informer."""

    lists: int
    """How often it has listed everything."""

    synced: asyncio.Event
    """Set once it has listed everything."""

    @property
    def silence(self) -> float:
        """Seconds since it heard something."""


class Queue(Protocol):
    """What is read of whatever lets work wait."""

    @property
    def waiting(self) -> int:
        """How much waits."""


class EventQueue(Queue, Protocol):
    """What is read of the EventRecorder."""

    dropped: int


class Election(Protocol):
    """What is read of the LeaderElector."""

    @property
    def name(self) -> str:
        """The Lease's name."""

    @property
    def leads(self) -> bool:
        """Whether this replica leads."""


@dataclass(frozen=True, slots=True)
class _Replica:
    informers: Mapping[tuple[str, str], Follower]
    writes: Queue
    events: EventQueue
    election: Election | None


def _queue_depths(replica: _Replica) -> Samples:
    yield ("status-writes",), replica.writes.waiting
    yield ("events",), replica.events.waiting


def _acts(replica: _Replica) -> Samples:
    """Return whether it acts; without an election it does once it is synced."""
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
    metrics.LEADER: _acts,
}


class ReplicaCollector(Collector):
    """Reports on the replica itself, be it the leader or not.

    The informers go by (resource, namespace), where an empty namespace is all of them.
    """

    def __init__(
        self,
        informers: Mapping[tuple[str, str], Follower],
        writes: Queue,
        events: EventQueue,
        election: Election | None,
    ) -> None:
        self._replica = _Replica(informers, writes, events, election)

    def collect(self) -> Iterator[Family]:
        """Return what is so now."""
        return _families(_REPLICA, self._replica)


class ServedCertificate(Protocol):
    """What is read of the CertificateLoader."""

    @property
    def valid_from(self) -> datetime | None:
        """When its validity began; None before one is served."""

    @property
    def expires(self) -> datetime | None:
        """When it expires; None before one is served."""


def _at(time: datetime | None) -> Samples:
    return [((), time.timestamp())] if time else []


_CERTIFICATE: Mapping[Metric, Callable[[ServedCertificate], Samples]] = {
    metrics.CERTIFICATE_EXPIRES: lambda served: _at(served.expires),
    metrics.CERTIFICATE_VALID_FROM: lambda served: _at(served.valid_from),
}


class CertificateCollector(Collector):
    """Reports the validity of the certificate that is served."""

    def __init__(self, served: ServedCertificate) -> None:
        self._served = served

    def collect(self) -> Iterator[Family]:
        """Return what is so now."""
        return _families(_CERTIFICATE, self._served)
