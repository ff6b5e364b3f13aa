"""The world of a history: objects, Wazzup, processes of the operator, and time."""

import base64
import logging
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import orjson

from tests.merge_patch import merged
from tests.unit.build import NOW, finished
from tests.unit.fake_api import FakeApi
from tests.unit.histories.process import (
    AC,
    CH,
    DEFAULT,
    FAR,
    FREE_TEXT,
    PHONES,
    RESOURCES,
    ROWS,
    SECOND,
    SLOTS,
    Process,
    Violation,
    VirtualLoop,
    Write,
    path_of,
)
from wazzup_operator.controller import account_loop
from wazzup_operator.kube import informer as informer_module
from wazzup_operator.kube import status as status_module
from wazzup_operator.kube.errors import ConnectionFailed, Refused
from wazzup_operator.reconcile import find as find_module
from wazzup_operator.reconcile.find import Findings, find
from wazzup_operator.reconcile.observation import Listed
from wazzup_operator.reconcile.plan import Plan, plan
from wazzup_operator.reconcile.view import AccountView
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.codec import ACCOUNTS, CHANNELS


@dataclass
class Recorder(logging.Handler):
    """Treats errors in the operator's log, and lines with free text or a number, as violations."""

    world: "World"
    level: int = field(default=logging.INFO)

    def __post_init__(self) -> None:
        super().__init__(logging.INFO)

    def __hash__(self) -> int:
        return id(self)

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if record.levelno >= logging.ERROR:
            self.world.record_violation(logging.Formatter().format(record))
        elif FREE_TEXT in line or any(phone.strip("+") in line for phone in PHONES):
            self.world.record_violation(f"the log tells too much: {line}")


