"""Writes statuses: one PATCH with the differences, which never overwrites a newer version."""

import asyncio
import enum
import logging
import time
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from wazzup_operator.kube.client import KubeClient, path
from wazzup_operator.kube.errors import APPLY_CRDS, KubeError, Refused
from wazzup_operator.kube.slots import Slots
from wazzup_operator.resources.account import WazzupAccount
from wazzup_operator.resources.base import API_VERSION, JSON, NamespacedName
from wazzup_operator.resources.channel import WazzupChannel
from wazzup_operator.resources.codec import Resource, Status

log = logging.getLogger(__name__)

T = TypeVar("T", WazzupChannel, WazzupAccount)

STUCK = 120.0
"""Seconds after which a PATCH counts as stuck: four times its timeout."""

CRD_RECHECK = 600.0
"""Seconds until a status that was pruned is written again: the CRD may have been upgraded."""

IN_FLIGHT = 16
"""Concurrent PATCHes."""


@dataclass(frozen=True, slots=True)
class Written(Generic[T]):
    """The status was stored; `object` is the new version."""

    object: T


class NotWritten(enum.StrEnum):
    """Why a status was not stored."""

    OUTDATED = "outdated"
    """The object was changed or deleted since the plan was made."""

    NOT_KEPT = "not_kept"
    """The API server pruned a part of this status before, and would again."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class _NotKept:
    """What was written and what an older CRD kept of it; `since` is in monotonic seconds."""

    written: Status
    stored: Status
    since: float

    def applies(self, status: Status, present: Status) -> bool:
        """Return whether writing this status again would have the same result."""
        return (self.written, self.stored) == (status, present)


def awaits_status(object_: WazzupChannel | WazzupAccount) -> bool:
    """Return whether a user waits for this status: the object is new, or its spec has changed."""
    return object_.status.observed_generation != object_.metadata.generation


class StatusWriter:
    """Writes statuses, at most IN_FLIGHT at once, awaited ones of a namespace first."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._slots = Slots(IN_FLIGHT)
        self._started: list[float] = []
        """Start time of each PATCH (the event loop's seconds). Two may be for one object that was
        moved to another account."""

        self._not_kept: dict[str, _NotKept] = {}
        self._logged: dict[str, set[str]] = {}
        self._drops: set[tuple[str, str]] = set()
        self._not_before = 0.0
        self._last_finished = 0.0
        """When a PATCH last ended (the event loop's seconds)."""

    @property
    def waiting(self) -> int:
        """Number of statuses waiting for a slot."""
        return self._slots.waiting

    def retry_after(self) -> float:
        """Return the seconds that the API server asks to wait before the next write (429)."""
        return max(0.0, self._not_before - asyncio.get_running_loop().time())

    def stuck(self) -> str | None:
        """Return a sentence if a PATCH does not end, or if waiters get no slot."""
        now = asyncio.get_running_loop().time()
        if now - min(self._started, default=now) > STUCK:
            return "a status write is stuck"
        if self.waiting and not self._started and now - self._last_finished > STUCK:
            return "status writes are waiting and none starts"
        return None

    async def write(
        self, resource: Resource[T], object_: T, status: Status
    ) -> Written[T] | NotWritten:
        """Write the status, unless the object has changed since this version."""
        metadata = object_.metadata
        self._drop_expired()
        not_kept = self._not_kept.get(metadata.uid)
        if not_kept and not_kept.applies(status, object_.status):
            return NotWritten.NOT_KEPT
        self._not_kept.pop(metadata.uid, None)
        wanted = resource.status_json(status)
        body = {
            "metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
            "status": merge_patch(resource.status_json(object_.status), wanted),
        }
        target = path(API_VERSION, resource.plural, metadata.namespace, metadata.name, "status")
        try:
            urgent = awaits_status(object_)
            async with self._slots.acquire(metadata.namespace, urgent=urgent):
                if self.retry_after():
                    return NotWritten.REFUSED
                started = asyncio.get_running_loop().time()
                self._started.append(started)
                try:
                    answer = await self._client.merge_patch(target, body)
                finally:
                    self._started.remove(started)
                    self._last_finished = asyncio.get_running_loop().time()
        except KubeError as error:
            return self._failed(resource, metadata.key, error)
        self._logged.pop(resource.kind, None)
        stored = answer.get("status", {})
        dropped = sorted(
            key for key, value in wanted.items() if not _is_stored(value, stored.get(key))
        )
        if dropped:
            return self._dropped(resource, object_, answer, status, dropped)
        # The resourceVersion in the PATCH guarantees that nothing else has changed.
        version = replace(metadata, resource_version=answer["metadata"]["resourceVersion"])
        # A resource's status matches its kind of object; the types cannot express that.
        return Written(replace(object_, metadata=version, status=status))  # type: ignore[arg-type]

    def _drop_expired(self) -> None:
        """Drop entries that are due for a recheck, also those of deleted objects; oldest first."""
        while self._not_kept:
            uid, oldest = next(iter(self._not_kept.items()))
            if time.monotonic() - oldest.since < CRD_RECHECK:
                return
            del self._not_kept[uid]

    def _dropped(
        self,
        resource: Resource[T],
        object_: T,
        answer: JSON,
        status: Status,
        dropped: list[str],
    ) -> Written[T]:
        """Remember what the API server pruned, so that it is not written in every pass."""
        stored = resource.decode(answer, [key for key, _ in object_.metadata.labels])
        self._not_kept[stored.metadata.uid] = _NotKept(status, stored.status, time.monotonic())
        for field in dropped:
            if (resource.kind, field) not in self._drops:
                self._drops.add((resource.kind, field))
                log.warning(
                    "The API server did not keep %s in the status of a %s: the CRD is older than"
                    " the operator; %s",
                    field,
                    resource.kind,
                    APPLY_CRDS,
                )
        return Written(stored)

    def _failed(self, resource: Resource[T], key: NamespacedName, error: KubeError) -> NotWritten:
        if isinstance(error, Refused) and error.status in {404, 409}:
            return NotWritten.OUTDATED
        if isinstance(error, Refused) and error.retry_after:
            asked = asyncio.get_running_loop().time() + error.retry_after
            self._not_before = max(self._not_before, asked)
        logged = self._logged.setdefault(resource.kind, set())
        if str(error) not in logged:
            logged.add(str(error))
            hint = ""
            if isinstance(error, Refused) and error.status == 403:
                hint = f"; grant the operator patch on {resource.plural}/status there"
            log.warning("Cannot write the status of %s %s: %s%s", resource.kind, key, error, hint)
        return NotWritten.REFUSED if isinstance(error, Refused) else NotWritten.UNREACHABLE


def _is_stored(wanted: Any, stored: Any) -> bool:
    """Return whether everything wanted is stored; a newer CRD may add fields."""
    if isinstance(wanted, dict) and isinstance(stored, dict):
        return all(_is_stored(value, stored.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(stored, list):
        return len(wanted) == len(stored) and all(map(_is_stored, wanted, stored))
    return bool(wanted == stored)


def merge_patch(old: JSON, new: JSON) -> JSON:
    """Return the RFC 7386 patch from old to new."""
    patch: dict[str, Any] = dict.fromkeys(old.keys() - new.keys())
    for key, value in new.items():
        present = old.get(key)
        if isinstance(present, dict) and isinstance(value, dict):
            if inner := merge_patch(present, value):
                patch[key] = inner
        elif key not in old or present != value:
            patch[key] = value
    return patch
