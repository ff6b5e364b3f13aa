"""What was measured, and how it compares with its goal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

_DIGITS = {"ms": 0, "MiB": 0, "%": 1}


@dataclass(frozen=True)
class Goal:
    """A measure with its upper limit, and one value for each run.

    `profile` has the operator's samples by function while it was measured; `note` is shown beside
    the value.
    """

    what: str
    limit: float
    unit: str
    values: Sequence[float]
    profile: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the median of the runs meets the goal."""
        return median(self.values) <= self.limit

    @property
    def cells(self) -> list[str]:
        """Its row in a table."""
        limit = f"≤ {self.limit:g} {self.unit}".strip()
        measured = shown(self.values, self.unit) + self.note
        return [self.what, limit, measured, "yes" if self.met else "**no**"]


def shown(values: Sequence[float], unit: str, *, spread: bool = True) -> str:
    """Return the median, and the lowest and highest value if there are several."""
    digits = _DIGITS.get(unit, 2)
    text = f"{median(values):,.{digits}f} {unit}".strip()
    if len(values) > 1 and spread:
        text += f" ({min(values):,.{digits}f} to {max(values):,.{digits}f})"
    return text


def p99(values: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return quantiles(values, n=100, method="inclusive")[98]


def chunks(values: Sequence[float], count: int) -> list[Sequence[float]]:
    """Split values into `count` parts, in order."""
    size = -(-len(values) // count)
    return [values[start : start + size] for start in range(0, len(values), size)]
