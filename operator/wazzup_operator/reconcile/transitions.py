"""Which changes of a status are reported as an Event."""

from dataclasses import dataclass
from typing import Literal

from wazzup_operator.domain.reasons import ACCOUNT_TROUBLE
from wazzup_operator.domain.states import State
from wazzup_operator.resources.account import AccountStatus
from wazzup_operator.resources.base import READY, Condition, find
from wazzup_operator.resources.channel import ChannelStatus


@dataclass(frozen=True, slots=True)
class Transition:
    """An Event's type, reason and note."""

    type: Literal["Normal", "Warning"]
    reason: str
    note: str


def channel_transition(old: ChannelStatus, new: ChannelStatus) -> Transition | None:
    """Return the Event for a channel, if any.

    Trouble with the account, and its end, are reported for the account only.
    """
    before, after = find(old.conditions, READY), find(new.conditions, READY)
    if after is None or after.reason in ACCOUNT_TROUBLE or after.reason == State.UNKNOWN:
        return None
    quiet = before is None or before.reason in ACCOUNT_TROUBLE
    transition = _transition(before, after, quiet=quiet)
    same_account = new.account == old.account and old.channel_id and new.channel_id
    if not same_account or new.channel_id == old.channel_id:
        return transition
    return Transition(
        transition.type if transition else "Normal",
        after.reason,
        f"{after.message} The number has another channel in Wazzup: {new.channel_id} instead of"
        f" {old.channel_id}.",
    )


def account_transition(old: AccountStatus, new: AccountStatus) -> Transition | None:
    """Return the Event for an account, if any."""
    before, after = find(old.conditions, READY), find(new.conditions, READY)
    return _transition(before, after, quiet=before is None) if after else None


def _transition(before: Condition | None, after: Condition, *, quiet: bool) -> Transition | None:
    if before and (before.status, before.reason) == (after.status, after.reason):
        return None
    if quiet and after.status == "True":
        return None
    type_: Literal["Normal", "Warning"] = "Warning" if after.status == "False" else "Normal"
    return Transition(type_, after.reason, after.message)
