"""A world in which histories happen: an API server, Wazzup, processes of the operator, and time.

The operator's own code runs, all of it from the watch to the PATCH: Informer, Store, Reconciler,
AccountLoop, AccountMemory, plan, StatusWriter. What stands in is the API server behind KubeClient,
Wazzup behind WazzupClient, and the event loop, whose time jumps to what is due next.
"""

import asyncio
import base64
import logging
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import orjson

from tests.merge_patch import merged
from tests.unit.build import NOW, settings
from tests.unit.fake_api import Change, FakeApi, FakeClient, Watch, fresh, parsed, travel
from wazzup_operator.controller.clock import SteadyClock
from wazzup_operator.controller.dependencies import Dependencies
from wazzup_operator.controller.reconciler import Reconciler
from wazzup_operator.controller.store import Store
from wazzup_operator.domain.listing import Listing
from wazzup_operator.kube import informer as informer_module
from wazzup_operator.kube import status as status_module
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
    "W2": {"x": ("whatsapp", "79865784457"), "y": ("whatsapp", "79990001122")},
}
"""Every channel that there can be in each account of Wazzup: transport and number."""

SLOTS: dict[str, tuple[NamespacedName, str]] = {
    "c0": (NamespacedName("shop", "c0"), "default"),
    "c1": (NamespacedName("shop", "c1"), "default"),
    "c2": (NamespacedName("shop", "c2"), "second"),
    "c3": (NamespacedName("elsewhere", "c3"), "default"),
    "c4": (NamespacedName("elsewhere", "c4"), "default"),
}
"""The objects that there can be, and the accounts that they refer to."""


class Violation(AssertionError):
    """Something happened that must never happen."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in which waiting takes no time: it jumps to what is due next."""

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
        """Let so much time pass; first of all what is ready happens."""
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
        if self._world.away:
            raise ConnectionFailed("the API server is away")

    async def get(self, path: str, query: Any = None) -> Any:
        plural, key, _ = parsed(path)
        if plural == "secrets":
            self._process.asks(*key)
            await self.before("get", path, query)
            return self._world.secret(*key)
        page = await super().get(path, query)
        for body in page["items"]:
            self._process.hear(plural, body)
        self._process.relisted[plural] = self._world.loop.time()
        return page

    @asynccontextmanager
    async def watch(self, path: str, query: Any, silence: float) -> Any:
        plural = parsed(path)[0]
        async with super().watch(path, query, silence) as watch:
            watch.limit = lambda: self._process.may_hear(plural)
            watch.deliver = self._deliver
            self._process.watches[plural] = watch
            yield watch

    async def _deliver(self, plural: str, change: Change) -> None:
        for _ in range(change.version % 4):  # whatever else is ready comes in between
            await asyncio.sleep(0)
        self._process.hear(plural, change.body)

    async def merge_patch(self, path: str, body: Any) -> Any:
        plural, key, _ = parsed(path)
        body = fresh(body)
        self._world.take_down(self._process, plural, key, body)
        fates = self._world.write_fates
        fate = fates.pop(0) if fates else self._world.pace
        if self._world.away or fate == "unreachable":
            await asyncio.sleep(0)
            raise ConnectionFailed("the API server is away")
        if fate == "refused":
            await asyncio.sleep(0)
            raise Refused(500, "etcd has no leader")

        def arrive() -> Any:
            told = "stored"
            try:
                return self.api.edit(path, body)
            except Refused as refusal:
                told = str(refusal)
                raise
            finally:
                self._world.tell("arrives", self._process.name, key[1], told)

        answer = await travel(SLOW if fate == "slow" else 0, arrive)
        if fate == "late":
            await asyncio.sleep(SLOW)
        if fate == "lost":
            raise ConnectionFailed("the connection broke off before the answer")
        metadata = answer["metadata"]
        self._process.answered[metadata["uid"]] = int(metadata["resourceVersion"])
        return fresh(answer)


@dataclass(frozen=True)
class Got:
    """A listing that a process has really got."""

    at: float
    listing: Listing
    secret: str
    account_uid: str
    recorded: frozenset[str]
    """What the account's objects had on record in the process's Store at that time."""

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(self.listing.channels) | self.listing.doubtful_ids


