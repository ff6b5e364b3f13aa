"""The informer: a Store that follows the API server, as client-go's Reflector does.

List in pages, replace the Store's content, then watch from there; on 410 list again; on any other
end watch again from the last version. What vanished while no watch was up is gone with the next
list, by comparison, so that nothing depends on having seen an event.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from wazzup_operator.backoff import Backoff
from wazzup_operator.kube.client import NO_API_SERVER, KubeClient
from wazzup_operator.kube.errors import ConnectionFailed, Expired, KubeError, Refused
from wazzup_operator.resources.base import JSON, NamespacedName

log = logging.getLogger(__name__)

T = TypeVar("T")

PAGE = 500
WATCH_TIMEOUT = 150.0
"""Seconds without event or bookmark after which a watch is dead; bookmarks come each minute."""

_BACKOFF = (0.2, 10.0)
"""Seconds at least and at most between two tries that failed."""


class Sink(Protocol[T]):
    """Where the informer keeps what it learns: a scope of the Store."""

    def replace(self, objects: list[T]) -> None:
        """Let these be all there is."""

    def has(self, key: NamespacedName, uid: str, version: str) -> bool:
        """Return whether this very version of an object is there already."""

    def upsert(self, object_: T) -> None:
        """Add or renew one object."""

    def remove(self, key: NamespacedName, uid: str) -> None:
        """Take the object of this name away, if it is still the one of this uid."""


class Informer(Generic[T]):
    """Keeps a sink equal to one collection of the API server.

    `decode` makes an object of its JSON, or returns None for one that cannot be read.
    """

    def __init__(
        self,
        client: KubeClient,
        path: str,
        decode: Callable[[JSON], T | None],
        sink: Sink[T],
    ) -> None:
        self._client = client
        self._path = path
        self._decode = decode
        self._sink = sink
        self._version = ""
        self._trouble: str | None = None
        self._backoff = Backoff(*_BACKOFF)
        self._event_received = False
        self.synced = asyncio.Event()
        self.last_progress = time.monotonic()
        """When it last got a page or an event, or failed (monotonic seconds)."""

        self.last_event = time.monotonic()
        """When it last listed all or heard of something (monotonic seconds)."""

        self.lists = 0
        """How often it has listed everything."""

    @property
    def silence(self) -> float:
        """Seconds since it listed all or heard of something, be it a bookmark."""
        return time.monotonic() - self.last_event

    @property
    def trouble(self) -> str | None:
        """What keeps it from following, in a sentence; None while it follows."""
        return self._trouble

    def __str__(self) -> str:
        return f"the informer of {self._path}"

    async def run(self) -> None:
        """Follow until cancelled. After a surprise, running it again lists anew."""
        self._version = ""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except Expired as error:
                if not self._event_received:  # in the middle of a list, or right after one
                    await self._wait_after(error)
                self._version = ""
            except KubeError as error:
                await self._wait_after(error)
            except Exception as surprise:
                plural = self._path.rsplit("/", 1)[-1]
                self._trouble = f"{plural} cannot be followed: {type(surprise).__name__}"
                # Begun again it may come to the same; a new process would not even know what is
                # known here.
                self.last_progress = time.monotonic()
                raise

    async def _wait_after(self, error: KubeError) -> None:
        self.last_progress = time.monotonic()
        sentence = _explain(self._path, error)
        if sentence != self._trouble:
            log.warning("%s; trying again", sentence)
        self._trouble = sentence
        asked = error.retry_after if isinstance(error, Refused) else None
        await asyncio.sleep(max(self._backoff.fail(), asked or 0.0))

    def stuck(self) -> str | None:
        """Return in a sentence that neither an event nor a failure has come for too long."""
        if time.monotonic() - self.last_progress > 2 * WATCH_TIMEOUT:
            return f"{self} has not turned for too long"
        return None

    def _works(self) -> None:
        if self._trouble:
            log.info("%s is followed again", self._path)
        self._trouble = None
        self.last_progress = self.last_event = time.monotonic()

    async def _list(self) -> None:
        self._event_received = False
        objects: list[T] = []
        query = {"limit": str(PAGE)}
        while True:
            page = await self._client.get(self._path, query)
            if not isinstance(page.get("items"), list) or "resourceVersion" not in (
                page.get("metadata") or {}
            ):
                raise ConnectionFailed(NO_API_SERVER)
            objects += [
                decoded for item in page["items"] if (decoded := self._decode(item)) is not None
            ]
            self.last_progress = time.monotonic()
            token = page["metadata"].get("continue")
            if not token:
                break
            query["continue"] = token
        self._sink.replace(objects)
        self.lists += 1
        self._version = page["metadata"]["resourceVersion"]
        self.synced.set()
        self._works()

    async def _watch(self) -> None:
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(random.randint(300, 600)),
        }
        started = time.monotonic()
        async with self._client.watch(self._path, query, WATCH_TIMEOUT) as events:
            async for event in events:
                self._take(event)
        if time.monotonic() - started < 1.0:
            # A server that ends every watch at once must not be asked in a tight loop.
            await asyncio.sleep(self._backoff.fail())

    def _take(self, event: dict[str, Any]) -> None:
        kind, body = event.get("type"), event["object"]
        if kind == "ERROR":
            if body.get("code") == 410:
                raise Expired(str(body.get("message")))
            raise Refused(int(body.get("code") or 0), f"the watch ended: {body.get('message')}")
        metadata = body.get("metadata")
        if not isinstance(metadata, dict) or "resourceVersion" not in metadata:
            raise ConnectionFailed(NO_API_SERVER)
        self._version = metadata["resourceVersion"]
        self._event_received = True
        self._backoff.succeed()
        self._works()
        if kind == "BOOKMARK":
            return
        key = NamespacedName.of(metadata)
        if kind == "DELETED":
            self._sink.remove(key, metadata["uid"])
        elif not self._sink.has(key, metadata["uid"], self._version):
            decoded = self._decode(body)
            if decoded is None:
                self._sink.remove(key, metadata["uid"])
            else:
                self._sink.upsert(decoded)


def _explain(path: str, error: KubeError) -> str:
    plural = path.rsplit("/", 1)[-1]
    if isinstance(error, Refused) and error.status == 404:
        return f"The API server does not know {plural} of this version; apply the CRDs (crds/)"
    if isinstance(error, Refused) and error.status == 403:
        return f"The operator may not list and watch {plural}; grant it these rights ({error})"
    if isinstance(error, Refused) and error.status == 401:
        return f"The API server does not take the operator's credentials ({error})"
    return f"{plural} cannot be followed: {error}"
