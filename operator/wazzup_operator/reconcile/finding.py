"""What one pass found out about one object."""

from dataclasses import dataclass

from wazzup_operator.domain.listing import ListedChannel
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.domain.states import Action


@dataclass(frozen=True, slots=True)
class Found:
    """The listing shows its channel."""

    listed: ListedChannel


@dataclass(frozen=True, slots=True)
class NotListed:
    """The account has no such channel; message and action where the table's words do not fit."""

    message: str | None = None
    action: Action | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """The listing is in doubt about it: it keeps its state."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Its channel cannot be told, or belongs to another object; nobody but a person helps."""

    reason: Reason
    message: str
    action: Action
    for_good: bool = True


@dataclass(frozen=True, slots=True)
class Outage:
    """The account gave no listing; `stale`: the last one is too old to go by."""

    reason: Reason
    message: str
    stale: bool


@dataclass(frozen=True, slots=True)
class Paused:
    """Somebody paused the object or its account."""


Finding = Found | NotListed | Held | Conflict | Outage | Paused
