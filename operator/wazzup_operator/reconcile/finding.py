"""What a pass found out about one object."""

from dataclasses import dataclass

from wazzup_operator.domain.listing import ListedChannel
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.domain.states import Action


@dataclass(frozen=True, slots=True)
class Found:
    """The listing has its channel."""

    listed: ListedChannel


@dataclass(frozen=True, slots=True)
class NotListed:
    """The account has no such channel; message and action replace those of NotAdded."""

    message: str | None = None
    action: Action | None = None


@dataclass(frozen=True, slots=True)
class Inconclusive:
    """The listing's rows for it are ambiguous or unconfirmed; it keeps its state."""


@dataclass(frozen=True, slots=True)
class Outage:
    """The account gave no listing; `stale`: the last one is too old to go by."""

    reason: Reason
    message: str
    stale: bool


@dataclass(frozen=True, slots=True)
class Conflict:
    """Only a person can settle which channel is its own; `outage`: found without a listing."""

    reason: Reason
    message: str
    action: Action
    permanent: bool = True
    outage: Outage | None = None


@dataclass(frozen=True, slots=True)
class Paused:
    """The object or its account is paused."""


Finding = Found | NotListed | Inconclusive | Conflict | Outage | Paused
