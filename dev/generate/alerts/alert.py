"""What an alert is."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from dev.generate.alerts.thresholds import RUNBOOKS, STEP
from wazzup_operator.domain.states import State


class Severity(StrEnum):
    """Whom an alert may wake."""

    CRITICAL = "critical"
    """All channels of an account stand still, or nobody sees whether they do: by day and night."""
    WARNING = "warning"
    """One channel, or something that will become worse: in the hours of work."""
    INFO = "info"
    """Good to know."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule.

    `clauses` are the lines of its expression, `pending` how long that has to hold. `states` are the
    states of channels that it stands for, if it stands for channels.
    """

    name: str
    severity: Severity
    clauses: tuple[str, ...]
    pending: timedelta
    summary: str
    description: str
    states: tuple[State, ...] = ()

    @property
    def expression(self) -> str:
        """The PromQL expression, a clause on each line."""
        return "\n".join(self.clauses)

    @property
    def runbook(self) -> str:
        """The name of its runbook's file."""
        return f"{self.name}.md"

    @property
    def runbook_url(self) -> str:
        """Where its runbook is read."""
        return f"{RUNBOOKS}/{self.runbook}"


def spelled(duration: timedelta) -> str:
    """Return a duration as PromQL has it: in the largest unit that leaves no fraction."""
    seconds = int(duration.total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def in_words(duration: timedelta) -> str:
    """Return a duration as a sentence has it, such as "15 minutes" or "one hour"."""
    number, unit = int(spelled(duration)[:-1]), spelled(duration)[-1]
    word = {"d": "day", "h": "hour", "m": "minute", "s": "second"}[unit]
    return f"one {word}" if number == 1 else f"{number} {word}s"


def over(function: str, inner: str, window: timedelta, step: timedelta = STEP) -> str:
    """Return a function over what an expression was within a window."""
    return f"{function}(({inner})[{spelled(window)}:{spelled(step)}])"
