"""What a pass over an account is computed from."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from wazzup_operator.reconcile.finding import Finding
from wazzup_operator.reconcile.observation import Observation
from wazzup_operator.resources.account import WazzupAccount
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.channel import WazzupChannel


class Claims(Protocol):
    """Which channel each object claims, across all accounts."""

    @property
    def shared_ids(self) -> Collection[str]:
        """The channel ids that objects of several accounts claim."""

    def claimed(self, channel: WazzupChannel) -> str | None:
        """Return the channel id that the object claims."""

    def rivals(self, channel_id: str, account: NamespacedName) -> Collection[WazzupChannel]:
        """Return the objects of other accounts that claim this channel id."""


class Settled(NamedTuple):
    """An object whose status needs no write, and what that depends on.

    `ready` tells whether it is Ready. `due` is when its Reconciling becomes Stalled.
    """

    channel: WazzupChannel
    finding: Finding
    ready: bool
    due: datetime | None

    def holds(self, channel: WazzupChannel, finding: Finding, now: datetime) -> bool:
        """Return whether the status still needs no write."""
        return (
            (self.channel is channel or self.channel == channel)  # equal: listed again
            and (self.finding is finding or self.finding == finding)
            and (self.due is None or now < self.due)
        )


@dataclass(frozen=True, slots=True)
class AccountView:
    """Everything that a plan is computed from.

    `account` is None if the object does not exist. `observation` is None while the account is
    paused. `last_sync` is when this process last got a listing. `now` is in UTC with whole seconds.
    `deadline` is the progress deadline. `settled` is from the last plan, by uid; it saves work and
    changes nothing.
    """

    key: NamespacedName
    account: WazzupAccount | None
    channels: Sequence[WazzupChannel]
    observation: Observation | None
    claims: Claims
    last_sync: datetime | None
    now: datetime
    deadline: timedelta
    settled: Mapping[str, Settled] = field(default_factory=dict)
