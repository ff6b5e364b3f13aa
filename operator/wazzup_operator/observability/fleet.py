"""Metrics of channels and accounts, computed from the Store at scrape time."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol, TypeVar

from wazzup_operator.domain.reasons import Reason
from wazzup_operator.domain.states import State
from wazzup_operator.observability import metrics
from wazzup_operator.observability.metrics import Metric, Samples
from wazzup_operator.resources.account import AccountStatus, WazzupAccount
from wazzup_operator.resources.base import READY, Condition, NamespacedName, find
from wazzup_operator.resources.channel import WazzupChannel
from wazzup_operator.settings import series_label

T = TypeVar("T", WazzupChannel, WazzupAccount)


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


_Kind = tuple[str, str]
"""The labels `active` and `ready` of a channel."""

_SERIES_ORDER: tuple[_Kind, ...] = (
    ("true", "false"),
    ("false", "false"),
    ("true", "unknown"),
    ("false", "unknown"),
    ("true", "true"),
    ("false", "true"),
)
"""Which channels get their own series first. Anybody can have Unknown and paused ones by the
thousand, so they come after those that alert."""

_UNKNOWN: _Kind = ("true", "unknown")
_READY_LABELS = {"True": "true", "False": "false", "Unknown": "unknown"}


class _Fleet:
    """Channels and accounts at one scrape; up to `limit` channels get their own series."""

    def __init__(
        self,
        channels: Iterable[WazzupChannel],
        accounts: Sequence[WazzupAccount],
        sync: Callable[[NamespacedName], SyncSource | None],
        limit: int,
        labels: Sequence[str],
    ) -> None:
        self.accounts, self.sync, self.limit, self.labels = accounts, sync, limit, labels
        self._existing = {account.metadata.key for account in accounts}
        # Each account has at least one series, so that queries know it.
        self.counts: Counter[tuple[str, ...]] = Counter(
            {(*account, str(State.ACTIVE), "true"): 0 for account in self._existing}
        )
        self.without_account = Counter({account.namespace: 0 for account in self._existing})
        self.unknown_since: dict[NamespacedName, datetime] = {}
        self.by_kind: dict[_Kind, list[WazzupChannel]] = {kind: [] for kind in _SERIES_ORDER}
        for channel in channels:
            self._add(channel)

    @property
    def shown(self) -> Iterable[WazzupChannel]:
        """The channels with their own series."""
        left = self.limit
        for channels in self.by_kind.values():
            yield from channels if len(channels) <= left else _in_turns(channels)[:left]
            left = max(0, left - len(channels))

    def _add(self, channel: WazzupChannel) -> None:
        """Count a channel, under no account if its account does not exist.

        Otherwise, whoever may create objects could create any number of series.
        """
        account, recorded = channel.account_key, channel.recorded
        ready = find(recorded.conditions, READY)
        active, _ = kind = _kind(channel, ready)
        self.by_kind[kind].append(channel)
        exists = account in self._existing
        name, state = account.name if exists else "", recorded.state or State.UNKNOWN
        self.counts[account.namespace, name, str(state), active] += 1
        if channel.spec.active and not exists:
            self.without_account[account.namespace] += not channel.metadata.paused
        elif kind == _UNKNOWN and (since := _unknown_since(channel, ready)):
            self.unknown_since[account] = min(since, self.unknown_since.get(account, since))


def _in_turns(channels: Iterable[WazzupChannel]) -> list[WazzupChannel]:
    """Return the channels with one of each namespace first, then the second of each, and so on.

    So thousands in one namespace hide none of another.
    """
    numbers: Counter[str] = Counter()

    def number(channel: WazzupChannel) -> int:
        numbers[channel.metadata.namespace] += 1
        return numbers[channel.metadata.namespace]

    return sorted(channels, key=number)


def _kind(channel: WazzupChannel, ready: Condition | None) -> _Kind:
    return _bool_label(channel.spec.active), _READY_LABELS[ready.status] if ready else "unknown"


def _unknown_since(channel: WazzupChannel, ready: Condition | None) -> datetime | None:
    """Return since when Ready is Unknown, or None if the object is paused."""
    if channel.metadata.paused or (ready and ready.reason == Reason.PAUSED):
        return None
    return ready.last_transition_time if ready else channel.metadata.creation_timestamp


def _states(fleet: _Fleet) -> Samples:
    for channel in fleet.shown:
        ready = find(channel.recorded.conditions, READY)
        action = channel.recorded.action
        active, is_ready = _kind(channel, ready)
        own = dict(channel.metadata.labels)
        labels = (
            *channel.metadata.key,
            channel.account_key.name,
            channel.spec.transport,
            active,
            str(channel.recorded.state or State.UNKNOWN),
            is_ready,
            ready.reason if ready else "",
            (action.by if action else None) or "",
            *(own.get(key, "") for key in fleet.labels),
        )
        yield labels, 1.0


def _without_series(fleet: _Fleet) -> Samples:
    left = fleet.limit
    for kind, channels in fleet.by_kind.items():
        yield kind, max(0, len(channels) - left)
        left = max(0, left - len(channels))


def _last_syncs(fleet: _Fleet) -> Samples:
    for account in fleet.accounts:
        sync = fleet.sync(account.metadata.key)
        last = (sync.last_sync if sync else None) or account.status.last_sync_time
        if last:
            yield account.metadata.key, last.timestamp()


def _failures(fleet: _Fleet) -> Samples:
    for account in fleet.accounts:
        sync = fleet.sync(account.metadata.key)
        if sync and sync.failures:
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


def _ready(status: AccountStatus) -> float | None:
    """Return 1 or 0, or None if Ready is missing or Unknown."""
    ready = find(status.conditions, READY)
    return None if ready is None or ready.status == "Unknown" else float(ready.status == "True")


def _bool_label(value: bool) -> str:
    return "true" if value else "false"


_FLEET: Mapping[Metric, Callable[[_Fleet], Samples]] = {
    metrics.CHANNEL_COUNTS: lambda fleet: fleet.counts.items(),
    metrics.CHANNEL_STATE: _states,
    metrics.CHANNEL_STATE_SINCE: lambda fleet: _each(fleet.shown, _state_since),
    metrics.CHANNELS_WITHOUT_SERIES: _without_series,
    metrics.CHANNELS_WITHOUT_ACCOUNT: lambda fleet: (
        ((namespace,), number) for namespace, number in fleet.without_account.items()
    ),
    metrics.ACCOUNT_UP: lambda fleet: _each(fleet.accounts, lambda account: _ready(account.status)),
    metrics.ACCOUNT_LAST_SYNC: _last_syncs,
    metrics.ACCOUNT_FAILURES: _failures,
    metrics.ACCOUNT_UNMANAGED: lambda fleet: _each(
        fleet.accounts, lambda account: len(account.status.unmanaged) or None
    ),
    metrics.ACCOUNT_UNKNOWN_SINCE: lambda fleet: (
        (account, since.timestamp()) for account, since in fleet.unknown_since.items()
    ),
}


class FleetMetrics:
    """Metrics of channels and accounts.

    Only the leader exposes them; otherwise each object would count twice. `sync` returns an
    account's memory. `limit` is how many channels get their own series, `labels` which of their
    labels these have too.
    """

    def __init__(
        self,
        source: ObjectSource,
        sync: Callable[[NamespacedName], SyncSource | None],
        limit: int,
        labels: Sequence[str] = (),
    ) -> None:
        self._source, self._sync, self._limit, self._labels = source, sync, limit, labels

    def text(self) -> str:
        """Return everything in the Store in the text format.

        May run in a thread beside the event loop: it copies each dictionary in one step, and the
        values are immutable.
        """
        channels, accounts = self._source.all_channels(), self._source.all_accounts()
        fleet = _Fleet(channels, accounts, self._sync, self._limit, self._labels)
        return "".join(
            self._with_labels(metric).text(samples(fleet)) for metric, samples in _FLEET.items()
        )

    def _with_labels(self, metric: Metric) -> Metric:
        if metric is not metrics.CHANNEL_STATE:
            return metric
        return replace(metric, labels=(*metric.labels, *map(series_label, self._labels)))