class Wazzup:
    """The WazzupClient of one process."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._world = process.world
        self._not_before: dict[tuple[str, str], float] = {}

    async def list_channels(self, api_key: str) -> Listing:
        world, process = self._world, self._process
        namespace, secret = api_key.split("/")
        key = namespace, secret.rsplit("-", 1)[0]
        uid = process.asking[key]
        if world.loop.time() < self._not_before.get((uid, secret), 0.0):
            world.blame(f"{key}: Wazzup is asked before Retry-After is over")
        fate = world.trouble.get(key) or (world.listing_fates and world.listing_fates.pop(0)) or ""
        body = world.rows_of(secret, fate)
        await asyncio.sleep(SLOW if "slow" in {fate, world.pace} else 0)
        world.tell("lists", process.name, *key, fate or "ok")
        if fate == "unreachable":
            raise unreachable("Wazzup is away.", "500")
        if fate.startswith("429"):
            wait = float(fate.split()[1])
            self._not_before[uid, secret] = world.loop.time() + wait
            raise unreachable("Wazzup is busy.", "429", wait)
        if fate == "invalid":
            raise credentials_invalid("Wazzup does not know this key.", "401")
        listing = read_listing(body)
        recorded = frozenset(
            each.status.channel_id
            for each in process.store.channels_of(key)
            if each.status.channel_id and each.status.account == key[1]
        )
        process.got.setdefault(key, []).append(
            Got(world.loop.time(), listing, secret, uid, recorded)
        )
        return listing


class Events:
    """Takes Events and forgets them."""

    def record(self, *event: Any) -> None:
        pass


class Process:
    """One process of the operator, from its informers to its writes."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.watches: dict[str, Watch] = {}
        self.deaf_from: dict[str, int] | None = None
        self.heard: dict[tuple[str, int], float] = {}
        """When it first heard of an object's (uid, generation)."""
        self.changed: dict[tuple[str, ...], float] = {}
        """When it last heard of a (plural, namespace, name)."""
        self.relisted: dict[str, float] = {}
        self.looked_at: dict[Any, Any] = {}
        self.answered: dict[str, int] = {}
        """The version of its last write to an object (uid) that it knows of."""
        self.asking: dict[NamespacedName, str] = {}
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

    def may_hear(self, plural: str) -> int:
        """Return how far in the log its watch may read."""
        if self.deaf_from is not None:
            return self.deaf_from[plural]
        held = self.world.held[plural]
        return len(self.world.server.changes[plural]) if held is None else held

    def hear(self, plural: str, body: Any) -> None:
        metadata, now = body["metadata"], self.world.loop.time()
        self.heard.setdefault((metadata["uid"], metadata["generation"]), now)
        self.changed[plural, metadata["namespace"], metadata["name"]] = now

    def asks(self, namespace: str, secret: str) -> None:
        """Take down for which account (uid) a listing begins: it may be another one at its end."""
        key = namespace, secret.rsplit("-", 1)[0]
        account = self.store.accounts.objects.get(key)
        self.asking[key] = account.metadata.uid if account else ""

    def hears_now(self, plural: str, key: NamespacedName) -> bool:
        """Return whether it heard of this name in this instant, perhaps after it had planned."""
        now = self.world.loop.time()
        return now in {self.changed.get((plural, *key)), self.relisted.get(plural)}

    def end(self) -> None:
        """End at once, in the middle of whatever it does."""
        loop = self.world.loop
        for task in [*self.tasks, self._starter]:
            task.cancel()
        stopping = loop.create_task(self.reconciler.stop())
        loop.pass_time(0)
        assert stopping.done()

    def depose(self) -> None:
        """Let it hear nothing new from now on; it goes on writing with what it knows."""
        self.deaf_from = {plural: self.may_hear(plural) for plural in (CH, AC)}


@dataclass
class Write:
    """A status that a process sent, and the object as the process knew it."""

    at: float
    process: Process
    plural: str
    key: NamespacedName
    before: Any
    status: Any


