"""One process of the operator, with its API server and Wazzup.

The operator's own code runs, all of it from the watch to the PATCH. What stands in is the API
server behind KubeClient, Wazzup behind WazzupClient, and the event loop, whose time jumps to what
is due next.
"""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.unit.account_loop.scene import Events
from tests.unit.build import settings
from tests.unit.fake_api import Change, FakeClient, Watch, fresh, parsed, travel
from wazzup_operator.controller.clock import SteadyClock
from wazzup_operator.controller.dependencies import Dependencies
from wazzup_operator.controller.reconciler import Reconciler
from wazzup_operator.controller.store import Store
from wazzup_operator.domain.listing import Listing
from wazzup_operator.kube.client import path
from wazzup_operator.kube.errors import ConnectionFailed, Refused
from wazzup_operator.kube.informer import Informer
from wazzup_operator.kube.secrets import SecretReader
from wazzup_operator.kube.status import StatusWriter
from wazzup_operator.resources.base import API_VERSION, NamespacedName
from wazzup_operator.resources.codec import ACCOUNTS, CHANNELS
from wazzup_operator.wazzup.errors import credentials_invalid, unreachable
from wazzup_operator.wazzup.wire import read_listing

CH, AC = CHANNELS.plural, ACCOUNTS.plural
RESOURCES = {CH: CHANNELS, AC: ACCOUNTS}


def path_of(plural: str, key: NamespacedName) -> str:
    return path(API_VERSION, plural, *key)


SLOW = 4.0
"""Seconds that a slow request takes."""

DEFAULT = NamespacedName("shop", "default")
SECOND = NamespacedName("shop", "second")
FAR = NamespacedName("elsewhere", "default")
PHONES = ["+79865784457", "+79990001122", "+525512345678"]
ROWS: dict[str, dict[str, tuple[str, str]]] = {
    "W1": {
        "a": ("whatsapp", "79865784457"),
        "b": ("whatsapp", "79865784457"),
        "c": ("whatsapp", "79990001122"),
        "m": ("whatsapp", "5215512345678"),
        "w": ("wapi", "79865784457"),
        "t": ("telegram", "79865784457"),
    },
    "W2": {
        "x": ("whatsapp", "79865784457"),
        "y": ("whatsapp", "79990001122"),
        "u": ("telegram", "79865784457"),
    },
}
"""All channels that a Wazzup account may have: transport and number."""

SLOTS: dict[str, tuple[NamespacedName, str]] = {
    "c0": (NamespacedName("shop", "c0"), "default"),
    "c1": (NamespacedName("shop", "c1"), "default"),
    "c2": (NamespacedName("shop", "c2"), "second"),
    "c3": (NamespacedName("elsewhere", "c3"), "default"),
    "c4": (NamespacedName("elsewhere", "c4"), "default"),
}
"""All objects that may exist, and the accounts that they refer to."""


FREE_TEXT = f"Front desk {PHONES[0]}"
"""What Wazzup, the API server and users write. No log line may repeat it."""


