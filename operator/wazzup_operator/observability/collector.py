"""Metrics that are read when they are scraped, so that they are never older than what they tell of.

`collect` runs beside the event loop, in a thread: it copies what it needs of a dictionary in one
step, and what it then looks at is immutable.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from prometheus_client.registry import Collector

from wazzup_operator.domain.states import State
from wazzup_operator.observability.metrics import (
    ACCOUNT_FAILURES,
    ACCOUNT_LAST_SYNC,
    ACCOUNT_UNMANAGED,
    ACCOUNT_UP,
    CERTIFICATE_EXPIRES,
    CHANNEL_READY,
    CHANNEL_STATE,
    CHANNEL_STATE_SINCE,
    CHANNELS,
    CHANNELS_WITHOUT_SERIES,
    EVENTS_DROPPED,
    LEADER,
    QUEUE_DEPTH,
    RELISTS,
    WATCH_SILENCE,
    Family,
    Metric,
)
from wazzup_operator.resources.account import AccountStatus, WazzupAccount
from wazzup_operator.resources.base import READY, NamespacedName, find
from wazzup_operator.resources.channel import ChannelStatus, WazzupChannel

Samples = Iterable[tuple[tuple[str, ...], float]]
"""Values of labels, and the value."""


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


def _family(metric: Metric, samples: Samples) -> Family:
    family = metric.family()
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


class StoreCollector(Collector):
    """Tells of channels and accounts; only the leader has one, or each object would count twice.

    `sync` returns what is remembered of an account, `limit` is how many objects have series of
    their own.
    """

    _METRICS = (
        CHANNELS,
        CHANNEL_STATE,
        CHANNEL_READY,
        CHANNEL_STATE_SINCE,
        CHANNELS_WITHOUT_SERIES,
        ACCOUNT_UP,
        ACCOUNT_LAST_SYNC,
        ACCOUNT_FAILURES,
        ACCOUNT_UNMANAGED,
    )

    def __init__(
        self,
        source: ObjectSource,
        sync: Callable[[NamespacedName], SyncSource | None],
        limit: int,
    ) -> None:
        self._source, self._sync, self._limit = source, sync, limit

    def describe(self) -> list[Family]:
        """Return the metrics without samples, so that registering reads nothing."""
        return [metric.family() for metric in self._METRICS]

    def collect(self) -> Iterator[Family]:
        """Return what the Store says now."""
        channels, accounts = self._source.all_channels(), self._source.all_accounts()
        shown = sorted(channels, key=_needs_nobody)[: self._limit]
        yield _family(CHANNELS, self._counts(channels))
        yield _family(CHANNEL_STATE, map(_state_of, shown))
        yield _family(
            CHANNEL_READY,
            (
                (each.metadata.key, ready)
                for each in shown
                if (ready := _ready(each.recorded)) is not None
            ),
        )
        yield _family(
            CHANNEL_STATE_SINCE,
            (
                (each.metadata.key, each.recorded.state_since.timestamp())
                for each in shown
                if each.recorded.state_since
            ),
        )
        yield _family(CHANNELS_WITHOUT_SERIES, [((), len(channels) - len(shown))])
        yield _family(
            ACCOUNT_UP,
            (
                (each.metadata.key, up)
                for each in accounts
                if (up := _ready(each.status)) is not None
            ),
        )
        yield _family(ACCOUNT_LAST_SYNC, self._last_syncs(accounts))
        yield _family(
            ACCOUNT_FAILURES,
            (
                (each.metadata.key, sync.failures)
                for each in accounts
                if (sync := self._sync(each.metadata.key))
            ),
        )
        yield _family(
            ACCOUNT_UNMANAGED,
            ((each.metadata.key, len(each.status.unmanaged)) for each in accounts),
        )

    def _counts(self, channels: Iterable[WazzupChannel]) -> Samples:
        """Return the counts, zeros included: `state == 0` can be alerted on."""
        counts: Counter[tuple[str, ...]] = Counter()
        for account in self._source.account_keys():
            for state in State:
                for active in (True, False):
                    counts[*account, str(state), _spelled(active)] = 0
        for channel in channels:
            state_name = channel.recorded.state or State.UNKNOWN
            counts[*channel.account_key, str(state_name), _spelled(channel.spec.active)] += 1
        return counts.items()

    def _last_syncs(
        self, accounts: Iterable[WazzupAccount]
    ) -> Iterator[tuple[tuple[str, ...], float]]:
        for account in accounts:
            sync = self._sync(account.metadata.key)
            last = (sync.last_sync if sync else None) or account.status.last_sync_time
            if last:
                yield account.metadata.key, last.timestamp()


class Follower(Protocol):
    """What is read of an informer."""

    lists: int
    """How often it has listed everything."""

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


class ReplicaCollector(Collector):
    """Tells of the replica itself, be it the leader or not.

    The informers go by (resource, namespace), where an empty namespace is all of them.
    """

    def __init__(
        self,
        informers: Mapping[tuple[str, str], Follower],
        writes: Queue,
        events: EventQueue,
        election: Election | None,
    ) -> None:
        self._informers, self._writes = informers, writes
        self._events, self._election = events, election

    def collect(self) -> Iterator[Family]:
        """Return what is so now."""
        followed = self._informers.items()
        yield _family(WATCH_SILENCE, [(key, each.silence) for key, each in followed])
        yield _family(RELISTS, [(key, each.lists) for key, each in followed])
        waiting = {"status-writes": self._writes.waiting, "events": self._events.waiting}
        yield _family(QUEUE_DEPTH, [((name,), count) for name, count in waiting.items()])
        yield _family(EVENTS_DROPPED, [((), self._events.dropped)])
        if self._election:
            yield _family(LEADER, [((self._election.name,), self._election.leads)])


class CertificateCollector(Collector):
    """Tells until when the served certificate is valid; `expires` returns that."""

    def __init__(self, expires: Callable[[], datetime | None]) -> None:
        self._expires = expires

    def collect(self) -> Iterator[Family]:
        """Return what is so now."""
        expires = self._expires()
        yield _family(CERTIFICATE_EXPIRES, [((), expires.timestamp())] if expires else [])


def _state_of(channel: WazzupChannel) -> tuple[tuple[str, ...], float]:
    labels = (
        *channel.metadata.key,
        channel.account_key.name,
        channel.spec.transport,
        _spelled(channel.spec.active),
        str(channel.recorded.state or State.UNKNOWN),
    )
    return labels, 1.0


def _ready(status: ChannelStatus | AccountStatus) -> float | None:
    """Return 1 or 0, or None where it is not known."""
    ready = find(status.conditions, READY)
    return None if ready is None or ready.status == "Unknown" else float(ready.status == "True")


def _needs_nobody(channel: WazzupChannel) -> bool:
    return _ready(channel.recorded) == 1.0


def _spelled(active: bool) -> str:
    return str(active).lower()
