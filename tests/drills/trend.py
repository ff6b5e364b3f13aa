"""Whether what a process takes grows while it lives: judged by robust statistics, without I/O.

A Life is the time of one process in one role. Its first WARM_UP is not judged, because a new
process still grows. From then on, the trend is the Theil-Sen slope, the median of the slopes
between all pairs of samples, and the noise is the median distance of the samples from that line. A
few peaks move neither. Something grows if its trend is steeper than its limit, and the median of
each third is above that of the third before by more than chance explains. One step, such as for a
list that is larger than any before, is no trend: of two rises, none may be ten times the other.
"""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

WARM_UP = 20.0
"""Minutes."""

JUDGED = 20.0
"""Minutes of samples that a judgement needs."""


class Sample(NamedTuple):
    """What a process took at a time."""

    minute: float
    MiB: float
    descriptors: int
    connections: int
    tasks: int
    series: int


LIMITS = {"MiB": 8.0, "descriptors": 4.0, "connections": 4.0, "tasks": 4.0, "series": 20.0}
"""Maximum trends per hour. Memory grows in steps: with a larger list than any before."""


class Trend(NamedTuple):
    """How something changed over some minutes."""

    median: float
    per_hour: float
    noise: float
    thirds: tuple[float, ...]
    """The median of each third of the time."""

    chance: float
    """By how much the noise alone may make two of these medians differ."""

    @classmethod
    def of(cls, minutes: Sequence[float], values: Sequence[float]) -> "Trend":
        points = list(zip(minutes, values, strict=True))
        slope = statistics.median(
            (there - here) / (later - earlier)
            for (earlier, here), (later, there) in itertools.combinations(points, 2)
        )
        level = statistics.median(value - slope * minute for minute, value in points)
        noise = statistics.median(abs(value - slope * minute - level) for minute, value in points)
        size = len(values) // 3
        thirds = (values[:size], values[size:-size], values[-size:])
        medians = tuple(map(statistics.median, thirds))
        chance = 3 * noise / math.sqrt(size)
        return cls(statistics.median(values), 60 * slope, noise, medians, chance)

    def grows(self, limit: float) -> bool:
        """Return whether it grows throughout, and by more than `limit` per hour."""
        steps = [later - earlier for earlier, later in itertools.pairwise(self.thirds)]
        return self.per_hour > limit and min(steps) > max(self.chance, max(steps) / 10)

    def __str__(self) -> str:
        return f"{self.median:,.1f}, {self.per_hour:+.2f} per hour, noise {self.noise:.2f}"


@dataclass
class Life:
    """The samples of a process in one role, such as the leader."""

    process: str
    role: str
    samples: list[Sample] = field(default_factory=list)

    def trends(self, warm_up: float = WARM_UP, judged: float = JUDGED) -> dict[str, Trend]:
        """Return the trend of each figure; none if it was too short."""
        begun = self.samples[0].minute
        kept = [each for each in self.samples if each.minute >= begun + warm_up]
        if not kept or kept[-1].minute - kept[0].minute < judged:
            return {}
        minutes = [each.minute for each in kept]
        return {what: Trend.of(minutes, [getattr(each, what) for each in kept]) for what in LIMITS}
