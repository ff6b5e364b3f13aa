"""An account's next status."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from wazzup_operator.domain.listing import ListedChannel, Listing
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.reconcile.conditions import Conditions, Statement
from wazzup_operator.resources.account import (
    MAX_UNMANAGED,
    AccountStatus,
    ChannelCounts,
    Unmanaged,
    WazzupAccount,
)
from wazzup_operator.resources.base import READY, find
from wazzup_operator.resources.channel import ChannelStatus

SYNC_TIME_RESOLUTION = timedelta(minutes=5)
"""lastSyncTime is not written more often than this while nothing else changes."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why an account gave no listing; the message says what is wrong and what to do."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Census:
    """What a trusted listing shows of the account's channels, declared or not."""

    observed: int
    unmanaged: tuple[Unmanaged, ...]

    @classmethod
    def of(cls, listing: Listing, managed_ids: Iterable[str]) -> "Census":
        """Count the listing; `managed_ids` are the channels that some object declares."""
        unmanaged = sorted(listing.channels.keys() - managed_ids)[:MAX_UNMANAGED]
        return cls(
            len(listing.channels),
            tuple(_unmanaged(listing.channels[channel_id]) for channel_id in unmanaged),
        )


def _unmanaged(channel: ListedChannel) -> Unmanaged:
    return Unmanaged(
        channel_id=channel.channel_id,
        transport=channel.transport,
        plain_id=channel.plain_id,
        name=channel.name,
        state=channel.state,
    )


def next_account_status(
    account: WazzupAccount,
    channels: Iterable[ChannelStatus],
    observation: Listing | Trouble | None,
    census: Census | None,
    last_sync: datetime | None,
    now: datetime,
    deadline: timedelta,
) -> AccountStatus:
    """Return the status that the account should have; equal to its present one if nothing is new.

    `observation` is the listing, or why there is none; None only while the account is paused.
    Without a census (no listing, or one in doubt) the counts of what Wazzup has stay. `last_sync`
    is the time of the last listing, if this process has had one.
    """
    previous = account.status
    rules = Conditions(
        previous.conditions,
        previous.observed_generation,
        account.metadata.generation,
        now,
        deadline,
    )
    ready = rules.make(READY, *_statement(account, observation))
    status = replace(
        previous,
        observed_generation=account.metadata.generation,
        channels=_counts(previous.channels, channels, census),
        unmanaged=census.unmanaged if census else previous.unmanaged,
        conditions=rules.with_progress(ready, for_good=False),
    )
    if last_sync and (status != previous or _outdated(previous.last_sync_time, last_sync)):
        return replace(status, last_sync_time=last_sync)
    return status


def _statement(account: WazzupAccount, observation: Listing | Trouble | None) -> Statement:
    if account.metadata.paused or observation is None:
        return "Unknown", Reason.PAUSED, "Paused by the annotation wazzup.dev/paused."
    if isinstance(observation, Trouble):
        return "False", observation.reason, observation.message
    return "True", Reason.UP_TO_DATE, _listed(observation)


def _listed(listing: Listing) -> str:
    """Say that there is a listing, and what of it was passed over or cut."""
    message = "Wazzup lists the account's channels"
    if rows := listing.skipped:
        whole = f"{rows} rows cannot" if rows > 1 else "1 row cannot"
        message += f"; {whole} be made out (damaged, or contradicting each other), and"
        message += " are passed over" if rows > 1 else " is passed over"
    if cut := listing.truncated:
        message += f". Of {cut} {'channels' if cut > 1 else 'channel'} the name or the state is too"
        message += " long and is shown cut"
    return f"{message}."


def _counts(
    previous: ChannelCounts | None, channels: Iterable[ChannelStatus], census: Census | None
) -> ChannelCounts | None:
    if census is None and previous is None:
        return None
    statuses = list(channels)
    observed = census.observed if census else previous.observed if previous else 0
    return ChannelCounts(
        declared=len(statuses),
        observed=observed,
        ready=sum(_is_ready(status) for status in statuses),
    )


def _is_ready(status: ChannelStatus) -> bool:
    ready = find(status.conditions, READY)
    return ready is not None and ready.status == "True"


def _outdated(recorded: datetime | None, last_sync: datetime) -> bool:
    return recorded is None or abs(last_sync - recorded) >= SYNC_TIME_RESOLUTION
