"""Replicas that are killed, stopped, cut off or misled about the time: one leads, nobody lies.

A burst is either 1,000 objects that are created, or an account that runs out of money, so that one
listing changes all of its channels and as many statuses are written in one go.
"""

import os
import random
import re
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple, Self

import orjson
import pytest

from tests.drills.drill import LEASES, Drill, Replica, Site
from tests.drills.duration import SCALE, lasting
from tests.drills.figures import measured
from tests.drills.gate import Gate
from tests.drills.truth import Write
from tests.integration.harness.api import JSON, Api, ApiError, eventually
from tests.integration.harness.release import RIGHTS

pytestmark = pytest.mark.timeout(600)

PATIENCE = 90.0
WINDOW = 20.0
"""The account is listed every 5 s; to write what is planned with a listing takes a while."""

STALE_AFTER = 600.0

IN_FLIGHT = 16
"""PATCHes under way at once."""

HANDOVER = 3.0
"""Seconds from a leader's SIGTERM to the first write of its successor."""


@dataclass(frozen=True)
class Durations:
    """Those of a Lease, in seconds, and what they promise."""

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
        """From the end of a leader that could not say so to the first write of its successor."""
        return self.lease + 2 * self.period + 3.0


DEFAULT = Durations()
BRIEF = Durations(8.0, 4.0, 1.0)
"""For drills in which replicas change often."""

HOUR = 3600

States = dict[str, tuple[str | None, str, str]]

ACTIVE = ("Active", "True", "Active")
STILL_ACTIVE = ("Active", "False", "StillActive")
SCAN = ("ScanQRCode", "False", "ScanQRCode")
NOT_PAID = ("NotPaidFor", "False", "NotPaidFor")

CASES = (
    ("active", ACTIVE),
    ("qridle", SCAN),
    ("disabled", ("Off", "False", "Off")),
    (None, ("NotAdded", "False", "NotAdded")),
)
"""What Wazzup shows for every fourth object of a burst, and what the object has to say then."""


class Burst:
    """1,000 objects, which are not created yet, and their channels in Wazzup."""

    size = 1000

    def __init__(self, drill: Drill) -> None:
        self.drill = drill
        self.site = site = drill.site("burst", ())
        cases = [CASES[n % len(CASES)] for n in range(self.size)]
        self.expected: States = {f"burst-{n}": told for n, (_, told) in enumerate(cases)}
        rows = {site.phone(n)[1:]: shown for n, (shown, _) in enumerate(cases)}
        drill.simulator.add_channels(
            [{"phone": phone, "state": shown} for phone, shown in rows.items() if shown], site.id
        )
        drill.numbers |= rows.keys()
        self.truth = drill.truth(window=WINDOW, stale_after=STALE_AFTER)

    @contextmanager
    def created(self) -> Iterator[Future[None]]:
        """Create all objects while the block runs."""
        bodies = [self.site.body(n) for n in range(self.size)]
        with ThreadPoolExecutor(1) as thread:
            creation = thread.submit(self.drill.create_all, bodies)
            yield creation
            creation.result(PATIENCE)

    def wait_begun(self) -> None:
        """Wait until some of it is written and most of it is not."""
        eventually(lambda: self.truth.writes().total() >= 300, "300 are written", PATIENCE)
        assert self.truth.writes().total() < 900, "the burst was over too soon"

    def assert_written_once(self) -> None:
        """Each object was written once, by the leader or by its successor."""
        writes = self.truth.written()
        assert_once(self.drill, writes, self.expected)
        # Each replaced what there was when the object was created.
        assert all(each.before == {"observedGeneration": -1} for each in writes)


class Sample(NamedTuple):
    """What a replica's endpoints said; 0 if they did not answer."""

    time: float
    replica: str
    ready: int
    channels: int
    """The sum of wazzup_channels."""


class Probes:
    """Asks replicas all the time whether they are ready and which channels they tell of."""

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
        """It was ready whenever it was asked."""
        asked = [each for each in self.samples if each.replica == replica.name]
        assert len(asked) > 3
        assert {each.ready for each in asked} == {200}

    def assert_silent_until(self, acquired: float, replica: Replica) -> None:
        """It told of no channels before it was the leader, and of some in the end."""
        told = [each for each in self.samples if each.replica == replica.name and each.channels]
        assert told, f"{replica.name} tells of no channels although it leads"
        assert told[0].time >= acquired - 0.5, "a standby told of channels, they count twice"


