"""Metrics computed at scrape time, so that they are never out of date.

Each collector maps metrics to functions that return their samples. `collect` runs in a thread
beside the event loop. That is safe because it copies a dictionary in one step and the values are
immutable.
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
"""Pairs of label values and value."""


def _families(table: Mapping[Metric, Callable[[S], Samples]], source: S) -> Iterator[Family]:
    for metric, samples in table.items():
        family = metric.family()
        for labels, value in samples(source):
            family.add_metric(labels, value)
        yield family


class ObjectSource(Protocol):
    """The part of the Store that a scrape reads."""

    def all_channels(self) -> Sequence[WazzupChannel]:
        """Return every channel."""

    def all_accounts(self) -> Sequence[WazzupAccount]:
        """Return every account object."""


class SyncSource(Protocol):
    """The part of an account's memory that a scrape reads."""

    @property
    def last_sync(self) -> datetime | None:
        """The last time this process listed the account."""

    @property
    def failures(self) -> int:
        """Consecutive listings that failed."""


@dataclass(frozen=True, slots=True)
class _Fleet:
    """Channels and accounts at one scrape; `shown` are the channels with their own series."""

    channels: Sequence[WazzupChannel]
    shown: Sequence[WazzupChannel]
    accounts: Sequence[WazzupAccount]
    sync: Callable[[NamespacedName], SyncSource | None]


def _counts(fleet: _Fleet) -> Samples:
    """Count channels, including zeros, so that an alert can compare with 0."""
    counts: Counter[tuple[str, ...]] = Counter()
    # From the same copies as the counts: the Store may have changed since.
    referred = {channel.account_key for channel in fleet.channels}
    for account in referred | {each.metadata.key for each in fleet.accounts}:
        for state in State:
            for active in (True, False):
                counts[*account, str(state), _bool_label(active)] = 0
    for channel in fleet.channels:
        state_name = channel.recorded.state or State.UNKNOWN
        counts[*channel.account_key, str(state_name), _bool_label(channel.spec.active)] += 1
    return counts.items()


def _states(fleet: _Fleet) -> Samples:
    for channel in fleet.shown:
        ready = find(channel.recorded.conditions, READY)
        action = channel.recorded.action
        labels = (
            *channel.metadata.key,
            channel.account_key.name,
            channel.spec.transport,
            _bool_label(channel.spec.active),
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
    """Return one sample per object that has a value."""
    for each in objects:
        found = value(each)
        if found is not None:
            yield each.metadata.key, found


def _state_since(channel: WazzupChannel) -> float | None:
    since = channel.recorded.state_since
    return since.timestamp() if since else None


def _ready(status: ChannelStatus | AccountStatus) -> float | None:
    """Return 1 or 0, or None if Ready is missing or Unknown."""
    ready = find(status.conditions, READY)
    return None if ready is None or ready.status == "Unknown" else float(ready.status == "True")


def _is_ready(channel: WazzupChannel) -> bool:
    return _ready(channel.recorded) == 1.0


def _bool_label(value: bool) -> str:
    return str(value).lower()


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
    """Metrics of channels and accounts.

    Only the leader registers one; otherwise each object would count twice. `sync` returns an
    account's memory. `limit` is how many channels get their own series.
    """

    def __init__(
        self,
        source: ObjectSource,
        sync: Callable[[NamespacedName], SyncSource | None],
        limit: int,
    ) -> None:
        self._source, self._sync, self._limit = source, sync, limit

    def describe(self) -> list[Family]:
        """Return the metrics without samples, so that registering does not read the Store."""
        return [metric.family() for metric in _FLEET]

    def collect(self) -> Iterator[Family]:
        """Return the samples of everything in the Store."""
        channels, accounts = self._source.all_channels(), self._source.all_accounts()
        shown = sorted(channels, key=_is_ready)[: self._limit]
        return _families(_FLEET, _Fleet(channels, shown, accounts, self._sync))


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