class Violation(AssertionError):
    """Something happened that must never happen."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time: it jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self
        self._seconds = 0.0
        self._turns = 0

    def time(self) -> float:
        return self._seconds

    def select(self, timeout: float | None) -> tuple[()]:
        self._turns = 0 if timeout else self._turns + 1
        if self._turns > 20_000:
            raise Violation("it spins: nothing waits for time to pass")
        self._seconds += timeout or 0.0
        return ()

    def _process_events(self, _: Any) -> None:
        pass

    def pass_time(self, seconds: float) -> None:
        """Run what is ready, then advance the time."""
        self.call_later(max(seconds, 1e-6), self.stop)
        self.run_forever()


class Kube(FakeClient):
    """The KubeClient of one process."""

    def __init__(self, process: "Process") -> None:
        super().__init__(process.world.server)
        self._process = process
        self._world = process.world

    async def before(self, verb: str, path: str, body: Any) -> None:
        await asyncio.sleep(0)
        if self._world.unreachable:
            raise ConnectionFailed("the API server is unreachable")

    async def get(self, path: str, query: Any = None) -> Any:
        plural, key, _ = parsed(path)
        if plural == "secrets":
            self._process.listing_starts(*key)
            self._process.reading.add((key[0], key[1].rsplit("-", 1)[0]))
            await self.before("get", path, query)
            return self._world.secret(*key)
        page = await super().get(path, query)
        for body in page["items"]:
            self._process.receive(plural, body)
        self._process.relisted[plural] = self._world.loop.time()
        return page

    @asynccontextmanager
    async def watch(self, path: str, query: Any, silence: float) -> Any:
        plural = parsed(path)[0]
        async with super().watch(path, query, silence) as watch:
            watch.limit = lambda: self._process.may_deliver(plural)
            watch.deliver = self._deliver
            self._process.watches[plural] = watch
            yield watch

    async def _deliver(self, plural: str, change: Change) -> None:
        for _ in range(change.version % 4):  # lets other ready tasks run in between
            await asyncio.sleep(0)
        self._process.receive(plural, change.body)

    async def merge_patch(self, path: str, body: Any) -> Any:
        plural, key, _ = parsed(path)
        body = fresh(body)
        self._world.record_write(self._process, plural, key, body)
        fates = self._world.write_fates
        fate = fates.pop(0) if fates else self._world.pace
        if self._world.unreachable or fate == "unreachable":
            await asyncio.sleep(0)
            raise ConnectionFailed("the API server is unreachable")
        if fate == "refused" or (plural == CH and key in self._world.refused):
            await asyncio.sleep(0)
            raise Refused(500, FREE_TEXT)

        restores = self._world.restores

        def arrive() -> Any:
            if self._world.restores != restores:
                return None  # the API server was restarted meanwhile
            outcome = "stored"
            try:
                return self.api.edit(path, body)
            except Refused as refusal:
                outcome = str(refusal)
                raise
            finally:
                self._world.note("arrives", self._process.name, key[1], outcome)

        answer = await travel(SLOW if fate == "slow" else 0, arrive)
        if fate == "late":
            await asyncio.sleep(SLOW)
        if fate == "lost" or self._world.restores != restores:
            raise ConnectionFailed("the connection broke before the answer")
        metadata = answer["metadata"]
        self._process.answered[metadata["uid"]] = int(metadata["resourceVersion"])
        return fresh(answer)


@dataclass(frozen=True)
class Got:
    """A listing that a process received."""

    at: float
    listing: Listing
    secret: str
    account_uid: str
    recorded: frozenset[str]
    """The channel ids recorded by the account's objects in the process's Store at that time."""

    is_empty: bool
    """Whether the answer had no rows."""

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(self.listing.channels) | self.listing.ambiguous_ids


class Wazzup:
    """The WazzupClient of one process."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._world = process.world
        self._not_before: dict[tuple[str, str], float] = {}

    async def list_channels(self, api_key: str, previous: Listing, *, slow: bool) -> Listing:
        world, process = self._world, self._process
        namespace, secret = api_key.split("/")
        key = namespace, secret.rsplit("-", 1)[0]
        if key not in process.reading:
            process.listing_starts(namespace, secret)
        process.reading.discard(key)
        uid = process.listing_for[key].metadata.uid
        if world.loop.time() < self._not_before.get((uid, secret), 0.0):
            world.record_violation(f"{key}: Wazzup is asked before Retry-After is over")
        fate = world.trouble.get(key) or (world.listing_fates and world.listing_fates.pop(0)) or ""
        body = world.rows_of(secret, fate)
        await asyncio.sleep(SLOW if "slow" in {fate, world.pace} else 0)
        world.note("lists", process.name, *key, fate or "ok")
        if fate == "unreachable":
            raise unreachable(FREE_TEXT, "500")
        if fate.startswith("429"):
            wait = float(fate.split()[1])
            self._not_before[uid, secret] = world.loop.time() + wait
            raise unreachable(FREE_TEXT, "429", wait)
        if fate == "invalid":
            raise credentials_invalid(FREE_TEXT, "401")
        listing = read_listing(body, previous)
        recorded = frozenset(
            each.status.channel_id
            for each in process.store.channels_of(key)
            if each.status.channel_id and each.status.account == key[1]
        )
        got = Got(world.loop.time(), listing, secret, uid, recorded, body == b"[]")
        if not self._is_ignored(key, got):
            process.got.setdefault(key, []).append(got)
        return listing

    def _is_ignored(self, key: NamespacedName, got: Got) -> bool:
        """Return whether it is empty although channels were known and the last one is not stale."""
        account = self._process.listing_for[key]
        stale_after = max(600.0, 3 * account.spec.poll_seconds)
        before = self._process.got.get(key, [])[-1:]
        if before and (before[0].account_uid, before[0].secret) == (got.account_uid, got.secret):
            age = got.at - before[0].at
            return got.is_empty and not before[0].is_empty and age < stale_after
        synced = account.status.last_sync_time
        age = (self._process.clock() - synced).total_seconds() if synced else stale_after
        return got.is_empty and bool(got.recorded) and age < stale_after


