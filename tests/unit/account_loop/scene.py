"""One account's loop in virtual time, with its dependencies."""

import asyncio
import base64
from datetime import timedelta

from tests.unit.build import ACCOUNT, NOW, body, channel, path_of, resource_of, row, settings
from tests.unit.fake_api import FakeApi, FakeClient, parsed
from tests.unit.virtual_time import now
from wazzup_operator.controller.account_loop import AccountLoop
from wazzup_operator.controller.dependencies import Dependencies
from wazzup_operator.controller.store import Store
from wazzup_operator.domain.listing import Listing
from wazzup_operator.kube.errors import ConnectionFailed
from wazzup_operator.kube.secrets import SecretReader
from wazzup_operator.kube.status import StatusWriter
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.codec import CHANNELS
from wazzup_operator.wazzup.errors import credentials_invalid

UNREACHABLE = ConnectionFailed("the API server is unreachable")
KEY = NamespacedName("shop", "support")
DOUBLING = [0, 2, 6, 14, 30, 62, 122, 182]
"""When attempts with a backoff of 1 to 60 s start, if all fail."""


def wall():
    return NOW + timedelta(seconds=int(now()))


class Server(FakeClient):
    """An API server with one Secret. `calls` are (seconds, name of the object or "secret")."""

    def __init__(self, calls):
        super().__init__(FakeApi())
        self.calls = calls
        self.secret_fails = None
        self.patch_fails = None
        self.on_patch = None
        self.on_answer = None
        self.put_key("key")

    def put_key(self, key):
        """Store the Secret with this API key."""
        data = {"apiKey": base64.b64encode(key.encode()).decode()}
        self.api.put("/api/v1/namespaces/shop/secrets/wazzup", {"data": data})

    def delete_key(self):
        """Delete the Secret."""
        self.api.delete("/api/v1/namespaces/shop/secrets/wazzup")

    def put(self, object_):
        """Store an object and return it as stored."""
        return resource_of(object_).decode(self.api.put(path_of(object_), body(object_)))

    @property
    def statuses(self):
        """Written statuses by name."""
        objects = [*self.api.objects["wazzupchannels"].items()]
        objects += self.api.objects["wazzupaccounts"].items()
        return {
            key.name: each["status"]
            for key, each in objects
            if each["status"]["observedGeneration"] >= 0
        }

    async def before(self, verb, path, body):
        name = "secret" if verb == "get" else parsed(path)[1].name
        self.calls.append((now(), name))
        assert len(self.calls) < 10_000, "requests in a tight loop"
        if verb != "get" and self.on_patch:
            await self.on_patch(name)
        if fails := self.secret_fails if verb == "get" else self.patch_fails:
            raise fails.with_traceback(None)

    async def after(self, verb, path, stored):
        if self.on_answer:
            await self.on_answer(parsed(path)[1].name)


class Wazzup:
    """Lists `rows`, after `takes` seconds, or fails."""

    def __init__(self, calls):
        self.calls = calls
        self.rows = [row()]
        self.takes = 0
        self.slow = []
        """For each request, whether the account's last one timed out."""
        self.fails = None
        self.rejects = set()
        """Invalid keys."""

    async def list_channels(self, key, previous, *, slow):
        assert key in {"key", "another-key"}
        self.slow.append(slow)
        self.calls.append((now(), "listing"))
        await asyncio.sleep(self.takes)
        if self.fails:
            raise self.fails.with_traceback(None)
        if key in self.rejects:
            raise credentials_invalid("The key is invalid.", "401")
        return Listing.of(self.rows)


class Events:
    """Ignores Events."""

    def record(self, *event):
        pass


class Scene:
    """A running account loop and its dependencies."""

    def __init__(self, *objects):
        self.calls = []
        self.server = Server(self.calls)
        self.wazzup = Wazzup(self.calls)
        self.store = Store(lambda key, requested: self.loop.wake(requested=requested))
        self.writer, secrets = StatusWriter(self.server), SecretReader(self.server)
        deps = Dependencies(
            settings(), self.store, secrets, self.wazzup, self.writer, Events(), wall
        )
        self.requests = deps.requests
        self.loop = AccountLoop(ACCOUNT, deps)
        self.put(*objects)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.loop.run())
        return self

    async def __aexit__(self, *error):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def put(self, *objects):
        """Create or replace objects, in the API server and in the Store."""
        for each in objects:
            self._table(each).upsert(self.server.put(each))

    def remove(self, object_):
        """Delete an object, in the API server and in the Store."""
        self.server.api.delete(path_of(object_))
        self._table(object_).remove(object_.metadata.key, object_.metadata.uid)

    def edit(self, **spec):
        """Change the channel's spec, in the API server and in the Store."""
        stored = self.server.api.edit(path_of(channel()), {"spec": spec})
        self.store.channels.upsert(CHANNELS.decode(stored))

    def _table(self, object_):
        return self.store.channels if resource_of(object_) is CHANNELS else self.store.accounts

    def times(self, name):
        """Return the times of the calls with this name."""
        return [seconds for seconds, each in self.calls if each == name]

    def since(self, seconds):
        """Return the names of the calls since then, in order."""
        return [what for at, what in self.calls if at >= seconds]

    @property
    def channel(self):
        return self.store.channels.objects[KEY].status

    @property
    def account(self):
        return self.store.accounts.objects[ACCOUNT].status
