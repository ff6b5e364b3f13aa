"""Posts Events for `kubectl describe`. They are best effort: nothing depends on them."""

import asyncio
import logging
import secrets
import time
from datetime import UTC, datetime
from typing import Literal

from wazzup_operator.kube.client import KubeClient, path
from wazzup_operator.kube.errors import KubeError, Refused
from wazzup_operator.resources.base import JSON

log = logging.getLogger(__name__)

REPORTING_CONTROLLER = "wazzup.dev/operator"
_QUEUE_SIZE = 1000
_WORKERS = 4
_BURST, _REFILL_SECONDS = 25.0, 300.0
"""Rate limit per object, as in client-go: a burst, then one Event each interval."""
_MAX_NOTE_BYTES = 1024
"""Limit of the API server."""


class EventRecorder:
    """Posts Events in the background; `instance` is the reporting replica."""

    def __init__(self, client: KubeClient, instance: str) -> None:
        self._client = client
        self._queue: asyncio.Queue[JSON] = asyncio.Queue(_QUEUE_SIZE)
        self._tokens: dict[str, tuple[float, float]] = {}
        self._failing = False
        self._dropping = False
        self.dropped = 0
        """Number of Events that were not posted, without those over the rate limit."""
        self._instance = instance

    def record(
        self, reference: JSON, type_: Literal["Normal", "Warning"], reason: str, note: str
    ) -> None:
        """Queue an Event about the object, or drop it if the object is over its rate limit."""
        if not self._take_token(str(reference["uid"])):
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
            "note": note.encode()[:_MAX_NOTE_BYTES].decode(errors="ignore"),
            "regarding": reference,
        }
        try:
            self._queue.put_nowait(event)
            self._dropping = False
        except asyncio.QueueFull:
            if not self._dropping:
                log.warning("%d Events are queued; new ones are dropped", _QUEUE_SIZE)
            self._dropping = True
            self.dropped += 1

    @property
    def waiting(self) -> int:
        """Number of queued Events."""
        return self._queue.qsize()

    async def run(self) -> None:
        """Post queued Events until cancelled."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(_WORKERS):
                workers.create_task(self._post_queued())

    async def _post_queued(self) -> None:
        while True:
            event = await self._queue.get()
            try:
                await self._post(event)
            finally:
                self._queue.task_done()

    async def drain(self, seconds: float) -> None:
        """Wait until every queued Event is posted, for at most this long."""
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
                forbidden = isinstance(error, Refused) and error.status == 403
                hint = "; grant the operator create on events.events.k8s.io" if forbidden else ""
                namespace = event["metadata"]["namespace"]
                log.warning("Cannot post an Event in namespace %s: %s%s", namespace, error, hint)
            self._failing = True
            self.dropped += 1
        else:
            self._failing = False

    def _take_token(self, uid: str) -> bool:
        now = time.monotonic()
        left, since = self._tokens.get(uid, (_BURST, now))
        left = min(_BURST, left + (now - since) / _REFILL_SECONDS)
        if left < 1:
            return False
        if len(self._tokens) > 10 * _QUEUE_SIZE:
            self._tokens.clear()
        self._tokens[uid] = (left - 1, now)
        return True
