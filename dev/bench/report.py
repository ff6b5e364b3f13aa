"""How much is measured, and what was measured so far."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from dev.bench.burst import Cost
from dev.bench.results import Goal


@dataclass(frozen=True)
class Form:
    """How much is measured."""

    name: str
    bursts: Mapping[int, int]
    """Rounds by number of objects."""

    tutorial: Mapping[int, int]
    """How many of these rounds include the tutorial's operator, which takes minutes."""

    objects: int
    accounts: int
    """How many accounts share `objects` in the measurements of many accounts."""

    runs: int
    window: float
    """Seconds of a run that measures CPU time."""

    samples: int
    one_account: int
    contested: int
    large: int
    reviews: int


FULL = Form(
    name="full",
    bursts={1_000: 5, 5_000: 5, 10_000: 5},
    tutorial={1_000: 3, 5_000: 1},
    objects=10_000,
    accounts=1_000,
    runs=5,
    window=20,
    samples=300,
    one_account=50_000,
    contested=4_000,
    large=100_000,
    reviews=500,
)
QUICK = Form(
    name="quick",
    bursts={500: 1, 1_000: 1},
    tutorial={500: 1},
    objects=2_000,
    accounts=100,
    runs=1,
    window=10,
    samples=40,
    one_account=5_000,
    contested=500,
    large=10_000,
    reviews=50,
)


@dataclass(frozen=True)
class FleetCost:
    """What an operator needs for a fleet whose statuses are right.

    CPU time in seconds until it has seen everything, then in percent of a core; peak in MiB;
    samples by function afterwards.
    """

    start: float
    steady: float
    peak: float
    profile: Mapping[str, int]


@dataclass
class Report:
    """Everything measured so far."""

    form: Form
    goals: list[Goal] = field(default_factory=list)
    bursts: dict[int, dict[str, list[Cost]]] = field(default_factory=dict)
    gave_up: list[str] = field(default_factory=list)
    """What was not finished, and why."""

    fleets: dict[tuple[int, int], FleetCost] = field(default_factory=dict)
    """By number of accounts and of objects."""

    scrape: tuple[list[float], int] = ([], 0)
    """Milliseconds of scrapes, and bytes of the last one."""

    reviews: list[list[str]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Print progress."""
        print(f"{(time.monotonic() - self.started) / 60:5.1f} min  {text}", flush=True)

    def add(self, goal: Goal) -> None:
        """Add a goal and print it."""
        self.goals.append(goal)
        self.say(" | ".join(goal.cells))
