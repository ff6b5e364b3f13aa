"""Every status written in a namespace, from the audit log, and whether it was right.

The audit log and the simulator take their times from the same clock, the machine's.
"""

import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

import orjson

from dev.controlplane.plane import ControlPlane
from tests.drills.judge import Facts, Write, judge
from tests.integration.harness.api import JSON
from wazzup_simulator.client import Request, Simulator

KEPT = ("verb", "user", "objectRef", "requestReceivedTimestamp", "responseObject")
"""What is kept of an entry, besides the metadata sent."""

VERBS = (b'"verb":"patch"', b'"verb":"create"', b'"verb":"update"')


class AuditLog:
    """The write requests for objects of one kind in one namespace.

    It continues reading where it stopped.
    """

    def __init__(self, file: Path, namespace: str, user: str, kind: str = "WazzupChannel") -> None:
        self._file = file
        self._user = user
        self._kind, self._resource = kind, f"{kind.lower()}s"
        self._namespace = f'"namespace":"{namespace}"'.encode()
        self._position = 0
        self._taken: dict[str, list[bytes]] = defaultdict(list)
        """Stored writes by uid of the object, compressed: a soak has hundreds of thousands."""

        self._restored: list[int] = []
        """The revisions that etcd was restored to."""

        self.refused: Counter[tuple[str, int]] = Counter()
        """The operator's failed PATCHes of statuses, by replica and code."""

        self.damaged = 0
        """Lines that are not JSON: a killed API server may truncate one."""

    def writes(self) -> list[Write]:
        """Return the operator's stored statuses, oldest first."""
        return sorted(self.by_object(), key=lambda each: each.time)

    def by_object(self) -> Iterator[Write]:
        """Read the log now; yield the operator's statuses of one object after the other.

        Those of each object come in the order of versions. They are made one by one, because
        all of a soak's would fill the memory.
        """
        self.read()
        return (write for entries in self._taken.values() for write in self._chain(entries))

    def read(self) -> None:
        """Read what is new in the log."""
        with self._file.open("rb") as file:
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # incomplete
                self._position += len(line)
                if self._namespace in line and self._changes_an_object(line):
                    self._take(line)

    def restored(self, revision: int) -> None:
        """Etcd was restored to this revision. Call it before the API server is started again."""
        self.read()
        self._restored.append(revision)

    def _changes_an_object(self, line: bytes) -> bool:
        resource = f'"resource":"{self._resource}"'.encode()
        return resource in line and any(verb in line for verb in VERBS)

    def _take(self, line: bytes) -> None:
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            self.damaged += 1
            return
        if entry["objectRef"].get("resource") != self._resource:
            return
        code = entry.get("responseStatus", {}).get("code", 0)
        stored = entry.get("responseObject", {})
        if 200 <= code < 300 and stored.get("kind") == self._kind:
            stored["metadata"].pop("managedFields", None)
            kept = {key: entry[key] for key in KEPT}
            kept["sent"] = entry.get("requestObject", {}).get("metadata", {})
            kept["restores"] = len(self._restored)
            self._taken[stored["metadata"]["uid"]].append(zlib.compress(orjson.dumps(kept), 1))
        elif self._is_by_operator(entry):
            self.refused[_replica(entry), code] += 1

    def _is_by_operator(self, entry: JSON) -> bool:
        what = entry["user"]["username"], entry["verb"], entry["objectRef"].get("subresource")
        return what == (self._user, "patch", "status")

    def _chain(self, entries: list[bytes]) -> Iterator[Write]:
        """Yield the operator's writes of one object, in the order of versions."""
        history: list[JSON] = []
        for entry in sorted(map(_unpacked, entries), key=_order):
            while history and self._is_lost(history[-1], entry["restores"]):
                history.pop()
            if self._is_by_operator(entry):
                yield _write(entry, history[-1]["responseObject"] if history else {})
            history.append(entry)

    def _is_lost(self, entry: JSON, restores: int) -> bool:
        """Return whether one of so many restores went back to before this entry."""
        version = int(entry["responseObject"]["metadata"]["resourceVersion"])
        return any(version > revision for revision in self._restored[entry["restores"] : restores])


def _unpacked(entry: bytes) -> JSON:
    found: JSON = orjson.loads(zlib.decompress(entry))
    return found


def _order(entry: JSON) -> tuple[int, int, str]:
    """Return a sort key; a PATCH without effect comes after the write that made the version."""
    version = int(entry["responseObject"]["metadata"]["resourceVersion"])
    return entry["restores"], version, str(entry["requestReceivedTimestamp"])


