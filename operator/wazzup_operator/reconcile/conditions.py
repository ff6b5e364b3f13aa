"""The rules of conditions: when times move, and how not Ready becomes Stalled."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from wazzup_operator.domain.reasons import Reason
from wazzup_operator.resources.base import (
    RECONCILING,
    STALLED,
    Condition,
    find,
)

ConditionStatus = Literal["True", "False", "Unknown"]

Statement = tuple[ConditionStatus, str, str]
"""What a condition says: status, reason, message."""


def status_of(value: bool | None) -> ConditionStatus:
    """Return how a condition spells yes, no and not known."""
    return "Unknown" if value is None else "True" if value else "False"


@dataclass(frozen=True, slots=True)
class Conditions:
    """Makes an object's next conditions out of its previous ones.

    `generation` is the object's, `observed` the one its previous conditions answered, `now` in
    UTC with whole seconds, `deadline` how long Reconciling may last.
    """

    previous: tuple[Condition, ...]
    observed: int
    generation: int
    now: datetime
    deadline: timedelta

    def make(self, type_: str, status: ConditionStatus, reason: str, message: str) -> Condition:
        """Return the condition; its time moves only if its status does."""
        before = find(self.previous, type_)
        since = before.last_transition_time if before and before.status == status else self.now
        return Condition(
            type=type_,
            status=status,
            observed_generation=self.generation,
            last_transition_time=since,
            reason=str(reason),
            message=message,
        )

    def with_progress(self, ready: Condition, *, for_good: bool) -> tuple[Condition, ...]:
        """Return Ready and, while it is not True, Reconciling or Stalled (kstatus).

        Reconciling becomes Stalled at once if waiting cannot help, otherwise when it has lasted
        for the deadline. Stalled stays. Only Ready, a new generation or the end of a pause (which
        has neither) starts the clock again, so that neither flapping nor an outage does.
        """
        if ready.status == "True" or ready.reason == Reason.PAUSED:
            return (ready,)
        type_ = STALLED if for_good or self._overdue() else RECONCILING
        progress = self.make(type_, "True", ready.reason, ready.message)
        if type_ == RECONCILING and self._restarted():
            # A new generation's Reconciling is another one, not the old one going on.
            progress = replace(progress, last_transition_time=self.now)
        return ready, progress

    def _restarted(self) -> bool:
        return self.observed != self.generation

    def _overdue(self) -> bool:
        if self._restarted():
            return False
        if find(self.previous, STALLED):
            return True
        reconciling = find(self.previous, RECONCILING)
        return reconciling is not None and (
            self.now - reconciling.last_transition_time >= self.deadline
        )


def progress_due(conditions: tuple[Condition, ...], deadline: timedelta) -> datetime | None:
    """Return when Reconciling becomes Stalled without further news, if it will."""
    reconciling = find(conditions, RECONCILING)
    return reconciling.last_transition_time + deadline if reconciling else None
