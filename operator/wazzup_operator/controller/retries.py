"""When statuses that were not written are tried again.

A user waits for an awaited status: the first of a new object or spec. All others are routine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from wazzup_operator.backoff import Backoff
from wazzup_operator.kube.status import NotWritten, awaits_status
from wazzup_operator.resources.account import WazzupAccount
from wazzup_operator.resources.channel import ChannelStatus, WazzupChannel

PlannedStatus = tuple[WazzupChannel, ChannelStatus]

CATCH_UP = 1.0
"""Seconds between two looks whether the watch has brought an object's newer version."""

_BACKOFF = (1.0, 60.0)
"""Minimum and maximum seconds until a status that was refused is written again."""

_LONGEST_CATCH_UP = 60.0
"""Seconds without a newer version after which an outdated object's status is written again: a 409
or 404 can have another cause."""

_NEVER = float("inf")


@dataclass(slots=True)
class _Retry:
    """An object whose status was not written.

    `outdated` is the object if the API server has a newer one. After a restore of etcd, another
    may have its version.
    """

    generation: int
    outdated: WazzupChannel | WazzupAccount | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(*_BACKOFF))
    due: float = 0.0


class Retries:
    """Backs off each object on its own; times are the event loop's seconds."""

    def __init__(self) -> None:
        self._by_uid: dict[str, _Retry] = {}

    def select(self, statuses: Sequence[PlannedStatus], now: float) -> list[PlannedStatus]:
        """Return the statuses that may be written now, awaited ones first."""
        ready = [each for each in statuses if self.may_write(each[0], now)]
        return sorted(ready, key=lambda each: not awaits_status(each[0]))

    def may_write(self, object_: WazzupChannel | WazzupAccount, now: float) -> bool:
        """Return whether the object's status may be written: at once after a new generation."""
        metadata = object_.metadata
        retry = self._by_uid.get(metadata.uid)
        if retry is None or retry.generation != metadata.generation:
            return True
        caught_up = retry.outdated is not None and retry.outdated is not object_
        return caught_up or now >= retry.due

    def record(
        self, object_: WazzupChannel | WazzupAccount, failure: NotWritten | None, now: float
    ) -> None:
        """Record whether the object's status was written."""
        metadata = object_.metadata
        retry = self._by_uid.pop(metadata.uid, None)
        if failure not in {NotWritten.OUTDATED, NotWritten.REFUSED}:
            return
        if retry is None or retry.generation != metadata.generation:
            retry = _Retry(metadata.generation)
        if failure is NotWritten.OUTDATED:
            retry.outdated, retry.due = object_, now + _LONGEST_CATCH_UP
        else:
            retry.outdated, retry.due = None, now + retry.backoff.fail()
        self._by_uid[metadata.uid] = retry

    def keep(self, uids: set[str]) -> None:
        """Forget the objects that no longer need a write."""
        self._by_uid = {uid: retry for uid, retry in self._by_uid.items() if uid in uids}

    def next_due(self, now: float) -> float:
        """Return when the next status may be written again."""
        dues = (now + CATCH_UP if each.outdated else each.due for each in self._by_uid.values())
        return min(dues, default=_NEVER)
