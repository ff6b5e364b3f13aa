"""What a pass knows of its account: a listing, or why there is none."""

from dataclasses import dataclass

from wazzup_operator.domain.listing import Listing
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.reconcile.trust import Trust


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why an account gave no listing; the message says what is wrong and what to do."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Listed:
    """The account gave a listing."""

    listing: Listing
    trust: Trust


@dataclass(frozen=True, slots=True)
class Unlisted:
    """The account gave no listing; `stale` if the last one is too old to be used."""

    trouble: Trouble
    stale: bool


Observation = Listed | Unlisted