class World:
    """The whole world. `do` runs one step; `checks` judge each write."""

    def __init__(self, poll: str, check: Any) -> None:
        self.loop = VirtualLoop()
        self.server = FakeApi()
        self.server.stride = 1000
        self.server.created_at = self._created_at
        self.unreachable = False
        """Whether the API server is unreachable."""

        self.restores = 0
        self.restored_at = -1.0
        """How often and when etcd was last restored."""

        self.poll = poll
        self._check = check
        self.clock_error = 0
        """Error of the operator's wall clock in seconds."""
        self.clock_stepped = False
        self.held: dict[str, int | None] = {CH: None, AC: None}
        self.trouble: dict[NamespacedName, str] = {}
        self.write_fates: list[str] = []
        self.refused: set[NamespacedName] = set()
        """The channels whose statuses the API server refuses."""

        self.remembers = True
        """Whether a plan uses what earlier plans settled."""

        self.listing_fates: list[str] = []
        self.pace = "ok"
        """What happens to each request: "slow" ones arrive late, "late" ones are answered late."""
        self.rows: dict[str, dict[str, Any]] = {
            account: {
                id_: {
                    "channelId": id_,
                    "transport": transport,
                    "plainId": plain,
                    "name": FREE_TEXT,
                    "state": "active",
                }
                for id_, (transport, plain) in rows.items()
            }
            for account, rows in ROWS.items()
        }
        self.present = {"a", "c", "w", "x", "t", "u"}
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
        self._undo.callback(setattr, log, "propagate", log.propagate)
        log.setLevel(logging.INFO)
        log.propagate = False  # thousands of histories would flood the test's report
        clock = SimpleNamespace(monotonic=self.loop.time)
        for module, name, value in (
            (informer_module, "time", clock),
            (status_module, "time", clock),
            (informer_module, "PAGE", 2),
            (find_module, "STEP", 1),
            (account_loop, "find", self._find),
            (account_loop, "plan", self._plan),
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
        """The operator's wall clock."""
        return NOW + timedelta(seconds=int(self.loop.time()) + self.clock_error)

    # Used by the fakes.

    def record_violation(self, sentence: str) -> None:
        """Record a violation, to raise it later: here the operator would catch it."""
        self.note("VIOLATION", sentence)
        self.violations.append(sentence)

    def _find(self, view: AccountView) -> Generator[None, None, Findings]:
        return find(view if self.remembers else replace(view, settled={}))

    def _plan(self, view: AccountView, findings: Findings) -> Generator[None, None, Plan]:
        """Make a plan, and check that it does not depend on what earlier plans settled."""
        afresh = replace(view, settled={})
        listed = isinstance(view.observation, Listed)  # else, later claims count too
        again = finished(find(afresh)) if listed else findings
        if list(again) != list(findings):
            self.record_violation(f"{view.key}: a finding is kept although its causes have changed")
        if finished(plan(view, findings)) != finished(plan(afresh, again)):
            self.record_violation(f"{view.key}: a status is kept although its causes have changed")
        return plan(view if self.remembers else afresh, findings)

    def note(self, *what: Any) -> None:
        self.story.append((self.loop.time(), what))

    def secret(self, namespace: str, name: str) -> Any:
        trouble = self.trouble.get((namespace, name.rsplit("-", 1)[0]))
        if trouble == "kube":
            raise ConnectionFailed("the API server is unreachable")
        if trouble == "missing":
            raise Refused(404, "no such Secret")
        if trouble == "broken":
            raise Refused(500, FREE_TEXT)
        key = "" if trouble == "empty" else f"{namespace}/{name}"
        return {"data": {"apiKey": base64.b64encode(key.encode()).decode()}}

    def wazzup_of(self, secret: str) -> str:
        """Return the Wazzup account of the key in that Secret."""
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

    def record_write(self, process: Process, plural: str, key: NamespacedName, body: Any) -> None:
        """Record a write in transit, and check it."""
        before = getattr(process.store, "channels" if plural == CH else "accounts").objects[key]
        status = merged(RESOURCES[plural].status_json(before.status), body["status"])
        write = Write(self.loop.time(), process, plural, key, before, status)
        self.writes.append(write)
        ready = next(each for each in status["conditions"] if each["type"] == "Ready")
        said = status.get("state", ""), status.get("channelID", ""), ready["reason"]
        self.note("writes", process.name, *key, *said)
        if set(body["metadata"]) != {"uid", "resourceVersion"}:
            self.record_violation("a write names no uid or no resourceVersion")
        elif int(body["metadata"]["resourceVersion"]) < process.answered.get(
            before.metadata.uid, 0
        ):
            self.record_violation(f"{key}: it forgot its own last write")
        if not body["status"]:
            self.record_violation("a write changes nothing")
        if len(self.writes) > 2_000:
            raise Violation("it writes without end")
        for complaint in self._check(self, write):
            self.record_violation(f"{key}: {complaint}")

    def _created_at(self) -> str:
        created = NOW + timedelta(seconds=int(self.loop.time()))
        return created.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _let_watches_look(self) -> None:
        for watch in self.server.watches:
            watch.look()

    @property
    def alive(self) -> list[Process]:
        return [self.process, *self.deposed] if hasattr(self, "process") else []

    # Steps.

    def do(self, step: tuple[Any, ...], more: Any = None) -> None:
        """Run a step, and raise any violation."""
        self.note("STEP", *step, more or "")
        getattr(self, f"do_{step[0]}")(*step[1:], **(more or {}))
        self.inspect()

    def inspect(self) -> None:
        """Raise violations, and check the Stores."""
        for process in self.alive:
            for task in process.tasks:
                if task.done():
                    self.record_violation(f"an informer ended: {task!r}")
            for table, resource in (
                (process.store.channels, CHANNELS),
                (process.store.accounts, ACCOUNTS),
            ):
                if process.relisted.get(resource.plural, -1.0) <= self.restored_at:
                    continue  # it cannot know yet
                for key, object_ in table.objects.items():
                    self._inspect(process, (resource.plural, *key), object_)
        if self.violations:
            raise Violation("\n".join(self.violations))

    def _inspect(self, process: Process, key: Any, object_: Any) -> None:
        before = process.inspected.get(key)
        if before is object_:
            return
        process.inspected[key] = object_
        metadata = object_.metadata
        if before and int(metadata.resource_version) < int(before.metadata.resource_version):
            self.record_violation(
                f"{key}: the Store went back to version {metadata.resource_version}"
            )
        stored = self.server.changed_at(key[0], int(metadata.resource_version))
        if stored is None or RESOURCES[key[0]].decode(stored.body) != object_:
            self.record_violation(f"{key}: the Store has what the API server never had: {object_}")

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
            "displayName": FREE_TEXT,
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
        """Change an object's accountRef, and perhaps its channelID."""
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
        """Delete an object that a foreign finalizer holds."""
        key = SLOTS[slot][0]
        old = self.server.objects[CH].get(key)
        if old and "deletionTimestamp" not in old["metadata"]:
            metadata = {"deletionTimestamp": "2026-11-22T10:00:00Z"}
            self.server.edit(path_of(CH, key), {"metadata": metadata})

    def do_recreate(self, slot: str, number: int, **more: Any) -> None:
        """Delete an object and create another with its name."""
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
        """Delete and recreate an account."""
        self.do_close(key)
        self.do_open(key)

    def do_rekey(self, key: NamespacedName) -> None:
        """Refer to another Secret; the third holds the key of another Wazzup account."""
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
        """End the watch; "gone": with 410, and undelivered events are dropped."""
        if end == "gone":
            self.server.compacted[plural] = self.server.version
        for process in self.alive:
            if process.cut_off_at is None and plural in process.watches:
                process.watches[plural].end(end)

    def do_server(self, unreachable: bool) -> None:
        self.unreachable = unreachable
        if unreachable:
            for plural in (CH, AC):
                self.do_cut(plural, "broken")

    def do_restore(self, lost: int) -> None:
        """Restore etcd to what it was that many changes ago, and restart the API server.

        It is down for longer than an informer waits between two watches, which thus notices.
        """
        before = self.unreachable
        self.do_server(True)
        self.do_wait(15)
        self.unreachable = before
        self.do_end_deposed()
        accounts = {*self.server.objects[AC]}
        changes = [change.version for each in self.server.changes.values() for change in each]
        self.server.restore(sorted(changes)[max(0, len(changes) - 1 - lost)])
        self.restores += 1
        self.restored_at = self.loop.time()
        for plural in (CH, AC):
            self.do_flow(plural)
            self.do_cut(plural, "broken")
            self.server.compacted[plural] = 0
        for key in self.server.objects[AC].keys() - accounts:
            self.process.got.pop(key, None)  # it forgot the account when that was deleted
        self.process.inspected.clear()
        self.process.answered.clear()

    def do_row(self, id_: str, **change: Any) -> None:
        for rows in self.rows.values():
            if id_ in rows:
                rows[id_] = {**rows[id_], **change}

    def do_add(self, id_: str) -> None:
        self.present.add(id_)

    def do_remove(self, id_: str) -> None:
        self.present.discard(id_)

    def do_add_again(self, state: str | None) -> None:
        """Add channel a's number again, as b, while a is in this state or gone."""
        self.do_row("b", state="active")
        self.do_add("b")
        if state:
            self.do_row("a", state=state)
        else:
            self.do_remove("a")

    def do_listings(self, *fates: str) -> None:
        self.listing_fates = list(fates)

    def do_trouble(self, key: NamespacedName, trouble: str) -> None:
        self.trouble[key] = trouble

    def do_writes(self, *fates: str) -> None:
        self.write_fates = list(fates)

    def do_refuse(self, slot: str) -> None:
        self.refused.add(SLOTS[slot][0])

    def do_pace(self, pace: str) -> None:
        self.pace = pace

    def do_restart(self) -> None:
        self.process.end()
        self._begin()

    def do_depose(self) -> None:
        """Let another process take over while the old one continues unaware."""
        for process in self.deposed:
            process.end()
        self.process.depose()
        self.deposed = [self.process]
        self._begin()

    def _begin(self) -> None:
        self._processes += 1
        self.process = Process(self, f"process {self._processes}")

    def do_end_deposed(self) -> None:
        """End the deposed process."""
        for process in self.deposed:
            process.end()
        self.deposed = []

    def do_clock(self, seconds: int) -> None:
        """Set the error of the operator's wall clock."""
        self.clock_error = seconds
        self.clock_stepped = True

    def heal(self) -> None:
        """End all faults and deliver all events."""
        self.do_end_deposed()
        self.trouble, self.listing_fates, self.write_fates, self.pace = {}, [], [], "ok"
        self.unreachable = False
        self.refused.clear()
        for plural in (CH, AC):
            self.do_flow(plural)
