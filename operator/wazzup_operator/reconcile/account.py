"""An account's next status."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from wazzup_operator.domain.listing import ListedChannel, Listing
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.reconcile.conditions import Conditions, Statement
from wazzup_operator.reconcile.observation import Observation, Unlisted
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
"""The least time between two writes of lastSyncTime while nothing else changes."""

_PAUSED_MESSAGE = "Paused by the annotation wazzup.dev/paused. Remove it to resume."


@dataclass(frozen=True, slots=True)
class Census:
    """The channels in a trusted listing, declared or not."""

    observed: int
    unmanaged: tuple[Unmanaged, ...]

    @classmethod
    def of(cls, listed: Mapping[str, ListedChannel], unmanaged: Iterable[str]) -> "Census":
        """Count the listed channels; no object declares the `unmanaged` ids."""
        shown = sorted(unmanaged)[:MAX_UNMANAGED]
        return cls(len(listed), tuple(_unmanaged(listed[channel_id]) for channel_id in shown))


def _unmanaged(channel: ListedChannel) -> Unmanaged:
    return Unmanaged(
        channel_id=channel.channel_id,
        transport=str(channel.transport),
        plain_id=channel.plain_id,
        name=channel.name,
        state=channel.state.value,
    )


def next_account_status(
    account: WazzupAccount,
    declared: int,
    ready: int,
    observation: Observation | None,
    census: Census | None,
    last_sync: datetime | None,
    now: datetime,
    deadline: timedelta,
) -> AccountStatus:
    """Return the account's next status, equal to the current one if nothing changed.

    `declared` objects refer to it, of which `ready` are Ready. `observation` is None only while the
    account is paused. Without a census (no listing, or ids are unconfirmed) the counts of channels
    in Wazzup stay. `last_sync` is when this process last got a listing.
    """
    previous = account.status
    rules = Conditions(
        previous.conditions,
        previous.observed_generation,
        account.metadata.generation,
        now,
        deadline,
    )
    is_listed = rules.make(READY, *_statement(account, observation))
    status = replace(
        previous,
        observed_generation=account.metadata.generation,
        channels=_counts(previous.channels, declared, ready, census),
        unmanaged=census.unmanaged if census else previous.unmanaged,
        conditions=rules.with_progress(is_listed, permanent=False),
    )
    if last_sync and (status != previous or _outdated(previous.last_sync_time, last_sync)):
        return replace(status, last_sync_time=last_sync)
    return status


def _statement(account: WazzupAccount, observation: Observation | None) -> Statement:
    if account.metadata.paused or observation is None:
        return "Unknown", Reason.PAUSED, _PAUSED_MESSAGE
    if isinstance(observation, Unlisted):
        return "False", observation.trouble.reason, observation.trouble.message
    return "True", Reason.UP_TO_DATE, _listed_message(observation.listing)


def _listed_message(listing: Listing) -> str:
    """Report the listing, its skipped rows and its truncated channels."""
    notes = []
    if rows := listing.skipped:
        ambiguous = f"{rows} ambiguous rows" if rows > 1 else "1 ambiguous row"
        notes.append(f"skipped {ambiguous} (damaged or contradictory)")
    if count := listing.truncated:
        channels = f"{count} channels" if count > 1 else "1 channel"
        notes.append(f"truncated the long name or state of {channels}")
    message = "Wazzup lists the account's channels."
    return f"{message} The operator {' and '.join(notes)}." if notes else message


def _counts(
    previous: ChannelCounts | None, declared: int, ready: int, census: Census | None
) -> ChannelCounts | None:
    if census is None and previous is None:
        return None
    observed = census.observed if census else previous.observed if previous else 0
    return ChannelCounts(declared=declared, observed=observed, ready=ready)


def is_ready(status: ChannelStatus) -> bool:
    """Return whether a channel is on or off as declared."""
    ready = find(status.conditions, READY)
    return ready is not None and ready.status == "True"


def _outdated(recorded: datetime | None, last_sync: datetime) -> bool:
    return recorded is None or abs(last_sync - recorded) >= SYNC_TIME_RESOLUTION