def channels(replica: Replica) -> Counter[str]:
    """Return its wazzup_channels by state; nothing if it has none."""
    counted = Counter[str]()
    for line in replica.metrics().splitlines():
        if found := re.match(r'wazzup_channels\{.*\bstate="(\w+)".*\} (\S+)', line):
            counted[found[1]] += int(float(found[2]))
    return +counted


class Act(NamedTuple):
    """A request that a replica made, as the audit log has it."""

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
    """Return what the replicas asked for in the drill's namespace and of its Lease, in order."""
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
    """Return the Lease's spec, empty where there is no Lease."""
    leases = f"apis/coordination.k8s.io/v1/namespaces/{LEASES}/leases"
    try:
        return drill.api.request("GET", f"{leases}/{drill.api.namespace}")["spec"]
    except ApiError as error:
        if error.status != 404:
            raise
        return {}


def wait_leads(drill: Drill, replica: Replica, patience: float = 30.0) -> float:
    """Wait until the Lease is the replica's; return since when."""

    def look() -> JSON | None:
        found = lease(drill)
        return found if found.get("holderIdentity") == replica.name else None

    return seconds(eventually(look, f"{replica.name} leads", patience)["acquireTime"])


def told_of_leaders(drill: Drill) -> list[str]:
    """Return the notes of the Events about the Lease, oldest first."""
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
    """Exactly these led, one after the other, and each is told of in an Event on the Lease."""
    expected = [f"{replica.name} became leader" for replica in replicas]
    eventually(lambda: len(told_of_leaders(drill)) >= len(expected), f"Events tell {expected}", 10)
    assert told_of_leaders(drill) == expected
    assert lease(drill)["holderIdentity"] == replicas[-1].name
    assert lease(drill)["leaseTransitions"] == len(replicas) - 1


def leader_and_standby(
    drill: Drill, *flags: str, gate: Gate | None = None
) -> tuple[Replica, Replica]:
    """Start replica-1, which leads, and replica-2, which stands by."""
    leader = drill.replica(1, *flags, gate=gate)
    wait_leads(drill, leader)
    standby = drill.replica(2, *flags)
    standby.wait_ready()
    return leader, standby


def wait_told(drill: Drill, leader: Replica, expected: States, patience: float = PATIENCE) -> None:
    """Wait until every object says what is expected of it, and the leader counts them."""
    states = Counter(str(state) for state, _, _ in expected.values())

    # A list of 1,000 objects is a megabyte in the audit log, and a scrape costs the replica.
    def look() -> bool:
        time.sleep(0.25)
        return channels(leader) == states

    eventually(look, f"{leader.name} counts {dict(states)}", patience)
    drill.wait_states(expected, patience)


def first(writes: list[Write], replica: Replica, since: float = 0.0) -> float:
    """Return when the replica first wrote a status."""
    return min(each.time for each in writes if each.replica == replica.name and each.time >= since)


def last(writes: list[Write], replica: Replica) -> float:
    return max(each.time for each in writes if each.replica == replica.name)


def errors(log: str) -> list[str]:
    return [line for line in log.splitlines() if " ERROR " in line]


def assert_once(drill: Drill, writes: list[Write], names: Iterable[str]) -> None:
    """Each of these objects was written once, and no other."""
    # What was under way when its connection broke may have been stored; of that the audit log says
    # nothing but 504. Then there was nothing left to write.
    broken = {each.name for each in acts(drill) if (each.verb, each.code) == ("patch", 504)}
    times = Counter(each.name for each in writes)
    assert set(times.values()) == {1}
    assert {*names} - broken <= times.keys() <= {*names}


def wait_until(moment: float) -> None:
    """Let time pass until then: nothing is waited for, it is to last."""
    time.sleep(max(0.0, moment - time.time()))


