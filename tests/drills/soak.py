"""An hour under load and faults: `make soak`, or shorter with SOAK_MINUTES.

2,000 objects in 5 accounts, a change each 100 ms, a fault each 20 s, replicas killed at random. No
status may be wrong on the way nor in the end, and what a process holds levels off.
"""

import os
import random
import statistics
import time
from collections.abc import Callable

import pytest

from tests.drills.conftest import Drill, Replica
from tests.drills.truth import READY_WHEN_OFF, STATES
from tests.integration.harness.api import eventually

MINUTES = float(os.environ.get("SOAK_MINUTES", "60"))
ACCOUNTS = 5
CHANNELS = 400
CHANGE_EACH = 0.1
FAULT_EACH = 20.0
LOOK_EACH = 5.0
FLAT = 1.15
"""How much of a process's memory in the second quarter of its time it may have in the last."""

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
    """The load, the faults, and what the objects must say in the end."""

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
        self.replicas = {n: self.begin(n) for n in range(3)}
        self.killed = 0

    def begin(self, number: int) -> Replica:
        return self.drill.replica(number, gate=self.gates[number])

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

    def harm(self) -> None:
        """Let something break."""
        replica = self.chance.choice((1, 2))
        match self.chance.randrange(4):
            case 0:
                self.replicas[replica].kill()
                self.killed += 1
                self.replicas[replica] = self.begin(replica)
            case 1:
                self.gates[self.chance.randrange(3)].cut_watches()
            case _:
                fault = dict(self.chance.choice(FAULTS))
                self.chance.choice(self.sites).fault(str(fault.pop("kind")), **fault)

    def revive(self) -> None:
        """Begin replicas again that have ended, as the kubelet does."""
        for number, replica in self.replicas.items():
            if not replica.runs:
                self.replicas[number] = self.begin(number)

    def expected(self) -> dict[str, tuple[str | None, str, str]]:
        """Return what each object has to say, as `Drill.states` does."""
        found: dict[str, tuple[str | None, str, str]] = {}
        for (site, number), shown in self.shown.items():
            state = STATES[shown.lower()]
            if self.active[site, number]:
                ready = ("True" if state == "Active" else "False", state)
            else:
                ready = READY_WHEN_OFF[state]
            found[f"{site}-{number}"] = (state, *ready)
        return found


class Figures:
    """What the replica that is never killed held, over time."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.rows: list[tuple[int, int, float]] = []

    def take(self) -> None:
        replica = self.replica
        tasks = replica.count("wazzup_operator_tasks")
        if tasks:
            self.rows.append((replica.resident_bytes(), replica.open_files(), tasks))

    def quarter(self, which: int, column: int) -> float:
        """Return the median of a quarter of the time, 0 to 3."""
        size = max(1, len(self.rows) // 4)
        part = self.rows[which * size : (which + 1) * size]
        return statistics.median(row[column] for row in part)

    def check(self) -> None:
        for column, what in enumerate(("bytes of memory", "open files", "tasks")):
            quarters = [self.quarter(which, column) for which in range(4)]
            print(f"{what} by quarter: {quarters}")
            slack = 0 if column == 0 else 5
            assert quarters[3] <= FLAT * quarters[1] + slack, f"{what} grow: {quarters}"


@pytest.mark.timeout(0)
def test_soak(drill: Drill) -> None:
    seed = int(os.environ.get("SOAK_SEED", time.time_ns() % 10**6))
    print(f"\nsoak: {MINUTES:g} minutes, SOAK_SEED={seed}")
    soak = Soak(drill, random.Random(seed))
    truth = drill.truth(window=20, stale_after=600)
    drill.wait_states(soak.expected(), 120)
    figures = Figures(soak.replicas[0])
    changes = run(soak, figures)
    drill.simulator.clear_faults()
    begun = time.monotonic()
    drill.wait_states(soak.expected(), 90)
    print(
        f"{changes} changes, {soak.killed} replicas killed;"
        f" all right {time.monotonic() - begun:.1f} s after the last"
    )
    leaders = [each for each in soak.replicas.values() if each.count("wazzup_channels")]
    assert len(leaders) == 1
    eventually(
        lambda: leaders[0].count("wazzup_channels") == ACCOUNTS * CHANNELS, "no ghost, none missing"
    )
    assert soak.replicas[0].runs, "the replica that nobody killed has ended"
    figures.check()
    truth.assert_true()


def run(soak: Soak, figures: Figures) -> int:
    """Do everything on its beat until the time is over; return how many changes there were."""
    changes = 0

    def change() -> None:
        nonlocal changes
        changes += 1
        soak.change()

    def look() -> None:
        soak.revive()
        figures.take()

    beats: dict[Callable[[], None], float] = {
        change: CHANGE_EACH,
        soak.harm: FAULT_EACH,
        look: LOOK_EACH,
    }
    due = {work: time.monotonic() + beat for work, beat in beats.items()}
    end = time.monotonic() + 60 * MINUTES
    while (now := time.monotonic()) < end:
        work = min(due, key=lambda each: due[each])
        time.sleep(max(0.0, due[work] - now))
        work()
        due[work] += beats[work]
    return changes
