"""An API server in memory, and KubeClient's methods on it.

Objects have uids, resourceVersions and generations like real ones; a write that changes nothing
creates no version. tests/integration/test_fake_api.py compares it with a real API server.
"""

import asyncio
from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import orjson

from tests.merge_patch import merged
from wazzup_operator.kube.errors import ConnectionFailed, Refused
from wazzup_operator.resources.base import NamespacedName


class Change(NamedTuple):
    """A new version of an object, or its deletion."""

    version: int
    event: str
    body: Any


class FakeApi:
    """All objects by plural and key, and all changes in order."""

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[str, dict[NamespacedName, Any]] = defaultdict(dict)
        self.changes: dict[str, list[Change]] = defaultdict(list)
        self.compacted: dict[str, int] = defaultdict(int)
        """Watches from before this version get 410."""

        self.watches: list[Watch] = []
        self.admit: Callable[[str, Any], Any] = lambda plural, body: body
        """Changes a body before it is stored, like a CRD that lacks some fields."""

        self.stride = 1
        """What a version adds to the last. With a long stride, no version is given to two states,
        even after `restore`."""

        self.created_at: Callable[[], str] = lambda: "2026-11-22T10:00:00Z"
        self._uids = 0

    def find(self, path: str) -> Any:
        """Return the object at a path, or None."""
        plural, key, _ = parsed(path)
        return self.objects[plural].get(key)

    def put(self, path: str, body: Any) -> Any:
        """Store an object as if it had just been created, replacing any at this path."""
        plural, key, _ = parsed(path)
        self._uids += 1
        metadata = {
            "uid": f"{self._uids * 37 % 101:03d}-{self._uids}",  # not in order of creation
            "generation": 1,
            "creationTimestamp": self.created_at(),
            **body.get("metadata", {}),
            "name": key.name,
        }
        if key.namespace:
            metadata["namespace"] = key.namespace
        return self._store(plural, key, "ADDED", {**body, "metadata": metadata})

    def edit(self, path: str, patch: Any) -> Any:
        """Change an object like another client. Raises Refused, like a PATCH."""
        plural, key, subresource = parsed(path)
        old = self.objects[plural].get(key)
        if old is None:
            raise Refused(404, "not found")
        metadata, known = patch.get("metadata", {}), old["metadata"]
        to_status = (
            subresource == "status"
        )  # changes only the status; other paths change only the rest
        if metadata.get("resourceVersion", known["resourceVersion"]) != known["resourceVersion"]:
            raise Refused(409, "the object has been modified")
        if not to_status and metadata.get("uid", known["uid"]) != known["uid"]:
            raise Refused(422, "metadata.uid: field is immutable")
        part = {key: value for key, value in patch.items() if (key == "status") == to_status}
        new = self.admit(plural, merged(old, part))
        if new == old:
            return old
        ended = "deletionTimestamp" in metadata
        if new.get("spec") != old.get("spec") or ended:
            generation = known["generation"] + 1
            new = {**new, "metadata": {**new["metadata"], "generation": generation}}
        return self._store(plural, key, "MODIFIED", new)

    def changed_at(self, plural: str, version: int) -> Change | None:
        """Return the change that made a version."""
        changes = self.changes[plural]
        place = bisect_right(changes, version - 1, key=lambda change: change.version)
        found = changes[place : place + 1]
        return found[0] if found and found[0].version == version else None

    def listed(self, plural: str, namespace: str, query: Any) -> list[Any]:
        """Return the objects of a namespace, or of all, that match the field selector."""
        field, _, value = query.get("fieldSelector", "").partition("=")
        return [
            body
            for key, body in self.objects[plural].items()
            if not namespace or namespace == key.namespace
            if not field or field_of(body, field) == value
        ]

    def delete(self, path: str) -> None:
        """Delete an object."""
        plural, key, _ = parsed(path)
        self._store(plural, key, "DELETED", self.objects[plural].pop(key))

    def restore(self, version: int) -> None:
        """Go back to what was stored at a version, as when etcd is restored from a snapshot."""
        self.version = version + 1
        for plural, changes in self.changes.items():
            del changes[bisect_right(changes, version, key=lambda change: change.version) :]
            self.objects[plural] = {}
            for change in changes:
                self.objects[plural][NamespacedName.of(change.body["metadata"])] = change.body
                if change.event == "DELETED":
                    del self.objects[plural][NamespacedName.of(change.body["metadata"])]

    def _store(self, plural: str, key: NamespacedName, event: str, body: Any) -> Any:
        self.version += self.stride
        metadata = {**body["metadata"], "resourceVersion": str(self.version)}
        body = fresh({**body, "metadata": metadata})
        if event != "DELETED":
            self.objects[plural][key] = body
        self.changes[plural].append(Change(self.version, event, body))
        for watch in self.watches:
            watch.look()
        return body