def test_a_leader_that_is_killed_in_the_middle_of_a_burst(drill: Drill) -> None:
    burst = Burst(drill)
    leader, standby = leader_and_standby(drill)
    with Probes(standby) as probes:
        with burst.created():
            burst.wait_begun()
            killed = time.time()
            leader.kill()
        acquired = wait_leads(drill, standby)
        wait_told(drill, standby, burst.expected)
    probes.assert_ready(standby)
    probes.assert_silent_until(acquired, standby)

    writes = burst.truth.written()
    began = first(writes, standby)
    measured(
        "SIGKILL of the leader in a burst of 1,000",
        written_before=burst.truth.writes()[leader.name],
        successor_has_the_lease=acquired - killed,
        successor_writes=began - killed,
        last_object_right=last(writes, standby) - killed,
        conflicts=burst.truth.refused().total(),
    )
    assert last(writes, leader) < acquired < began
    assert began - killed <= DEFAULT.takeover
    burst.assert_written_once()
    assert_counted(drill)
    assert_leaders(drill, leader, standby)
    burst.truth.assert_true()


def assert_counted(drill: Drill) -> None:
    """The account has counted the burst's channels."""
    expected = {"declared": 1000, "observed": 750, "ready": 250}
    eventually(
        lambda: drill.status("burst", "wazzupaccount").get("channels") == expected,
        f"the account counts {expected}",
        PATIENCE,
    )


def test_a_leader_that_is_told_to_end_in_the_middle_of_a_burst(drill: Drill) -> None:
    burst = Burst(drill)
    leader, standby = leader_and_standby(drill)
    with Probes(leader, standby) as probes:
        with burst.created():
            burst.wait_begun()
            signalled = time.time()
            code = leader.stop()
            ended = time.time()
        acquired = wait_leads(drill, standby)
        wait_told(drill, standby, burst.expected)
    assert code == 0
    assert f"the Lease {LEASES}/" in leader.log()
    assert "is given back" in leader.log()
    assert not errors(leader.log())
    probes.assert_ready(standby)
    probes.assert_silent_until(acquired, standby)

    writes = burst.truth.written()
    began = first(writes, standby)
    measured(
        "SIGTERM of the leader in a burst of 1,000",
        written_before=burst.truth.writes()[leader.name],
        old_one_ended=ended - signalled,
        successor_has_the_lease=acquired - signalled,
        successor_writes=began - signalled,
        last_object_right=last(writes, standby) - signalled,
        conflicts=burst.truth.refused().total(),
    )
    assert last(writes, leader) < acquired < began
    assert began - signalled <= HANDOVER
    burst.assert_written_once()
    assert_counted(drill)
    assert_leaders(drill, leader, standby)
    burst.truth.assert_true()


class Money:
    """An account whose channels are all active, until it runs out of money."""

    def __init__(self, drill: Drill, size: int) -> None:
        self.drill, self.size = drill, size
        self.site = drill.site("money", ["active"] * size)
        self.truth = drill.truth(window=WINDOW, stale_after=STALE_AFTER)

    def all(self, told: tuple[str, str, str]) -> States:
        return {f"money-{n}": told for n in range(self.size)}

    def run_out(self, at_least: int = 30) -> None:
        """Return while the change of every object is being written."""
        before = self.unpaid()
        self.drill.simulator.run_out_of_money(self.site.id)
        eventually(lambda: self.unpaid() - before >= at_least, f"{at_least} are written", PATIENCE)
        assert self.unpaid() - before < self.size, "the burst was over too soon"

    def pay(self) -> None:
        self.drill.simulator.pay(self.site.id)

    def wait_written(self, before: int) -> None:
        """Wait until more is written than there was before."""
        eventually(lambda: len(self.truth.written()) > before, "it is written", PATIENCE)

    def unpaid(self) -> int:
        return len(self.truth.written(state="NotPaidFor"))


class Stopped:
    """A leader that is stopped in the middle of what it does, and continued much later."""

    def __init__(self, drill: Drill, leader: Replica) -> None:
        self.drill, self.leader = drill, leader
        self.log = len(leader.log())
        self.at = time.time()
        leader.suspend()
        self.tried = Counter[int]()
        """The answers to the writes that it tried once it was continued."""

    def resume(self) -> None:
        """Let it go on; it finds out at once, says so in one line and ends."""
        continued = time.time()
        self.leader.resume()
        assert self.leader.wait(10) == 1
        ended = time.time()
        said = errors(self.leader.log()[self.log :])
        assert len(said) == 1, said
        assert "was not renewed within" in said[0]
        assert "this replica ends" in said[0]
        self.tried.update(
            each.code
            for each in acts(self.drill)
            if each.replica == self.leader.name
            and each.writes
            and continued <= each.time <= ended + 1
        )

    def assert_wrote_nothing(self) -> None:
        # 504: it was gone before the answer, and the status may be stored.
        taken = sum(count for code, count in self.tried.items() if code not in {404, 409})
        assert not taken, f"{self.leader.name} wrote {taken} statuses after it was continued"


