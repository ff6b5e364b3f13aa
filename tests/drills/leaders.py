"""Leader election: the Lease, its Events, and the requests of each replica."""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Self

import orjson

from tests.drills.drill import LEASES, Drill, Replica, Site
from tests.drills.gate import Gate
from tests.drills.judge import Write
from tests.integration.harness.api import JSON, ApiError, eventually

PATIENCE = 90.0
WINDOW = 20.0
"""Seconds from a listing to its statuses: polls come every 5 s, and a burst takes time."""

STALE_AFTER = 600.0


@dataclass(frozen=True)
class Durations:
    """Durations of a Lease, in seconds."""

    lease: float = 15.0
    deadline: float = 10.0
    period: float = 2.0

    @property
    def flags(self) -> tuple[str, str, str]:
        return (
            f"--leader-elect-lease-duration={self.lease:g}s",
            f"--leader-elect-renew-deadline={self.deadline:g}s",
            f"--leader-elect-retry-period={self.period:g}s",
        )

    @property
    def takeover(self) -> float:
        """Maximum time from a leader's crash to the first write of its successor."""
        return self.lease + 2 * self.period + 3.0


DEFAULT = Durations()
BRIEF = Durations(8.0, 4.0, 1.0)
"""For drills with many leader changes."""

States = dict[str, tuple[str | None, str, str]]
ACTIVE = ("Active", "True", "Active")
STILL_ACTIVE = ("Active", "False", "StillActive")
SCAN = ("ScanQRCode", "False", "ScanQRCode")
NOT_PAID = ("NotPaidFor", "False", "NotPaidFor")


class Sample(NamedTuple):
    """Answers of a replica's endpoints; 0: no answer."""

    time: float
    replica: str
    ready: int
    channels: int
    """The sum of wazzup_channels."""


class Probes:
    """Polls /readyz and /metrics of replicas in a thread."""

    def __init__(self, *replicas: Replica) -> None:
        self._replicas = replicas
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)
        self.samples: list[Sample] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.5):
            for replica in self._replicas:
                now, (ready, _) = time.time(), replica.probe("/readyz")
                counted = channels(replica).total()
                self.samples.append(Sample(now, replica.name, ready, counted))

    def assert_ready(self, replica: Replica) -> None:
        """Check that a replica was ready at every poll."""
        samples = [each for each in self.samples if each.replica == replica.name]
        assert len(samples) > 3
        assert {each.ready for each in samples} == {200}

    def assert_silent_until(self, acquired: float, replica: Replica) -> None:
        """Check that a replica exported no channels before it became leader, and some after."""
        found = [each for each in self.samples if each.replica == replica.name and each.channels]
        assert found, f"{replica.name} leads but exports no channels"
        assert found[0].time >= acquired - 0.5, "a standby exported channels: they count twice"


def channels(replica: Replica) -> Counter[str]:
    """Return a replica's wazzup_channels by state, without zeros."""
    counted = Counter[str]()
    for line in replica.metrics().splitlines():
        if found := re.match(r'wazzup_channels\{.*\bstate="(\w+)".*\} (\S+)', line):
            counted[found[1]] += int(float(found[2]))
    return +counted


class Act(NamedTuple):
    """A request of a replica, from the audit log."""

    time: float
    replica: str
    verb: str
    resource: str
    name: str
    code: int

    @property
    def writes(self) -> bool:
        return self.verb not in {"get", "list", "watch"} and self.resource != "events"


def acts(drill: Drill) -> list[Act]:
    """Return the replicas' requests for the drill's namespace and Lease, oldest first."""
    name, user = drill.api.namespace.encode(), f'"username":"{drill.operator}"'.encode()
    found = []
    with drill.plane.audit_log.open("rb") as log:
        for line in log:
            if name in line and user in line and line.endswith(b"\n"):
                found.append(_act(orjson.loads(line)))
    return sorted(found)


def _act(entry: JSON) -> Act:
    what = entry["objectRef"]
    groups = entry["user"].get("groups", [])
    return Act(
        seconds(entry["requestReceivedTimestamp"]),
        next((group for group in groups if group.startswith("replica-")), ""),
        entry["verb"],
        what["resource"],
        what.get("name", ""),
        entry.get("responseStatus", {}).get("code", 0),
    )


def seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def lease(drill: Drill) -> JSON:
    """Return the spec of the Lease; empty if it does not exist."""
    leases = f"apis/coordination.k8s.io/v1/namespaces/{LEASES}/leases"
    try:
        return drill.api.request("GET", f"{leases}/{drill.api.namespace}")["spec"]
    except ApiError as error:
        if error.status != 404:
            raise
        return {}


def holder(spec: JSON) -> str:
    """Return the name of the Pod that holds a Lease, or ""."""
    return str(spec.get("holderIdentity", "")).split("_")[0]


