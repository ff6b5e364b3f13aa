"""One account's loop in virtual time, and what it works with."""

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

AWAY = ConnectionFailed("the API server is away")
KEY = NamespacedName("shop", "support")
DOUBLING = [0, 2, 6, 14, 30, 62, 122, 182]
"""Tries at 1 to 60 s that fail from the beginning on."""


def wall():
    return NOW + timedelta(seconds=int(now()))


class Server(FakeClient):
    """An API server with one Secret. `calls` are (seconds, what was asked for)."""

    def __init__(self, calls):
        super().__init__(FakeApi())
        self.calls = calls
        self.secret_fails = None
        self.patch_fails = None
        self.on_patch = None
        self.on_answer = None
        key = base64.b64encode(b"key").decode()
        self.api.put("/api/v1/namespaces/shop/secrets/wazzup", {"data": {"apiKey": key}})

    def put(self, object_):
        """Store an object, and return it as it is stored."""
        return resource_of(object_).decode(self.api.put(path_of(object_), body(object_)))

    @property
    def statuses(self):
        """What was written, by name."""
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
        assert len(self.calls) < 10_000, "it asks in a tight loop"
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
        self.fails = None

    async def list_channels(self, key):
        assert key == "key"
        self.calls.append((now(), "listing"))
        await asyncio.sleep(self.takes)
        if self.fails:
            raise self.fails.with_traceback(None)
        return Listing.of(self.rows)


class Events:
    """Takes Events and forgets them."""

    def record(self, *event):
        pass


class Scene:
    """An account's loop, running, and all that is around it."""

    def __init__(self, *objects):
        self.calls = []
        self.server = Server(self.calls)
        self.wazzup = Wazzup(self.calls)
        self.store = Store(lambda key, requested: self.loop.wake(requested=requested))
        self.writer, secrets = StatusWriter(self.server), SecretReader(self.server)
        deps = Dependencies(
            settings(), self.store, secrets, self.wazzup, self.writer, Events(), wall
        )
        self.loop = AccountLoop(ACCOUNT, deps)
        self.put(*objects)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.loop.run())
        return self

    async def __aexit__(self, *error):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def put(self, *objects):
        """Create objects, or replace those of the same name, and let the informers tell of it."""
        for each in objects:
            self._table(each).upsert(self.server.put(each))

    def remove(self, object_):
        """Delete an object, and let the informer tell of it."""
        self.server.api.delete(path_of(object_))
        self._table(object_).remove(object_.metadata.key, object_.metadata.uid)

    def edit(self, **spec):
        """Change the channel's spec, and let the informer tell of it."""
        stored = self.server.api.edit(path_of(channel()), {"spec": spec})
        self.store.channels.upsert(CHANNELS.decode(stored))

    def _table(self, object_):
        return self.store.channels if resource_of(object_) is CHANNELS else self.store.accounts

    def times(self, of):
        """Return when that was asked for."""
        return [seconds for seconds, what in self.calls if what == of]

    def since(self, seconds):
        """Return what was asked for from then on, in its order."""
        return [what for at, what in self.calls if at >= seconds]

    @property
    def channel(self):
        return self.store.channels.objects[KEY].status

    @property
    def account(self):
        return self.store.accounts.objects[ACCOUNT].status
