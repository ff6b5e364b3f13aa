"""What a rule is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

RUNBOOKS = "docs/runbooks.md"
"""The page with the runbooks; the chart replaces it by the address where it is published."""

OBJECT = "cluster, namespace, name"
ACCOUNT = "cluster, namespace, account"
JOB = "cluster, namespace, job"
"""What identifies a WazzupChannel, an account and an installation of the operator. Several clusters
may be in one Prometheus; where there is one, `cluster` is empty."""


class Severity(StrEnum):
    """Whom an alert may wake."""

    CRITICAL = "critical"
    """A whole account is down, or nobody would notice: day and night."""
    WARNING = "warning"
    """One channel, or something that will become worse: office hours."""
    INFO = "info"
    """Good to know."""


@dataclass(frozen=True, slots=True)
class Record:
    """A recording rule; `meaning` becomes a comment in the rules file."""

    name: str
    meaning: str
    expression: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule. `pending` is its `for`; empty if it fires at once.

    `shows` is the command that shows more; it ends the description.
    """

    name: str
    severity: Severity
    expression: str
    pending: str
    summary: str
    description: str
    shows: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def runbook(self) -> str:
        """Where its runbook is: page and anchor."""
        return f"{RUNBOOKS}#{self.name.lower()}"


Rule = Record | Alert