def wait_leads(drill: Drill, replica: Replica, patience: float = 30.0) -> float:
    """Wait until the replica holds the Lease; return the time of its acquisition."""

    def look() -> JSON | None:
        found = lease(drill)
        return found if holder(found) == replica.name else None

    return seconds(eventually(look, f"{replica.name} leads", patience)["acquireTime"])


def leader_events(drill: Drill) -> list[str]:
    """Return the notes of the Events on the Lease, oldest first."""
    path = f"apis/events.k8s.io/v1/namespaces/{LEASES}/events"
    found = [
        (each["eventTime"], each["note"])
        for each in drill.api.request("GET", path)["items"]
        if each["regarding"]["kind"] == "Lease"
        and each["regarding"]["name"] == drill.api.namespace
        and each["reason"] == "LeaderElection"
    ]
    return [note for _, note in sorted(found)]


def assert_leaders(drill: Drill, *replicas: Replica) -> None:
    """Check that exactly these replicas led, in this order, each with an Event on the Lease."""
    expected = [f"{each.name}_uid-of-{each.name} became leader" for each in replicas]
    eventually(lambda: len(leader_events(drill)) >= len(expected), f"the Events are {expected}", 10)
    assert leader_events(drill) == expected
    assert holder(lease(drill)) == replicas[-1].name
    assert lease(drill)["leaseTransitions"] == len(replicas) - 1


def leader_and_standby(
    drill: Drill, *flags: str, gate: Gate | None = None
) -> tuple[Replica, Replica]:
    """Start replica-1, which becomes the leader, then replica-2."""
    leader = drill.replica(1, *flags, gate=gate)
    wait_leads(drill, leader)
    standby = drill.replica(2, *flags)
    standby.wait_ready()
    return leader, standby


def wait_written(
    drill: Drill, leader: Replica, expected: States, patience: float = PATIENCE
) -> None:
    """Wait until all objects are as expected and the leader counts them."""
    wait_counted(lambda: leader, expected, patience)
    drill.wait_states(expected, patience)


def wait_counted(leader: Callable[[], Replica], expected: States, patience: float) -> None:
    """Wait until the leader counts as many objects in each state; lists would be expensive."""
    states = Counter(str(state) for state, _, _ in expected.values())

    def look() -> bool:
        time.sleep(0.25)
        return channels(leader()) == states

    eventually(look, f"the leader counts {dict(states)}", patience)


def first(writes: list[Write], replica: Replica, since: float = 0.0) -> float:
    """Return the time of the replica's first write."""
    return min(each.time for each in writes if each.replica == replica.name and each.time >= since)


def last(writes: list[Write], replica: Replica) -> float:
    return max(each.time for each in writes if each.replica == replica.name)


def errors(log: str) -> list[str]:
    return [line for line in log.splitlines() if " ERROR " in line]


def assert_once(drill: Drill, writes: list[Write], names: Iterable[str]) -> None:
    """Check that exactly these objects were written, once each."""
    # A PATCH whose connection broke may have been stored; the audit log has it with 504.
    broken = {each.name for each in acts(drill) if (each.verb, each.code) == ("patch", 504)}
    times = Counter(each.name for each in writes)
    assert set(times.values()) == {1}
    assert {*names} - broken <= times.keys() <= {*names}


def wait_until(moment: float) -> None:
    """Let time pass until then."""
    time.sleep(max(0.0, moment - time.time()))


class Money:
    """An account with active channels that can run out of money."""

    def __init__(self, drill: Drill, size: int) -> None:
        self.drill, self.size = drill, size
        self.site = drill.site("money", ["active"] * size)
        self.truth = drill.truth(window=WINDOW, stale_after=STALE_AFTER)

    def all(self, status: tuple[str, str, str]) -> States:
        return {f"money-{n}": status for n in range(self.size)}

    def run_out(self, at_least: int = 30) -> None:
        """Run out of money; return while the statuses are being written."""
        before = self.unpaid()
        self.drill.simulator.run_out_of_money(self.site.id)
        eventually(lambda: self.unpaid() - before >= at_least, f"{at_least} are written", PATIENCE)
        assert self.unpaid() - before < self.size, "the burst was over too soon"

    def pay(self) -> None:
        self.drill.simulator.pay(self.site.id)

    def wait_more_written(self, before: int) -> None:
        """Wait until there are more than `before` writes."""
        eventually(lambda: len(self.truth.written()) > before, "it is written", PATIENCE)

    def unpaid(self) -> int:
        return len(self.truth.written(state="NotPaidFor"))


def wait_listed(site: Site, times: int) -> None:
    """Wait for this many more listings of the account."""
    enough = len(site.requests()) + times
    site.wait_requests(lambda found: len(found) >= enough, f"{times} more listings")
