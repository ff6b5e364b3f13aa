"""Events: transitions, for `kubectl describe`. Losing one harms nothing but the telling."""

import asyncio
import logging
import secrets
import time
from datetime import UTC, datetime
from typing import Literal

from wazzup_operator.domain.phone import mask
from wazzup_operator.kube.client import KubeClient, path
from wazzup_operator.kube.errors import KubeError, Refused
from wazzup_operator.resources.base import JSON

log = logging.getLogger(__name__)

REPORTING_CONTROLLER = "wazzup.dev/operator"
_WAITING = 1000
_POSTERS = 4
_BURST, _REFILL = 25.0, 300.0
"""Per object: so many Events at once, and one more each so many seconds, as client-go does."""
_NOTE = 1024
"""Bytes of a note that the API server takes."""


class EventRecorder:
    """Posts Events in the background, a few at once; `instance` is the replica that tells them."""

    def __init__(self, client: KubeClient, instance: str) -> None:
        self._client = client
        self._queue: asyncio.Queue[JSON] = asyncio.Queue(_WAITING)
        self._budgets: dict[str, tuple[float, float]] = {}
        self._failing = False
        self._dropping = False
        self.dropped = 0
        """How many were not posted; those of a flapping object are not counted."""
        self._instance = instance

    def record(
        self, reference: JSON, type_: Literal["Normal", "Warning"], reason: str, note: str
    ) -> None:
        """Have an Event about the object told. A flapping object's surplus is dropped."""
        if not self._within_budget(str(reference["uid"])):
            return
        event: JSON = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{reference['name'][:236]}.{secrets.token_hex(8)}",
                "namespace": reference["namespace"],
            },
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": REPORTING_CONTROLLER,
            "reportingInstance": self._instance,
            "action": "Observe",
            "type": type_,
            "reason": reason,
            "note": mask(note).encode()[:_NOTE].decode(errors="ignore"),
            "regarding": reference,
        }
        try:
            self._queue.put_nowait(event)
            self._dropping = False
        except asyncio.QueueFull:
            if not self._dropping:
                log.warning("More than %d Events are waiting; more are dropped", _WAITING)
            self._dropping = True
            self.dropped += 1

    @property
    def waiting(self) -> int:
        """How many are to be posted."""
        return self._queue.qsize()

    async def run(self) -> None:
        """Post until cancelled."""
        async with asyncio.TaskGroup() as posters:
            for _ in range(_POSTERS):
                posters.create_task(self._post_each())

    async def _post_each(self) -> None:
        while True:
            event = await self._queue.get()
            try:
                await self._post(event)
            finally:
                self._queue.task_done()

    async def drain(self, seconds: float) -> None:
        """Wait until everything is posted, but no longer than this."""
        try:
            await asyncio.wait_for(self._queue.join(), seconds)
        except TimeoutError:
            log.warning("%d Events were not posted", self._queue.qsize())

    async def _post(self, event: JSON) -> None:
        target = path("events.k8s.io/v1", "events", event["metadata"]["namespace"])
        try:
            try:
                await self._client.create(target, event)
            except Refused as refusal:
                if refusal.status != 429:
                    raise
                await asyncio.sleep(refusal.retry_after or 1.0)
                await self._client.create(target, event)
        except KubeError as error:
            if not self._failing:
                log.warning("An Event could not be posted: %s", error)
            self._failing = True
            self.dropped += 1
        else:
            self._failing = False

    def _within_budget(self, uid: str) -> bool:
        now = time.monotonic()
        left, since = self._budgets.get(uid, (_BURST, now))
        left = min(_BURST, left + (now - since) / _REFILL)
        if left < 1:
            return False
        if len(self._budgets) > 10 * _WAITING:
            self._budgets.clear()
        self._budgets[uid] = (left - 1, now)
        return True
