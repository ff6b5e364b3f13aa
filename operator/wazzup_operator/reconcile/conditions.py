"""Conditions: when their times move, and when Reconciling becomes Stalled."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
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
"""A condition's status, reason and message."""


def status_of(value: bool | None) -> ConditionStatus:
    """Return the condition status for a truth value; None is Unknown."""
    return "Unknown" if value is None else "True" if value else "False"


@dataclass(frozen=True, slots=True)
class Conditions:
    """Derives an object's next conditions from its previous ones.

    `generation` is the object's, `observed` that of the previous conditions. `now` is in UTC with
    whole seconds. `deadline` is how long Reconciling may last.
    """

    previous: tuple[Condition, ...]
    observed: int
    generation: int
    now: datetime
    deadline: timedelta

    def make(self, type_: str, status: ConditionStatus, reason: str, message: str) -> Condition:
        """Return the condition; its lastTransitionTime moves only when its status changes."""
        before = find(self.previous, type_)
        since = before.last_transition_time if before and before.status == status else self.now
        return Condition(
            type=type_,
            status=status,
            observed_generation=self.generation,
            last_transition_time=since,
            # The enum's own string, which all objects share; str() would copy it.
            reason=reason.value if isinstance(reason, StrEnum) else reason,
            message=message,
        )

    def with_progress(self, ready: Condition, *, permanent: bool) -> tuple[Condition, ...]:
        """Return Ready and, while it is not True, Reconciling or Stalled (for kstatus).

        - Ready or paused: neither.
        - `permanent` (waiting cannot help): Stalled at once.
        - Otherwise Reconciling, and Stalled after the deadline.
        - Only Ready=True, a new generation or the end of a pause restarts the clock; flapping and
          outages do not.
        """
        if ready.status == "True" or ready.reason == Reason.PAUSED:
            return (ready,)
        type_ = STALLED if permanent or self._overdue() else RECONCILING
        progress = self.make(type_, "True", ready.reason, ready.message)
        if type_ == RECONCILING and self._restarted():
            # Also when the old generation was Reconciling: the deadline counts per generation.
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
    """Return when Reconciling becomes Stalled; None while the object is not Reconciling."""
    reconciling = find(conditions, RECONCILING)
    return reconciling.last_transition_time + deadline if reconciling else None
