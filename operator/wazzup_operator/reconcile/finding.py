"""What a pass found out about one object."""

from dataclasses import dataclass

from wazzup_operator.domain.listing import ListedChannel
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.domain.states import Action


@dataclass(frozen=True, slots=True)
class NotListed:
    """The account has no such channel; message and action, if set, replace those of NotAdded."""

    message: str | None = None
    action: Action | None = None


@dataclass(frozen=True, slots=True)
class Inconclusive:
    """The channel is unconfirmed or its rows are ambiguous; the object keeps its state."""


@dataclass(frozen=True, slots=True)
class Outage:
    """The account gave no listing; `stale` if the last one is too old to be used."""

    reason: Reason
    message: str
    stale: bool


@dataclass(frozen=True, slots=True)
class Conflict:
    """A person must settle which channel the object has; `outage` is set if nothing was listed."""

    reason: Reason
    message: str
    action: Action
    permanent: bool = True
    outage: Outage | None = None


@dataclass(frozen=True, slots=True)
class Paused:
    """The object or its account is paused."""


Finding = ListedChannel | NotListed | Inconclusive | Conflict | Outage | Paused
"""A ListedChannel is the object's channel in the listing."""