class Watch:
    """A watch from a version on. `end` ends it: "gone" with 410, "broken" or "over"."""

    def __init__(self, api: FakeApi, plural: str, version: int) -> None:
        self.plural = plural
        self._changes = api.changes[plural]
        self._from = version
        self._position = bisect_right(self._changes, version, key=lambda change: change.version)
        self._news: asyncio.Future[None] | None = None
        self._end: str | None = None
        self.limit: Callable[[], int] = lambda: len(self._changes)
        """Returns how many changes the watch may have delivered by now."""

        self.deliver: Callable[[str, Change], Awaitable[None]] | None = None
        """Called with the plural and a change before its delivery."""

    def look(self) -> None:
        """Deliver new changes, if any."""
        if self._news and not self._news.done():
            self._news.set_result(None)

    def end(self, how: str) -> None:
        """End it; changes not delivered yet are lost."""
        self._end = self._end or how
        self.look()

    def __aiter__(self) -> "Watch":
        return self

    async def __anext__(self) -> Any:
        while True:
            if self._end == "gone":
                return {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
            if self._end == "broken":
                raise ConnectionFailed("the watch broke")
            if self._end:
                raise StopAsyncIteration
            if self._position < self.limit():
                change = self._changes[self._position]
                self._position += 1
                if change.version <= self._from:  # as after a restore
                    continue
                if self.deliver:
                    await self.deliver(self.plural, change)
                return {"type": change.event, "object": fresh(change.body)}
            self._news = asyncio.get_running_loop().create_future()
            await self._news


class FakeClient:
    """KubeClient's methods. Tests override `before` and `after` to make requests wait or fail."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.takes: float | None = None
        """Seconds until a write arrives; it arrives even if its sender was cancelled."""

        self._rest: dict[str, tuple[int, list[Any]]] = {}

    async def before(self, verb: str, path: str, body: Any) -> None:
        """Called with get, watch, create or patch, the path, and the query or body."""
        await asyncio.sleep(0)

    async def after(self, verb: str, path: str, stored: Any) -> None:
        """Called when a write has arrived, before it is answered."""

    async def get(self, path: str, query: Any = None) -> Any:
        """Return the object at a path, or with a query, the list."""
        await self.before("get", path, query)
        if query is not None:
            return self._page(path, query)
        if (found := self.api.find(path)) is None:
            raise Refused(404, "not found")
        return fresh(found)

    def _page(self, path: str, query: Any) -> Any:
        plural, (namespace, _), _ = parsed(path)
        version, rest = self._rest.pop(query.get("continue", ""), (0, []))
        if not version:
            version, rest = self.api.version, self.api.listed(plural, namespace, query)
        limit = int(query.get("limit", 1_000_000))
        page, rest = rest[:limit], rest[limit:]
        metadata = {"resourceVersion": str(version)}
        if rest:
            metadata["continue"] = f"{plural}-{version}-{len(rest)}"
            self._rest[metadata["continue"]] = version, rest
        return {"items": fresh(page), "metadata": metadata}

    @asynccontextmanager
    async def watch(self, path: str, query: Any, silence: float) -> AsyncIterator[Watch]:
        """Open a watch."""
        await self.before("watch", path, query)
        plural, version = parsed(path)[0], int(query["resourceVersion"])
        if version < self.api.compacted[plural]:
            raise Refused(410, "too old")
        watch = Watch(self.api, plural, version)
        self.api.watches.append(watch)
        try:
            yield watch
        finally:
            self.api.watches.remove(watch)

    async def create(self, path: str, body: Any) -> Any:
        """POST an object."""
        target = f"{path}/{body['metadata']['name']}"

        def act() -> Any:
            if self.api.find(target) is not None:
                raise Refused(409, "already exists")
            return self.api.put(target, body)

        return await self._write("create", target, body, act)

    async def merge_patch(self, path: str, body: Any) -> Any:
        """PATCH an object."""
        return await self._write("patch", path, body, lambda: self.api.edit(path, body))

    async def _write(self, verb: str, path: str, body: Any, act: Callable[[], Any]) -> Any:
        await self.before(verb, path, body)
        stored = act() if self.takes is None else await travel(self.takes, act)
        await self.after(verb, path, stored)
        return fresh(stored)


async def travel(seconds: float, act: Callable[[], Any]) -> Any:
    """Run `act` after some seconds, even if the sender was cancelled; return its answer."""
    loop = asyncio.get_running_loop()
    arrival = loop.create_future()

    def arrive() -> None:
        try:
            answer, refusal = act(), None
        except Refused as error:
            answer, refusal = None, error
        if not arrival.done():
            arrival.set_result((answer, refusal))

    loop.call_later(seconds, arrive)
    answer, refusal = await arrival
    if refusal:
        raise refusal
    return answer


def fresh(body: Any) -> Any:
    """Return a deep copy."""
    return orjson.loads(orjson.dumps(body))


def parsed(path: str) -> tuple[str, NamespacedName, str]:
    """Return the plural, the key and the subresource in a path; "" for each that is missing."""
    parts = path.split("/")[3 if path.startswith("/api/") else 4 :]
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    plural, name, subresource = [*parts, "", ""][:3]
    return plural, NamespacedName(namespace, name), subresource


def field_of(body: Any, field: str) -> Any:
    """Return the value of a field selector's field."""
    for name in field.split("."):
        body = body.get(name, {})
    return body
