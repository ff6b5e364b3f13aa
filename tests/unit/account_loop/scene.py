"""One account's loop in virtual time, and what it works with."""

import asyncio
import base64
from dataclasses import replace
from datetime import timedelta

from tests.merge_patch import merged
from tests.unit.build import ACCOUNT, NOW, row, settings
from wazzup_operator.controller.account_loop import AccountLoop
from wazzup_operator.controller.dependencies import Dependencies
from wazzup_operator.controller.store import Store
from wazzup_operator.domain.listing import Listing
from wazzup_operator.kube.errors import ConnectionFailed
from wazzup_operator.kube.secrets import SecretReader
from wazzup_operator.kube.status import StatusWriter
from wazzup_operator.resources.base import NamespacedName

AWAY = ConnectionFailed("the API server is away")
KEY = NamespacedName("shop", "support")
DOUBLING = [0, 2, 6, 14, 30, 62, 122, 182]
"""Tries at 1 to 60 s that fail from the beginning on."""


def now():
    return round(asyncio.get_running_loop().time(), 3)


async def until(seconds):
    """Wait until so long after the beginning."""
    await asyncio.sleep(seconds - asyncio.get_running_loop().time())


def wall():
    return NOW + timedelta(seconds=int(now()))


class Server:
    """An API server with one Secret. `calls` are (seconds, what was asked for)."""

    def __init__(self, calls):
        self.calls = calls
        self.statuses = {}
        self.secret_fails = None
        self.patch_fails = None
        self.on_patch = None

    async def get(self, path):
        self.calls.append((now(), "secret"))
        assert len(self.calls) < 10_000, "it asks in a tight loop"
        if self.secret_fails:
            raise self.secret_fails.with_traceback(None)
        return {"data": {"apiKey": base64.b64encode(b"key").decode()}}

    async def merge_patch(self, path, body):
        name = path.split("/")[-2]
        self.calls.append((now(), name))
        if self.on_patch:
            await self.on_patch(name)
        if self.patch_fails:
            raise self.patch_fails.with_traceback(None)
        self.statuses[name] = merged(self.statuses.get(name, {}), body["status"])
        version = str(1 + int(body["metadata"]["resourceVersion"]))
        return {"metadata": {"resourceVersion": version}, "status": self.statuses[name]}


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
        """Let the informers tell of these."""
        for each in objects:
            is_channel = hasattr(each, "account_key")
            (self.store.channels if is_channel else self.store.accounts).upsert(each)

    def remove(self, object_):
        """Let an informer tell that this has been deleted."""
        is_channel = hasattr(object_, "account_key")
        table = self.store.channels if is_channel else self.store.accounts
        table.remove(object_.metadata.key, object_.metadata.uid)

    def edit(self, **spec):
        """Let the informer tell of a new generation of the channel."""
        old = self.store.channels.objects[KEY]
        version = str(1 + int(old.metadata.resource_version))
        metadata = replace(
            old.metadata, generation=old.metadata.generation + 1, resource_version=version
        )
        self.put(replace(old, metadata=metadata, spec=replace(old.spec, **spec)))

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
