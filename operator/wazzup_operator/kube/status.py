"""Writes statuses: one PATCH for what differs, and never over something newer."""

import asyncio
import enum
import logging
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from wazzup_operator.kube.client import JSON, KubeClient, path
from wazzup_operator.kube.errors import KubeError, Refused
from wazzup_operator.resources.account import WazzupAccount
from wazzup_operator.resources.base import API_VERSION
from wazzup_operator.resources.channel import WazzupChannel
from wazzup_operator.resources.codec import Resource, Status

log = logging.getLogger(__name__)

T = TypeVar("T", WazzupChannel, WazzupAccount)

IN_FLIGHT = 16
"""PATCHes under way at once."""


@dataclass(frozen=True, slots=True)
class Written(Generic[T]):
    """The status is stored; this is the object now."""

    object: T


class NotWritten(enum.Enum):
    """Why a status was not stored."""

    OUTDATED = "the object has changed or gone, and its next version is on its way"
    NOT_KEPT = "the API server dropped a part of it before, and would again"
    FAILED = "the API server refused or could not be reached"


class StatusWriter:
    """Writes statuses, a bounded number at once."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._not_kept: dict[str, tuple[Status, Status]] = {}
        self._said: set[str] = set()

    async def write(
        self, resource: Resource[T], object_: T, status: Status
    ) -> Written[T] | NotWritten:
        """Let the object have this status, if it is still the version that this was planned for."""
        metadata = object_.metadata
        if self._not_kept.get(metadata.uid) == (status, object_.status):
            return NotWritten.NOT_KEPT
        wanted = resource.status_json(status)
        body = {
            "metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
            "status": merge_patch(resource.status_json(object_.status), wanted),
        }
        target = path(API_VERSION, resource.plural, metadata.namespace, metadata.name, "status")
        try:
            async with self._slots:
                answer = await self._client.merge_patch(target, body)
        except KubeError as error:
            return self._failed(resource, error)
        self._said.clear()
        if answer["status"] == wanted:
            # The resourceVersion in the PATCH makes sure that nothing else is new in it.
            version = replace(metadata, resource_version=answer["metadata"]["resourceVersion"])
            self._not_kept.pop(metadata.uid, None)
            # A resource's status goes with its kind of object, which the types cannot say.
            return Written(replace(object_, metadata=version, status=status))  # type: ignore[arg-type]
        stored = resource.decode(answer)
        self._not_kept[metadata.uid] = (status, stored.status)
        lost = sorted(key for key, value in wanted.items() if answer["status"].get(key) != value)
        self._say(
            f"The API server did not keep {', '.join(lost)} of a {resource.kind}'s status: its CRD"
            " is older than this operator; apply the CRDs that belong to this version"
        )
        return Written(stored)

    def _failed(self, resource: Resource[T], error: KubeError) -> NotWritten:
        if isinstance(error, Refused) and error.status in {404, 409}:
            return NotWritten.OUTDATED
        sentence = f"The status of a {resource.kind} could not be written: {error}"
        if isinstance(error, Refused) and error.status == 403:
            sentence = f"The operator may not patch {resource.plural}/status; grant it this right"
        self._say(sentence)
        return NotWritten.FAILED

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            log.warning(sentence)


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