def test_a_leader_that_stands_still_for_forty_seconds(drill: Drill) -> None:
    money = Money(drill, 400)
    leader, standby = leader_and_standby(drill)
    wait_told(drill, leader, money.all(ACTIVE))

    money.run_out()
    stopped = Stopped(drill, leader)
    lasted = lasting(40, at_least=25)
    # What it had seen is not so any more, and the objects that it knew are others.
    money.pay()
    for number in range(10):
        drill.api.patch("wazzupchannel", f"money-{number}", {"spec": {"active": False}})
    for number in range(390, 400):
        drill.api.delete("wazzupchannel", f"money-{number}")
        drill.api.create(money.site.body(number))
    for number in range(300, 310):
        money.site.show(number, "qridle")
    expected = {
        **money.all(ACTIVE),
        **{f"money-{n}": STILL_ACTIVE for n in range(10)},
        **{f"money-{n}": SCAN for n in range(300, 310)},
    }
    acquired = wait_leads(drill, standby)
    wait_told(drill, standby, expected)
    before = versions(drill)
    began = first(money.truth.written(), standby)
    wait_until(stopped.at + lasted)
    stopped.resume()

    after = versions(drill)
    measured(
        f"SIGSTOP of the leader in a burst, for {lasted:g} s",
        written_before=money.truth.writes()[leader.name],
        successor_has_the_lease=acquired - stopped.at,
        successor_writes=began - stopped.at,
        tried_late=stopped.tried.total(),
        conflicts=money.truth.refused().total(),
    )
    stopped.assert_wrote_nothing()
    assert after == before, "somebody wrote what the successor had not to write"
    # Nor does the successor find anything to mend.
    wait_listed(money.site, 1)
    assert versions(drill) == before
    assert last(money.truth.written(), leader) < acquired < began
    assert began - stopped.at <= DEFAULT.takeover
    assert_leaders(drill, leader, standby)
    money.truth.assert_true()


def versions(drill: Drill) -> dict[str, str]:
    return {
        each["metadata"]["name"]: each["metadata"]["resourceVersion"]
        for each in drill.api.list("wazzupchannel")
    }


def wait_listed(site: Site, times: int) -> None:
    """Wait until Wazzup was asked for the account's channels so often once more."""
    enough = len(site.requests()) + times
    site.wait_requests(lambda found: len(found) >= enough, f"{times} more listings")


ROUNDS = 4 if SCALE >= 1 else 1


def test_leaders_that_stand_still_again_and_again(drill: Drill) -> None:
    """Stopped anywhere in a burst; what they were about to write is not so any more."""
    money = Money(drill, 300)
    leader, standby = leader_and_standby(drill, *BRIEF.flags)
    wait_told(drill, leader, money.all(ACTIVE))
    rounds = []
    for number in range(ROUNDS):
        money.run_out(random.randrange(1, 150))
        stopped = Stopped(drill, leader)
        rounds.append(stopped)
        money.pay()
        wait_leads(drill, standby)
        wait_told(drill, standby, money.all(ACTIVE))
        before = versions(drill)
        stopped.resume()
        stopped.assert_wrote_nothing()
        assert versions(drill) == before, f"in round {number} somebody wrote"
        leader.start()
        leader.wait_ready()
        leader, standby = standby, leader
    measured(
        f"{ROUNDS} leaders that stood still",
        tried_late=sum(each.tried.total() for each in rounds),
        conflicts=money.truth.refused().total(),
    )
    money.truth.assert_true()