class Process:
    """One process of the operator, from its informers to its writes."""

    def __init__(self, world: Any, name: str) -> None:
        self.world = world
        self.name = name
        self.watches: dict[str, Watch] = {}
        self.cut_off_at: dict[str, int] | None = None
        self.first_received: dict[tuple[str, int], float] = {}
        """When it first received an object's (uid, generation)."""
        self.changed: dict[tuple[str, ...], float] = {}
        """When it last received a (plural, namespace, name)."""
        self.relisted: dict[str, float] = {}
        self.inspected: dict[Any, Any] = {}
        self.answered: dict[str, int] = {}
        """The version of its last acknowledged write to an object (uid)."""
        self.listing_for: dict[NamespacedName, Any] = {}
        """The account when its last listing started."""
        self.reading: set[tuple[str, str]] = set()
        """Accounts whose Secret was read for a listing that has not reached Wazzup yet."""
        self.got: dict[NamespacedName, list[Got]] = {}
        self.reconciler = Reconciler()
        self.store = Store(self.reconciler.wake)
        kube: Any = Kube(self)
        wazzup: Any = Wazzup(self)
        events: Any = Events()
        self.clock = SteadyClock(lambda: world.wall.timestamp(), world.loop.time)
        self._deps = Dependencies(
            settings(),
            self.store,
            SecretReader(kube),
            wazzup,
            StatusWriter(kube),
            events,
            self.clock,
        )
        self._informers = [
            Informer(kube, path(API_VERSION, AC), ACCOUNTS.decode, self.store.accounts.scope(None)),
            Informer(kube, path(API_VERSION, CH), CHANNELS.decode, self.store.channels.scope(None)),
        ]
        self.tasks = [world.loop.create_task(each.run()) for each in self._informers]
        self._starter = world.loop.create_task(self._start())

    async def _start(self) -> None:
        for informer in self._informers:
            await informer.synced.wait()
        self.reconciler.start(self._deps)

    def may_deliver(self, plural: str) -> int:
        """Return how many changes its watch may have delivered by now."""
        if self.cut_off_at is not None:
            return self.cut_off_at[plural]
        held = self.world.held[plural]
        return len(self.world.server.changes[plural]) if held is None else held

    def receive(self, plural: str, body: Any) -> None:
        metadata, now = body["metadata"], self.world.loop.time()
        self.first_received.setdefault((metadata["uid"], metadata["generation"]), now)
        self.changed[plural, metadata["namespace"], metadata["name"]] = now

    def listing_starts(self, namespace: str, secret: str) -> None:
        """Record the account when a listing starts; it may be another one when it ends."""
        key = namespace, secret.rsplit("-", 1)[0]
        self.listing_for[key] = self.store.accounts.objects.get(key)

    def received_now(self, plural: str, key: NamespacedName) -> bool:
        """Return whether it received this name at this very time, perhaps after its plan."""
        now = self.world.loop.time()
        return now in {self.changed.get((plural, *key)), self.relisted.get(plural)}

    def end(self) -> None:
        """Stop at once, in the middle of any step."""
        loop = self.world.loop
        for task in [*self.tasks, self._starter]:
            task.cancel()
        stopping = loop.create_task(self.reconciler.stop())
        loop.pass_time(0)
        assert stopping.done()

    def depose(self) -> None:
        """Stop its watches; it continues to write from what it knows."""
        self.cut_off_at = {plural: self.may_deliver(plural) for plural in (CH, AC)}


@dataclass
class Write:
    """A status that a process sent, and the object as the process knew it."""

    at: float
    process: Process
    plural: str
    key: NamespacedName
    before: Any
    status: Any
