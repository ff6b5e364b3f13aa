"""Writes statuses: one PATCH for what differs, and never over something newer."""

import asyncio
import enum
import logging
import time
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from wazzup_operator.kube.client import KubeClient, path
from wazzup_operator.kube.errors import KubeError, Refused
from wazzup_operator.kube.slots import Slots
from wazzup_operator.resources.account import WazzupAccount
from wazzup_operator.resources.base import API_VERSION, JSON
from wazzup_operator.resources.channel import WazzupChannel
from wazzup_operator.resources.codec import Resource, Status

log = logging.getLogger(__name__)

T = TypeVar("T", WazzupChannel, WazzupAccount)

STUCK = 120.0
"""Seconds after which a PATCH counts as hung: it has a timeout of a quarter of that."""

CRD_RECHECK = 600.0
"""Seconds after which a status that was not kept whole is tried again: the CRD may be newer now."""

IN_FLIGHT = 16
"""PATCHes under way at once."""


@dataclass(frozen=True, slots=True)
class Written(Generic[T]):
    """The status is stored; this is the object now."""

    object: T


class NotWritten(enum.StrEnum):
    """Why a status was not stored."""

    OUTDATED = "outdated"
    """The object has changed or gone since the plan was made."""

    NOT_KEPT = "not_kept"
    """The API server dropped a part of it before, and would again."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class _NotKept:
    """What was written and what was stored of it, as the CRD was older; `since` is monotonic."""

    written: Status
    stored: Status
    since: float

    def holds(self, status: Status, present: Status) -> bool:
        """Return whether writing this status again would come to the same."""
        return (self.written, self.stored) == (status, present)


def awaits_status(object_: WazzupChannel | WazzupAccount) -> bool:
    """Return whether somebody waits for this status: the object is new, or its spec has changed."""
    return object_.status.observed_generation != object_.metadata.generation


class StatusWriter:
    """Writes statuses, a bounded number at once; those that somebody waits for go first."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._slots = Slots(IN_FLIGHT)
        self._under_way: list[float] = []
        """When each PATCH was begun (the event loop's seconds). Two may be of one object, which has
        been moved to another account."""

        self._not_kept: dict[str, _NotKept] = {}
        self._refusals: dict[str, set[str]] = {}
        self._drops: set[tuple[str, str]] = set()
        self._not_before = 0.0
        self._last_finished = 0.0
        """When a PATCH last came to its end (the event loop's seconds)."""

    @property
    def waiting(self) -> int:
        """How many statuses wait for their turn."""
        return self._slots.waiting

    def wait(self) -> float:
        """Return the seconds that the API server has asked to wait before the next write (429)."""
        return max(0.0, self._not_before - asyncio.get_running_loop().time())

    def stuck(self) -> str | None:
        """Return in a sentence that a PATCH does not end, or that who waits gets no turn."""
        now = asyncio.get_running_loop().time()
        if now - min(self._under_way, default=now) > STUCK:
            return "the write of a status does not end"
        if self.waiting and not self._under_way and now - self._last_finished > STUCK:
            return "statuses wait for a turn to be written, and none comes"
        return None

    async def write(
        self, resource: Resource[T], object_: T, status: Status
    ) -> Written[T] | NotWritten:
        """Let the object have this status, if it is still the version that this was planned for."""
        metadata = object_.metadata
        self._forget_old()
        not_kept = self._not_kept.get(metadata.uid)
        if not_kept and not_kept.holds(status, object_.status):
            return NotWritten.NOT_KEPT
        self._not_kept.pop(metadata.uid, None)
        wanted = resource.status_json(status)
        body = {
            "metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
            "status": merge_patch(resource.status_json(object_.status), wanted),
        }
        target = path(API_VERSION, resource.plural, metadata.namespace, metadata.name, "status")
        try:
            async with self._slots.acquire(urgent=awaits_status(object_)):
                if self.wait():
                    return NotWritten.REFUSED
                begun = asyncio.get_running_loop().time()
                self._under_way.append(begun)
                try:
                    answer = await self._client.merge_patch(target, body)
                finally:
                    self._under_way.remove(begun)
                    self._last_finished = asyncio.get_running_loop().time()
        except KubeError as error:
            return self._failed(resource, error)
        self._refusals.pop(resource.kind, None)
        stored = answer.get("status", {})
        dropped = sorted(
            key for key, value in wanted.items() if not _is_stored(value, stored.get(key))
        )
        if dropped:
            return self._dropped(resource, answer, status, dropped)
        # The resourceVersion in the PATCH makes sure that nothing else is new in it.
        version = replace(metadata, resource_version=answer["metadata"]["resourceVersion"])
        # A resource's status goes with its kind of object, which the types cannot say.
        return Written(replace(object_, metadata=version, status=status))  # type: ignore[arg-type]

    def _forget_old(self) -> None:
        """Forget what is to be tried again; the oldest come first. So nothing deleted stays."""
        while self._not_kept:
            uid, oldest = next(iter(self._not_kept.items()))
            if time.monotonic() - oldest.since < CRD_RECHECK:
                return
            del self._not_kept[uid]

    def _dropped(
        self, resource: Resource[T], answer: JSON, status: Status, dropped: list[str]
    ) -> Written[T]:
        """Remember what the API server did not keep, so that it is not written again and again."""
        stored = resource.decode(answer)
        self._not_kept[stored.metadata.uid] = _NotKept(status, stored.status, time.monotonic())
        for field in dropped:
            if (resource.kind, field) not in self._drops:
                self._drops.add((resource.kind, field))
                log.warning(
                    "The API server did not keep %s of a %s's status: its CRD is older than this"
                    " operator; apply the CRDs that belong to this version",
                    field,
                    resource.kind,
                )
        return Written(stored)

    def _failed(self, resource: Resource[T], error: KubeError) -> NotWritten:
        if isinstance(error, Refused) and error.status in {404, 409}:
            return NotWritten.OUTDATED
        if isinstance(error, Refused) and error.retry_after:
            asked = asyncio.get_running_loop().time() + error.retry_after
            self._not_before = max(self._not_before, asked)
        sentence = f"The status of a {resource.kind} could not be written: {error}"
        if isinstance(error, Refused) and error.status == 403:
            sentence = f"The operator may not patch {resource.plural}/status; grant it this right"
        said = self._refusals.setdefault(resource.kind, set())
        if sentence not in said:
            said.add(sentence)
            log.warning(sentence)
        return NotWritten.REFUSED if isinstance(error, Refused) else NotWritten.UNREACHABLE


def _is_stored(wanted: Any, stored: Any) -> bool:
    """Return whether everything wanted is stored; a newer CRD may have kept more beside it."""
    if isinstance(wanted, dict) and isinstance(stored, dict):
        return all(_is_stored(value, stored.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(stored, list):
        return len(wanted) == len(stored) and all(map(_is_stored, wanted, stored))
    return bool(wanted == stored)


def merge_patch(old: JSON, new: JSON) -> JSON:
    """Return the RFC 7386 patch that makes old into new."""
    patch: dict[str, Any] = dict.fromkeys(old.keys() - new.keys())
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            if inner := merge_patch(before, value):
                patch[key] = inner
        elif key not in old or before != value:
            patch[key] = value
    return patch