@pytest.mark.parametrize("way", ["frozen", "closed"])
def test_an_api_server_that_the_leader_alone_cannot_reach(drill: Drill, way: str) -> None:
    """It ends before there is a successor, in the middle of a burst."""
    money, gate = Money(drill, 300), drill.gate(1)
    durations = DEFAULT if SCALE >= 1 else BRIEF
    leader, standby = leader_and_standby(drill, *durations.flags, gate=gate)
    wait_told(drill, leader, money.all(ACTIVE))
    with Probes(standby) as probes:
        money.run_out()
        cut = time.time()
        if way == "frozen":
            gate.freeze()
        else:
            gate.close()
        for number in range(10):
            drill.api.patch("wazzupchannel", f"money-{number}", {"spec": {"active": False}})
        assert leader.wait(durations.deadline + 5) == 1
        ended = time.time()
        acquired = wait_leads(drill, standby)
        gate.thaw() if way == "frozen" else gate.open()
        expected = {
            **money.all(NOT_PAID),
            **{f"money-{n}": ("NotPaidFor", "True", "NotConnected") for n in range(10)},
        }
        wait_told(drill, standby, expected)
    probes.assert_ready(standby)
    probes.assert_silent_until(acquired, standby)
    said = errors(leader.log())
    assert len(said) == 1, said
    assert f"was not renewed within {durations.deadline:g} s" in said[0]
    assert "this replica ends" in said[0]

    writes = money.truth.written()
    began = first(writes, standby)
    measured(
        f"API server {way} for the leader",
        written_before=money.unpaid(),
        last_write_of_the_old_one=last(writes, leader) - cut,
        old_one_ended=ended - cut,
        successor_has_the_lease=acquired - cut,
        successor_writes=began - cut,
        conflicts=money.truth.refused().total(),
    )
    assert last(writes, leader) < ended < acquired < began
    assert began - cut <= durations.takeover

    leader.start()
    leader.wait_ready()
    wait_listed(money.site, 1)
    assert not channels(leader)
    late = [each for each in acts(drill) if each.replica == leader.name and each.time > ended]
    assert not [each for each in late if each.writes]
    assert_leaders(drill, leader, standby)
    money.truth.assert_true()


@dataclass
class Clock:
    """A wall clock of a replica's own, by libfaketime."""

    library: Path
    file: Path
    replica: Replica | None = field(default=None)

    def __post_init__(self) -> None:
        self._write(0)

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: int) -> None:
        """Let the replica's clock differ by so many seconds from the machine's, from now on."""
        self._write(offset)
        eventually(lambda: abs(self.read() - offset) < 5, f"its clock differs by {offset} s")

    def read(self) -> float:
        """Return by how much the clock in the replica's process differs, by what it serves."""
        assert self.replica
        with urllib.request.urlopen(
            f"http://{self.replica.health_address}/readyz", timeout=10
        ) as answer:
            date = parsedate_to_datetime(answer.headers["Date"])
        return date.timestamp() - time.time()

    def _write(self, offset: int) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(f"{offset:+d}\n")
        new.rename(self.file)


@pytest.fixture
def libfaketime() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if found:
        return found[0]
    sentence = "libfaketime is missing: apt-get install faketime"
    if os.environ.get("CI") == "true":
        pytest.fail(sentence)
    pytest.skip(sentence)


