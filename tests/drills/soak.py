"""An hour under load and faults: `make soak`, or shorter with SOAK_MINUTES.

2,000 objects in 5 accounts, a change every 100 ms, a fault every 20 s, replicas killed at random.
No status may be wrong at any time, and memory, files and tasks must level off.
"""

import os
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence

import pytest

from tests.drills.drill import Drill, Replica
from tests.drills.figures import measured
from tests.expected_states import BY_NAME, meant
from tests.integration.harness.api import eventually

MINUTES = float(os.environ.get("SOAK_MINUTES", "60"))
ACCOUNTS = 5
CHANNELS = 400
CHANGE_INTERVAL = 0.1
FAULT_INTERVAL = 20.0
SAMPLE_INTERVAL = 5.0
JUDGED_FROM = 20.0
"""Minutes that a process must live for its memory to be judged: a new one still grows."""
FLAT, SLACK = 1.08, 4 * 2**20
"""Maximum memory in a process's last quarter: that in its second, times FLAT, plus SLACK."""

SHOWN = ("active", "qridle", "disabled", "phoneUnavailable", "notEnoughMoney", "init")
FAULTS: tuple[dict[str, object], ...] = (
    {"kind": "status", "code": 429, "headers": {"Retry-After": "3"}, "times": 2},
    {"kind": "status", "code": 500, "seconds": 8},
    {"kind": "hang", "times": 1},
    {"kind": "cut", "times": 3},
    {"kind": "html", "times": 2},
    {"kind": "malformed", "times": 2},
    {"kind": "empty", "times": 1},
    {"kind": "partial", "fraction": 0.5, "times": 1},
    {"kind": "slow", "delay": 4, "times": 2},
)


class Soak:
    """The load, the faults and the expected states."""

    def __init__(self, drill: Drill, chance: random.Random) -> None:
        self.drill, self.chance = drill, chance
        self.sites = [
            drill.site(f"account-{n}", [SHOWN[i % len(SHOWN)] for i in range(CHANNELS)])
            for n in range(ACCOUNTS)
        ]
        self.shown = {
            (site.name, i): SHOWN[i % len(SHOWN)] for site in self.sites for i in range(CHANNELS)
        }
        self.active = dict.fromkeys(self.shown, True)
        self.gates = {n: drill.gate(n) for n in range(3)}
        self.pods = dict.fromkeys(range(3), 0)
        self.replicas = {n: self.start(n) for n in range(3)}
        self.killed = 0
        self.leaders_killed = 0

    def start(self, number: int) -> Replica:
        pod = {"POD_UID": str(self.pods[number])}
        return self.drill.replica(number, gate=self.gates[number], environment=pod)

    def change(self) -> None:
        """Change something, in Wazzup or in Kubernetes."""
        site = self.chance.choice(self.sites)
        number = self.chance.randrange(CHANNELS)
        which, name = (site.name, number), f"{site.name}-{number}"
        match self.chance.randrange(10):
            case 0 | 1 | 2 | 3:
                self.shown[which] = self.chance.choice(SHOWN)
                site.show(number, self.shown[which])
            case 4 | 5 | 6 | 7:
                self.active[which] = not self.active[which]
                spec = {"active": self.active[which]}
                self.drill.api.patch("wazzupchannel", name, {"spec": spec})
            case 8:
                self.drill.api.delete("wazzupchannel", name)
                self.drill.api.create(site.body(number, active=self.active[which]))
            case _:
                labels = {"touched": str(time.monotonic_ns())}
                self.drill.api.patch("wazzupchannel", name, {"metadata": {"labels": labels}})

    def harm(self, *, leaders: bool) -> None:
        """Inject a fault, or kill a replica; a leader only if `leaders`.

        Leaders survive the second half, so that the memory of one can be judged.
        """
        match self.chance.randrange(4):
            case 0:
                leading = {n for n, each in self.replicas.items() if leads(each)}
                if not leaders and not leading:
                    return  # any of them may become leader
                numbers = self.replicas.keys() if leaders else self.replicas.keys() - leading
                number = self.chance.choice(sorted(numbers))
                self.replicas[number].kill()
                self.killed += 1
                self.leaders_killed += number in leading
                # As a restarted container, or as another Pod.
                self.pods[number] += self.chance.randrange(2)
                self.replicas[number] = self.start(number)
            case 1:
                self.gates[self.chance.randrange(3)].cut_watches()
            case _:
                fault = dict(self.chance.choice(FAULTS))
                self.chance.choice(self.sites).fault(str(fault.pop("kind")), **fault)

    def restart_exited(self) -> None:
        """Restart exited replicas, as the kubelet does."""
        for number, replica in self.replicas.items():
            if not replica.runs:
                self.replicas[number] = self.start(number)

    def expected(self) -> dict[str, tuple[str | None, str, str]]:
        """Return the expected `Drill.states`."""
        found: dict[str, tuple[str | None, str, str]] = {}
        for (site, number), shown in self.shown.items():
            expected = BY_NAME[meant(shown)]
            ready = expected.ready(active=self.active[site, number])
            found[f"{site}-{number}"] = (expected.state, *ready)
        return found