def _replica(entry: JSON) -> str:
    groups = entry["user"].get("groups", [])
    return next((group for group in groups if not group.startswith("system:")), "")


def _write(entry: JSON, known: JSON) -> Write:
    stored, sent = entry["responseObject"], entry["sent"]
    spec, metadata = stored["spec"], stored["metadata"]
    planned_for = sent.get("resourceVersion")
    last_known = known.get("status", {})
    is_next = planned_for == known.get("metadata", {}).get("resourceVersion")
    return Write(
        time=datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp(),
        name=metadata["name"],
        uid=metadata["uid"],
        replica=_replica(entry),
        account=spec.get("accountRef", {}).get("name", "default"),
        number=spec.get("phoneNumber", "").lstrip("+"),
        active=spec.get("active", True),
        generation=metadata["generation"],
        status=stored.get("status", {}),
        before=last_known if is_next else None,
        last_known=last_known,
        guarded="uid" in sent and planned_for is not None,
        changed=planned_for != metadata["resourceVersion"],
        restores=entry["restores"],
    )


@dataclass
class Truth:
    """Judges every status written in a namespace so far.

    `accounts` maps each WazzupAccount to an account of the simulator. Call `learn` before a channel
    is deleted, and `collect` before the simulator has had more requests than it keeps.
    """

    plane: ControlPlane
    simulator: Simulator
    namespace: str
    user: str
    """The operator's user name."""

    accounts: Mapping[str, str]
    window: float
    stale_after: float
    allow: Mapping[str, Collection[str]] = field(default_factory=dict)
    grace: float = 3.0

    def __post_init__(self) -> None:
        self._log = AuditLog(self.plane.audit_log, self.namespace, self.user)
        self._numbers: dict[str, str] = {}
        self._requests: dict[str, list[Request]] = {name: [] for name in self.accounts}
        self.learn()

    def learn(self) -> None:
        """Record the numbers of all channels; the simulator forgets them with the channel."""
        for account in self.accounts.values():
            for channel in self.simulator.channels(account):
                if isinstance(number := channel.row.get("plainId"), str):
                    self._numbers.setdefault(channel.id, number)

    def collect(self) -> None:
        """Fetch the requests that the simulator has recorded; it drops the oldest ones."""
        for name, account in self.accounts.items():
            known, found = self._requests[name], self.simulator.requests(account)
            first = found.total - len(found.requests)
            assert first <= len(known), f"the simulator has dropped requests of {account}"
            known[first:] = found.requests  # some may have been answered meanwhile

    def restored(self, revision: int) -> None:
        """Etcd was restored to this revision. Call it before the API server is started again."""
        self._log.restored(revision)

    def writes(self) -> Counter[str]:
        """Count the stored writes by replica."""
        return Counter(write.replica for write in self._log.by_object())

    def refused(self) -> Counter[tuple[str, int]]:
        """Count the failed writes by replica and code."""
        self._log.read()
        return self._log.refused

    def written(self, name: str = "*", state: str | None = None) -> list[Write]:
        """Return the stored writes of objects that match a pattern, oldest first."""
        return [
            each
            for each in self._log.writes()
            if fnmatchcase(each.name, name) and state in (None, each.status.get("state"))
        ]

    def times(self) -> list[float]:
        """Return when each status was written."""
        return [write.time for write in self._log.by_object()]

    def facts(self) -> Facts:
        """Return what Wazzup has shown so far."""
        self.learn()
        self.collect()
        facts = Facts(
            changes={
                name: self.simulator.history(account) for name, account in self.accounts.items()
            },
            requests=self._requests,
            numbers=self._numbers,
            window=self.window,
            stale_after=self.stale_after,
            grace=self.grace,
            allow=self.allow,
        )
        nameless = {
            change.channel
            for changes in facts.changes.values()
            for change in changes
            if change.channel not in self._numbers
        }
        assert not nameless, f"call learn() before deleting: {', '.join(sorted(nameless))}"
        return facts

    def violations(self) -> list[str]:
        """Describe each status that was wrong when it was written."""
        writes = self._log.by_object()  # those before the facts are fetched
        return [str(each) for each in judge(writes, self.facts())]

    def assert_true(self) -> None:
        """Fail if any status was wrong when it was written, or if there is none."""
        assert self.writes(), "nothing was written"
        violations = self.violations()
        shown = "\n".join(violations[:50])
        assert not violations, f"{len(violations)} violations:\n{shown}"
