"""List and watch, like client-go's Reflector.

List in pages, replace the Store's content, then watch from the list's version. If the API server
closes a watch normally, watch again from the last version; after any other end, list again. After
etcd was restored, versions are lower, and a watch from the old version would deliver nothing.
Objects deleted while no watch was open are missing from the next list, so nothing depends on having
seen an event.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from wazzup_operator.backoff import Backoff
from wazzup_operator.kube.client import NO_API_SERVER, KubeClient
from wazzup_operator.kube.errors import (
    APPLY_CRDS,
    ConnectionFailed,
    KubeError,
    Refused,
    TooLarge,
)
from wazzup_operator.resources.base import JSON, NamespacedName

log = logging.getLogger(__name__)

T = TypeVar("T")

PAGE = 500
"""Objects in a page; fewer where they are so large that the client refuses the page."""

WATCH_TIMEOUT = 150.0
"""Seconds without an event after which a watch counts as dead; bookmarks come every minute."""

_BACKOFF = (0.2, 10.0)
"""Minimum and maximum seconds until the next list or watch."""

_STABLE = 10.0
"""Seconds after which a watch that delivers an event works: until then, the backoff grows."""


class Sink(Protocol[T]):
    """Where the informer stores objects: a Scope of the Store."""

    async def replace(self, objects: list[T]) -> None:
        """Replace the whole content."""

    def has(self, key: NamespacedName, uid: str, version: str) -> bool:
        """Return whether exactly this version of the object is stored."""

    def upsert(self, object_: T) -> None:
        """Add or update one object."""

    def remove(self, key: NamespacedName, uid: str) -> None:
        """Remove the object if it still has this uid."""


class Informer(Generic[T]):
    """Keeps a sink equal to one collection in the API server.

    `decode` returns None for an object that cannot be read.
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
        self._problem: str | None = None
        self._backoff = Backoff(*_BACKOFF)
        self.synced = asyncio.Event()
        self.last_progress = time.monotonic()
        """When a page, event or error last came (monotonic seconds)."""

        self.last_event = time.monotonic()
        """When the last list, event or bookmark came (monotonic seconds)."""

        self.lists = 0
        """Number of complete lists."""

    @property
    def silence(self) -> float:
        """Seconds since the last list, event or bookmark."""
        return time.monotonic() - self.last_event

    @property
    def problem(self) -> str | None:
        """Why listing or watching failed, in a sentence; None once a watch works."""
        return self._problem

    def __str__(self) -> str:
        return f"the informer for {self._path}"

    async def run(self) -> None:
        """List and watch until cancelled. After an unexpected error, the next run relists."""
        while True:
            try:
                await self._list()
                while True:
                    await self._watch()
                    await asyncio.sleep(self._backoff.fail())
            except KubeError as error:
                await self._wait_after(error)
            except Exception as error:
                self._problem = f"Cannot list or watch {_what(self._path)}: {type(error).__name__}"
                # Do not fail liveness: a restart would hit the same error with an empty cache.
                self.last_progress = time.monotonic()
                raise

    async def _wait_after(self, error: KubeError) -> None:
        self.last_progress = time.monotonic()
        problem = _explain(self._path, error)
        if problem != self._problem:
            log.warning("%s; retrying", problem)
        self._problem = problem
        asked = error.retry_after if isinstance(error, Refused) else None
        await asyncio.sleep(max(self._backoff.fail(), asked or 0.0))

    def stuck(self) -> str | None:
        """Return a sentence if neither an event nor an error has come for too long."""
        if time.monotonic() - self.last_progress > 2 * WATCH_TIMEOUT:
            return f"{self} is stuck"
        return None

    def _record_success(self) -> None:
        if self._problem:
            log.info("%s: listing and watching again", self._path)
        self._problem = None
        self._backoff.succeed()

    async def _list(self) -> None:
        objects: list[T] = []
        limit = PAGE
        query: dict[str, str] = {}
        while True:
            try:
                page = await self._client.get(self._path, {"limit": str(limit), **query})
            except TooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // 4)
                continue
            limit = min(PAGE, 2 * limit)
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
        await self._sink.replace(objects)
        self.lists += 1
        self._version = page["metadata"]["resourceVersion"]
        self.synced.set()
        self.last_event = self.last_progress

    async def _watch(self) -> None:
        """Watch until the API server closes it normally; otherwise, raises KubeError."""
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(random.randint(300, 600)),
        }
        async with self._client.watch(self._path, query, WATCH_TIMEOUT) as events:
            opened = time.monotonic()
            event = None
            async for event in events:
                self._apply(event)
                self.last_progress = self.last_event = time.monotonic()
                if self.last_event - opened > _STABLE:
                    self._record_success()
        if event is None:  # bookmarks come every minute, unless the version is yet to come
            raise ConnectionFailed("the watch ended without an event")

    def _apply(self, event: dict[str, Any]) -> None:
        kind, body = event.get("type"), event["object"]
        if kind == "ERROR":
            raise Refused(int(body.get("code") or 0), str(body.get("message")))
        metadata = body.get("metadata")
        if not isinstance(metadata, dict) or "resourceVersion" not in metadata:
            raise ConnectionFailed(NO_API_SERVER)
        self._version = metadata["resourceVersion"]
        if kind == "BOOKMARK":
            return
        key = NamespacedName.of(metadata)
        if kind == "DELETED":
            self._sink.remove(key, metadata["uid"])
        elif kind not in {"ADDED", "MODIFIED"}:
            log.warning("%s: skipping a watch event of unknown type %s", self._path, kind)
        elif not self._sink.has(key, metadata["uid"], self._version):
            decoded = self._decode(body)
            if decoded is None:
                self._sink.remove(key, metadata["uid"])
            else:
                self._sink.upsert(decoded)


def _explain(path: str, error: KubeError) -> str:
    what = _what(path)
    if isinstance(error, Refused) and error.status == 404:
        return f"The API server does not serve {what}; {APPLY_CRDS}"
    if isinstance(error, Refused) and error.status == 403:
        return f"The operator may not list and watch {what}; grant it permission ({error})"
    if isinstance(error, Refused) and error.status == 401:
        return f"The API server rejects the operator's credentials ({error})"
    return f"Cannot list or watch {what}: {error}"


def _what(path: str) -> str:
    """Return the plural and the namespace of a path."""
    head, _, plural = path.rpartition("/")
    _, _, namespace = head.partition("/namespaces/")
    return f"{plural} in {f'namespace {namespace}' if namespace else 'all namespaces'}"
