"""A problem in a file."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Whether a problem fails the check."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One problem, and where it is. `rule` is its id; `message` names the object."""

    file: str
    line: int
    message: str
    rule: str
    severity: Severity = Severity.ERROR