def test_a_wall_clock_that_is_stepped_an_hour(drill: Drill, libfaketime: Path) -> None:
    """Forward, back, an hour behind and back again, on either; then one leads an hour ahead."""
    site = drill.site("clock", ("active", "qridle", "qridle", "disabled"))
    truth = drill.truth(window=WINDOW, stale_after=STALE_AFTER)
    clocks = [Clock(libfaketime, drill.directory / f"clock-{n}") for n in (1, 2)]
    leader = clocks[0].replica = drill.replica(1, environment=clocks[0].environment)
    wait_leads(drill, leader)
    standby = clocks[1].replica = drill.replica(2, environment=clocks[1].environment)
    standby.wait_ready()
    expected: States = {
        "clock-0": ACTIVE,
        "clock-1": SCAN,
        "clock-2": SCAN,
        "clock-3": ("Off", "False", "Off"),
    }
    wait_told(drill, leader, expected)
    eventually(lambda: drill.condition("clock", "Ready", "wazzupaccount"), "the account is told")
    lasted = lasting(10, at_least=2 * DEFAULT.period + 1)
    steps = ((HOUR, 0, "active"), (0, HOUR, "qridle"), (-HOUR, 0, "active"), (0, -HOUR, "qridle"))
    for *offsets, shown in steps:
        before, untouched, begun = len(truth.written()), waiting(drill), time.time()
        for clock, offset in zip(clocks, offsets, strict=True):
            clock.set(offset)
        # One channel changes, an object too, and nothing else is written.
        site.show(1, shown)
        active = shown == "qridle"
        drill.api.patch("wazzupchannel", "clock-0", {"spec": {"active": active}})
        expected |= {
            "clock-0": ACTIVE if active else STILL_ACTIVE,
            "clock-1": ACTIVE if shown == "active" else SCAN,
        }
        wait_told(drill, leader, expected, 20)
        assert_log_is_off_by(offsets[0], leader)
        wait_until(begun + lasted)
        written = Counter(each.name for each in truth.written()[before:])
        assert written == {"clock-0": 1, "clock-1": 1}
        assert waiting(drill) == untouched
        assert_times_are_right(drill, begun)
        assert_leaders(drill, leader)
        for clock, offset in zip(clocks, offsets, strict=True):
            assert abs(clock.read() - offset) < 5, "the clock was not what it was to be"
    for step in ("+3600", "-3600"):
        assert leader.log().count(f"the machine's clock was set by {step} s") == 1

    clocks[1].set(HOUR)
    before, untouched, begun = len(truth.written()), waiting(drill), time.time()
    assert leader.stop() == 0
    wait_leads(drill, standby)
    site.show(1, "active")
    drill.wait_states(expected | {"clock-1": ACTIVE}, 20)
    wait_listed(site, 1)
    assert_log_is_off_by(HOUR, standby)
    assert [each.name for each in truth.written()[before:]] == ["clock-1"]
    assert waiting(drill) == untouched
    assert_times_are_right(drill, begun)
    assert_leaders(drill, leader, standby)
    truth.assert_true()


def waiting(drill: Drill) -> JSON:
    """Return the object that is Reconciling throughout."""
    found = drill.api.get("wazzupchannel", "clock-2")
    types = {each["type"]: each["status"] for each in found["status"]["conditions"]}
    assert types["Reconciling"] == "True"
    assert "Stalled" not in types
    return found


def assert_log_is_off_by(offset: int, replica: Replica) -> None:
    """What a replica says is dated by the clock that was set."""
    stamp = replica.log().splitlines()[-1].split(" ")[0]
    said = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    assert abs(said - time.time() - offset) < 60


def assert_times_are_right(drill: Drill, begun: float) -> None:
    """What was written since then has the machine's time, whatever the replica's clock says."""
    now = time.time()
    changed = drill.status("clock-1")
    (ready,) = [each for each in changed["conditions"] if each["type"] == "Ready"]
    for told in (changed["stateSince"], ready["lastTransitionTime"]):
        assert begun - 5 <= seconds(told) <= now + 5
    assert now - 600 <= seconds(drill.status("clock", "wazzupaccount")["lastSyncTime"]) <= now + 5


def test_a_lease_that_is_deleted(drill: Drill) -> None:
    """Three replicas that are started at once, one of which leads; then the Lease goes."""
    money = Money(drill, 300)
    replicas = [drill.replica(number) for number in (1, 2, 3)]
    one = wait_one_leads(drill)
    wait_told(drill, one, money.all(ACTIVE))
    for replica in replicas:
        replica.wait_ready()
    assert_leaders(drill, one)
    assert [each for each in replicas if channels(each)] == [one]
    assert money.truth.writes() == {one.name: money.size}

    times = 4 if SCALE >= 1 else 2
    for number in range(times):
        before = len(money.truth.written())
        if number % 2:
            money.pay()
            told = ACTIVE
            money.wait_written(before)
        else:
            money.run_out()
            told = NOT_PAID
        deleted = drill.kubectl("delete", "lease", drill.api.namespace, f"--namespace={LEASES}")
        assert deleted.returncode == 0, deleted.stderr
        assert wait_one_leads(drill) is one
        wait_told(drill, one, money.all(told))
        assert [each for each in replicas if channels(each)] == [one]
        assert_once(drill, money.truth.written()[before:], money.all(told))
    measured(f"the Lease was deleted in {times} bursts", conflicts=money.truth.refused().total())
    assert_leaders(drill, one)
    money.truth.assert_true()