def leads(replica: Replica) -> bool:
    return replica.count("leader_election_master_status") == 1


class Figures:
    """Samples per process: memory in bytes, open files, tasks."""

    def __init__(self) -> None:
        self.rows: dict[int, list[tuple[int, int, float]]] = {}

    def take(self, replicas: Iterable[Replica]) -> None:
        for replica in replicas:
            tasks = replica.count("wazzup_operator_tasks")
            if tasks:
                row = (replica.resident_bytes(), replica.open_files(), tasks)
                self.rows.setdefault(replica.pid, []).append(row)

    def check(self) -> None:
        """Check that the samples of the longest-lived processes level off."""
        longest = sorted(self.rows.values(), key=len)[-3:]
        for rows in longest:
            for column, what in enumerate(("bytes of memory", "open files", "tasks")):
                quarters = [median(rows, which, column) for which in range(4)]
                seconds = len(rows) * SAMPLE_INTERVAL
                print(f"{what} by quarter of {seconds:.0f} s: {quarters}")
                if column == 0 and seconds < JUDGED_FROM * 60:
                    print(f"  not judged: it lived for less than {JUDGED_FROM:g} minutes")
                    continue
                slack = SLACK if column == 0 else 10
                assert quarters[3] <= FLAT * quarters[1] + slack, f"{what} grow: {quarters}"


def median(rows: Sequence[tuple[int, int, float]], quarter: int, column: int) -> float:
    size = max(1, len(rows) // 4)
    part = rows[quarter * size : (quarter + 1) * size] or rows[-1:]
    return statistics.median(row[column] for row in part)


@pytest.mark.timeout(0)
def test_soak(drill: Drill) -> None:
    seed = int(os.environ.get("SOAK_SEED", time.time_ns() % 10**6))
    print(f"\nsoak: {MINUTES:g} minutes, SOAK_SEED={seed}")
    soak = Soak(drill, random.Random(seed))
    truth = drill.truth(window=20, stale_after=600)
    drill.wait_states(soak.expected(), 120)
    figures = Figures()
    changes = run(soak, figures)
    drill.simulator.clear_faults()
    begun = time.monotonic()
    drill.wait_states(soak.expected(), 90)
    measured(
        f"load and faults for {MINUTES:g} minutes",
        objects=ACCOUNTS * CHANNELS,
        changes=changes,
        replicas_killed=soak.killed,
        leaders_among_them=soak.leaders_killed,
        all_right_after_the_last=time.monotonic() - begun,
    )
    counts = [0, 0, ACCOUNTS * CHANNELS]
    eventually(
        lambda: sorted(each.count("wazzup_channels") for each in soak.replicas.values()) == counts,
        "one leader, which counts every object once",
    )
    figures.check()
    assert changes >= 0.9 * MINUTES * 60 / CHANGE_INTERVAL, "the machine was too slow for the load"
    if MINUTES >= JUDGED_FROM:
        assert soak.leaders_killed, "no leader was killed"
    truth.assert_true()


def run(soak: Soak, figures: Figures) -> int:
    """Run each action at its interval until the time is over; return the number of changes."""
    changes = 0
    end = time.monotonic() + 60 * MINUTES

    def change() -> None:
        nonlocal changes
        changes += 1
        soak.change()

    def harm() -> None:
        soak.harm(leaders=time.monotonic() < end - 30 * MINUTES)

    def look() -> None:
        soak.restart_exited()
        figures.take(soak.replicas.values())

    intervals: dict[Callable[[], None], float] = {
        change: CHANGE_INTERVAL,
        harm: FAULT_INTERVAL,
        look: SAMPLE_INTERVAL,
    }
    due = {work: time.monotonic() + interval for work, interval in intervals.items()}
    while (now := time.monotonic()) < end:
        work = min(due, key=lambda each: due[each])
        time.sleep(max(0.0, due[work] - now))
        work()
        due[work] += intervals[work]
    return changes