@dataclass
class Recorder(logging.Handler):
    """Takes errors that the operator logs for violations."""

    world: "World"
    level: int = field(default=logging.ERROR)

    def __post_init__(self) -> None:
        super().__init__(logging.ERROR)

    def __hash__(self) -> int:
        return id(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.world.blame(logging.Formatter().format(record))


class World:
    """Everything there is. `do` lets one step happen; `checks` are asked about each write."""

    def __init__(self, poll: str, check: Any) -> None:
        self.loop = VirtualLoop()
        self.server = FakeApi()
        self.server.created_at = self._created_at
        self.away = False
        """Whether the API server is."""

        self.poll = poll
        self._check = check
        self.clock_error = 0
        """Seconds that the operator's wall clock is wrong by."""
        self.clock_stepped = False
        self.held: dict[str, int | None] = {CH: None, AC: None}
        self.trouble: dict[NamespacedName, str] = {}
        self.write_fates: list[str] = []
        self.listing_fates: list[str] = []
        self.pace = "ok"
        """What happens to each request: "slow" ones arrive late, "late" ones are answered late."""
        self.rows: dict[str, dict[str, Any]] = {
            account: {
                id_: {"channelId": id_, "transport": transport, "plainId": plain, "state": "active"}
                for id_, (transport, plain) in rows.items()
            }
            for account, rows in ROWS.items()
        }
        self.present = {"a", "c", "w", "x", "t"}
        self._secrets = {DEFAULT: 1, SECOND: 3, FAR: 1}
        self.writes: list[Write] = []
        self.story: list[tuple[float, Any]] = []
        self.violations: list[str] = []
        self._requests = 0
        self._processes = 1
        self.deposed: list[Process] = []
        self._undo = ExitStack()

    def __enter__(self) -> "World":
        recorder = Recorder(self)
        log = logging.getLogger("wazzup_operator")
        log.addHandler(recorder)
        self._undo.callback(log.removeHandler, recorder)
        self._undo.callback(log.setLevel, log.level)
        log.setLevel(logging.ERROR)  # what it tells in thousands of histories is of no use
        clock = SimpleNamespace(monotonic=self.loop.time)
        for module, name, value in (
            (informer_module, "time", clock),
            (status_module, "time", clock),
            (informer_module, "PAGE", 2),
        ):
            self._undo.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        self._undo.callback(self.loop.close)
        for key in (DEFAULT, FAR):
            self.do_open(key)
        self.process = Process(self, "process 1")
        return self

    def __exit__(self, *error: Any) -> None:
        with self._undo:
            for process in self.alive:
                process.end()

    @property
    def wall(self) -> Any:
        """What the operator's wall clock shows."""
        return NOW + timedelta(seconds=int(self.loop.time()) + self.clock_error)

    # What the fakes ask and tell.

    def blame(self, sentence: str) -> None:
        """Note a violation; raised later, as the operator would catch it here."""
        self.tell("VIOLATION", sentence)
        self.violations.append(sentence)

    def tell(self, *what: Any) -> None:
        self.story.append((self.loop.time(), what))

    def secret(self, namespace: str, name: str) -> Any:
        trouble = self.trouble.get((namespace, name.rsplit("-", 1)[0]))
        if trouble == "kube":
            raise ConnectionFailed("the API server is away")
        if trouble == "missing":
            raise Refused(404, "no such Secret")
        if trouble == "broken":
            raise Refused(500, "no KMS")
        key = "" if trouble == "empty" else f"{namespace}/{name}"
        return {"data": {"apiKey": base64.b64encode(key.encode()).decode()}}

    def wazzup_of(self, secret: str) -> str:
        """Return which of Wazzup's accounts the key in that Secret opens."""
        return "W2" if int(secret.rsplit("-", 1)[1]) % 3 == 0 else "W1"

    def listed_rows(self, secret: str) -> dict[str, Any]:
        rows = self.rows[self.wazzup_of(secret)]
        return {id_: row for id_, row in rows.items() if id_ in self.present}

    def rows_of(self, secret: str, fate: str) -> bytes:
        rows = list(self.listed_rows(secret).values())
        if fate == "none":
            rows = []
        elif fate == "half":
            rows = rows[::2]
        elif fate == "other half":
            rows = rows[1::2]
        elif fate == "contradiction" and rows:
            rows.append({**rows[0], "state": "qr" if rows[0]["state"] != "qr" else "active"})
        elif fate == "damage" and rows:
            rows[0] = {**rows[0], "state": None}
        elif fate == "wreck" and rows:
            rows[0] = {"channelId": rows[0]["channelId"], "transport": "whatsapp"}
        return orjson.dumps(rows)

    def take_down(self, process: Process, plural: str, key: NamespacedName, body: Any) -> None:
        """Note a write on its way, and let it be checked."""
        before = getattr(process.store, "channels" if plural == CH else "accounts").objects[key]
        status = merged(RESOURCES[plural].status_json(before.status), body["status"])
        write = Write(self.loop.time(), process, plural, key, before, status)
        self.writes.append(write)
        ready = next(each for each in status["conditions"] if each["type"] == "Ready")
        said = status.get("state", ""), status.get("channelID", ""), ready["reason"]
        self.tell("writes", process.name, *key, *said)
        if set(body["metadata"]) != {"uid", "resourceVersion"}:
            self.blame("a write names no uid or no resourceVersion")
        elif int(body["metadata"]["resourceVersion"]) < process.answered.get(
            before.metadata.uid, 0
        ):
            self.blame(f"{key}: it forgot its own last write")
        if not body["status"]:
            self.blame("a write changes nothing")
        if len(self.writes) > 2_000:
            raise Violation("it writes without end")
        for complaint in self._check(self, write):
            self.blame(f"{key}: {complaint}")

    def _created_at(self) -> str:
        created = NOW + timedelta(seconds=int(self.loop.time()))
        return created.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _let_watches_look(self) -> None:
        for watch in self.server.watches:
            watch.look()

    @property
    def alive(self) -> list[Process]:
        return [self.process, *self.deposed] if hasattr(self, "process") else []

    # What can happen.

    def do(self, step: tuple[Any, ...], more: Any = None) -> None:
        """Let a step happen, and look whether all is well."""
        self.tell("STEP", *step, more or "")
        getattr(self, f"do_{step[0]}")(*step[1:], **(more or {}))
        self.inspect()

    def inspect(self) -> None:
        """Raise what went wrong; look at what the processes take for true."""
        for process in self.alive:
            for task in process.tasks:
                if task.done():
                    self.blame(f"an informer ended: {task!r}")
            for table, resource in (
                (process.store.channels, CHANNELS),
                (process.store.accounts, ACCOUNTS),
            ):
                for key, object_ in table.objects.items():
                    self._inspect(process, (resource.plural, *key), object_)
        if self.violations:
            raise Violation("\n".join(self.violations))

    def _inspect(self, process: Process, key: Any, object_: Any) -> None:
        before = process.looked_at.get(key)
        if before is object_:
            return
        process.looked_at[key] = object_
        metadata = object_.metadata
        if before and int(metadata.resource_version) < int(before.metadata.resource_version):
            self.blame(f"{key}: the Store went back to version {metadata.resource_version}")
        stored = self.server.changed_at(key[0], int(metadata.resource_version))
        if stored is None or RESOURCES[key[0]].decode(stored.body) != object_:
            self.blame(f"{key}: the Store has what the API server never had: {object_}")

    def do_wait(self, seconds: float) -> None:
        self.loop.pass_time(seconds)

    def do_create(self, slot: str, number: int = 0, **more: Any) -> None:
        key, account = SLOTS[slot]
        if key in self.server.objects[CH]:
            return
        annotations = more.pop("annotations", {})
        spec = {
            "phoneNumber": PHONES[number],
            "active": True,
            "accountRef": {"name": account},
            "transport": "whatsapp",
            **more,
        }
        self._create(CH, key, spec, annotations)

    def _create(self, plural: str, key: NamespacedName, spec: Any, annotations: Any) -> None:
        status = {"observedGeneration": -1}
        body = {"metadata": {"annotations": annotations}, "spec": spec, "status": status}
        self.server.put(path_of(plural, key), body)

    def do_edit(self, slot: str, field: str, value: Any = None) -> None:
        key, _ = SLOTS[slot]
        if not (old := self.server.objects[CH].get(key)):
            return
        if field == "active":
            value = not old["spec"]["active"]
        if field == "channelID" and "channelID" in old["spec"]:
            return  # the CRD lets it be set once
        self.server.edit(path_of(CH, key), {"spec": {field: value}})

    def do_move(self, slot: str, account: str, **more: Any) -> None:
        """Let an object refer to another account; its channelID may change with that."""
        key, _ = SLOTS[slot]
        old = self.server.objects[CH].get(key)
        if old and old["spec"]["accountRef"]["name"] != account:
            spec = {"accountRef": {"name": account}, **more}
            self.server.edit(path_of(CH, key), {"spec": spec})

    def do_annotate(self, slot: str, name: str, value: str | None) -> None:
        self._annotate(CH, SLOTS[slot][0], name, value)

    def do_annotate_account(self, key: NamespacedName, name: str, value: str | None) -> None:
        self._annotate(AC, key, name, value)

    def _annotate(self, plural: str, key: NamespacedName, name: str, value: str | None) -> None:
        if key in self.server.objects[plural]:
            if value == "now":
                value = str(self.server.version)
            metadata = {"annotations": {f"wazzup.dev/{name}": value}}
            self.server.edit(path_of(plural, key), {"metadata": metadata})

    def do_delete(self, slot: str) -> None:
        if SLOTS[slot][0] in self.server.objects[CH]:
            self.server.delete(path_of(CH, SLOTS[slot][0]))

    def do_finish(self, slot: str) -> None:
        """Delete an object that somebody else's finalizer holds."""
        key = SLOTS[slot][0]
        old = self.server.objects[CH].get(key)
        if old and "deletionTimestamp" not in old["metadata"]:
            metadata = {"deletionTimestamp": "2026-11-22T10:00:00Z"}
            self.server.edit(path_of(CH, key), {"metadata": metadata})

    def do_anew(self, slot: str, number: int, **more: Any) -> None:
        """Delete and make anew, as another object."""
        self.do_delete(slot)
        self.do_create(slot, number, **more)

    def do_open(self, key: NamespacedName) -> None:
        if key not in self.server.objects[AC]:
            self._create(AC, key, self._account_spec(key), {})

    def _account_spec(self, key: NamespacedName) -> Any:
        secret = f"{key[1]}-{self._secrets[key]}"
        return {"apiKeySecretRef": {"name": secret, "key": "apiKey"}, "pollInterval": self.poll}

    def do_close(self, key: NamespacedName) -> None:
        if key in self.server.objects[AC]:
            self.server.delete(path_of(AC, key))

    def do_reopen(self, key: NamespacedName) -> None:
        """Delete an account and make it anew."""
        self.do_close(key)
        self.do_open(key)

    def do_rekey(self, key: NamespacedName) -> None:
        """Let an account name another Secret: the third of them opens another account of Wazzup."""
        self._secrets[key] += 1
        if key in self.server.objects[AC]:
            self.server.edit(path_of(AC, key), {"spec": self._account_spec(key)})

    def do_poll(self, key: NamespacedName, interval: str) -> None:
        if key in self.server.objects[AC]:
            self.server.edit(path_of(AC, key), {"spec": {"pollInterval": interval}})

    def do_hold(self, plural: str) -> None:
        if self.held[plural] is None:
            self.held[plural] = len(self.server.changes[plural])

    def do_deliver(self, plural: str, events: int) -> None:
        held = self.held[plural]
        if held is not None:
            self.held[plural] = min(held + events, len(self.server.changes[plural]))
            self._let_watches_look()

    def do_flow(self, plural: str) -> None:
        self.held[plural] = None
        self._let_watches_look()

    def do_cut(self, plural: str, end: str) -> None:
        """End the watch; "gone": with 410, and what had not been delivered is lost."""
        if end == "gone":
            self.server.compacted[plural] = self.server.version
        for process in self.alive:
            if process.deaf_from is None and plural in process.watches:
                process.watches[plural].end(end)

    def do_server(self, away: bool) -> None:
        self.away = away
        if away:
            for plural in (CH, AC):
                self.do_cut(plural, "broken")

    def do_row(self, id_: str, **change: Any) -> None:
        for rows in self.rows.values():
            if id_ in rows:
                rows[id_] = {**rows[id_], **change}

    def do_add(self, id_: str) -> None:
        self.present.add(id_)

    def do_remove(self, id_: str) -> None:
        self.present.discard(id_)

    def do_listings(self, *fates: str) -> None:
        self.listing_fates = list(fates)

    def do_trouble(self, key: NamespacedName, trouble: str) -> None:
        self.trouble[key] = trouble

    def do_writes(self, *fates: str) -> None:
        self.write_fates = list(fates)

    def do_pace(self, pace: str) -> None:
        self.pace = pace

    def do_restart(self) -> None:
        self.process.end()
        self._begin()

    def do_depose(self) -> None:
        """Let another process take over while the old one goes on without noticing."""
        for process in self.deposed:
            process.end()
        self.process.depose()
        self.deposed = [self.process]
        self._begin()

    def _begin(self) -> None:
        self._processes += 1
        self.process = Process(self, f"process {self._processes}")

    def do_bury(self) -> None:
        """End the deposed process."""
        for process in self.deposed:
            process.end()
        self.deposed = []

    def do_clock(self, seconds: int) -> None:
        """Let the operator's wall clock be wrong from now on."""
        self.clock_error = seconds
        self.clock_stepped = True

    def heal(self) -> None:
        """Let everything work again, and everything be delivered."""
        self.do_bury()
        self.trouble, self.listing_fates, self.write_fates, self.pace = {}, [], [], "ok"
        self.away = False
        for plural in (CH, AC):
            self.do_flow(plural)