def wait_one_leads(drill: Drill) -> Replica:
    """Wait until the Lease is somebody's; return whose."""
    name = eventually(lambda: lease(drill).get("holderIdentity"), "a replica leads", 30)
    return drill.replicas[name]


def test_rights_on_leases_that_are_taken_away_and_given_back(drill: Drill) -> None:
    money = Money(drill, 20)
    leader, standby = leader_and_standby(drill, *BRIEF.flags)
    wait_told(drill, leader, money.all(ACTIVE))
    with Probes(standby) as probes, without_leases(drill):
        taken = time.time()
        assert leader.wait(BRIEF.deadline + 5) == 1
        ended = time.time()
        said = errors(leader.log())
        assert len(said) == 1, said
        assert "was not renewed within 4 s" in said[0]
        assert 'cannot get resource "leases" in API group "coordination.k8s.io"' in said[0]

        # The container is begun again, and stands by as the other one does.
        leader.start()
        leader.wait_ready()
        missing = "neither taken nor renewed: the API server refused (403): leases.coordination"
        for replica in (leader, standby):
            eventually(lambda replica=replica: missing in replica.log(), "it says what is missing")
        wait_until(ended + lasting(15, at_least=BRIEF.lease))
        lasted = time.time() - taken
        asked = Counter(
            each.replica for each in acts(drill) if each.resource == "leases" and each.time > taken
        )
        assert standby.log().count(missing) == 1
        assert leader.log().count(missing) <= 2  # once by each of its processes
        for name, count in asked.items():
            assert count <= 3 + lasted / (0.4 * BRIEF.period), f"{name} asked {count} times"
        assert {each.code for each in acts(drill) if each.time > ended and each.writes} <= {403}
        money.site.show(0, "qridle")
    given = time.time()
    renewed, one = wait_one_of(drill, leader, standby)
    drill.wait_states({**money.all(ACTIVE), "money-0": SCAN}, 20)
    probes.assert_ready(standby)
    wait_listed(money.site, 1)
    assert [each for each in (leader, standby) if channels(each)] == [one]
    measured(
        "no rights on leases",
        leader_ended=ended - taken,
        led_again=renewed - given,
        asked=asked[standby.name],
    )
    assert ended - taken <= BRIEF.deadline + 1
    assert Counter(each.name for each in money.truth.written()) == {
        **dict.fromkeys(money.all(ACTIVE), 1),
        "money-0": 2,
    }
    money.truth.assert_true()


def wait_one_of(drill: Drill, *replicas: Replica) -> tuple[float, Replica]:
    """Wait until one of these has renewed the Lease, be it as before; return when, and which."""
    since = time.time()
    renewed = eventually(
        lambda: (found := lease(drill)) and seconds(found["renewTime"]) > since and found,
        "the Lease is renewed",
        BRIEF.lease + PATIENCE,
    )
    holder = next(each for each in replicas if each.name == renewed["holderIdentity"])
    return seconds(renewed["renewTime"]), holder


@contextmanager
def without_leases(drill: Drill) -> Iterator[None]:
    """Take the operator's rights on leases away for the block."""
    api, operator = Api(drill.plane.kubeconfig), Api(drill.plane.kubeconfig_for(drill.operator))
    path = f"{RIGHTS}/namespaces/{LEASES}/roles/{drill.api.namespace}-leader-election"
    rules = api.request("GET", path)["rules"]
    others = [each for each in rules if each["resources"] != ["leases"]]
    assert others, "and other rights are left to it"

    def forbidden() -> bool:
        leases = f"apis/coordination.k8s.io/v1/namespaces/{LEASES}/leases"
        try:
            operator.request("GET", f"{leases}/{drill.api.namespace}")
        except ApiError as error:
            return error.status == 403
        return False

    def give(given: list[JSON]) -> None:
        api.request("PATCH", path, {"rules": given}, "application/merge-patch+json")

    give(others)
    try:
        eventually(forbidden, "it has no rights on leases")
        yield
    finally:
        give(rules)
        eventually(lambda: not forbidden(), "it has its rights on leases")
