"""One pass over an account: what every object's status should be, where it is not."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from wazzup_operator.domain.listing import Listing
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.domain.states import Action, Actor
from wazzup_operator.reconcile.account import Census, Trouble, next_account_status
from wazzup_operator.reconcile.claims import lost_numbers, senior
from wazzup_operator.reconcile.conditions import progress_due
from wazzup_operator.reconcile.finding import (
    Conflict,
    Finding,
    Found,
    NotListed,
    Outage,
    Paused,
)
from wazzup_operator.reconcile.match import Matcher
from wazzup_operator.reconcile.status import next_status
from wazzup_operator.reconcile.trust import Trust
from wazzup_operator.resources.account import AccountStatus, WazzupAccount
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.channel import ChannelStatus, WazzupChannel


class Claims(Protocol):
    """Which object, of whatever account, found or recorded which channel of Wazzup."""

    def claimed(self, channel: WazzupChannel) -> str | None:
        """Return the id of the channel that the object found last."""

    def contenders(self, channel_id: str) -> Iterable[WazzupChannel]:
        """Return the objects that found the channel with this id."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The account gave a listing."""

    listing: Listing
    trust: Trust


@dataclass(frozen=True, slots=True)
class Unlisted:
    """The account gave no listing; `stale`: the last one is too old to go by."""

    trouble: Trouble
    stale: bool


Observation = Listed | Unlisted
"""What a pass knows of the account: its listing, or why there is none."""


@dataclass(frozen=True, slots=True)
class AccountView:
    """Everything a pass is computed from.

    `account` is None where there is no such object, `observation` where the account is paused.
    `last_sync` is the time of this process's last listing. `now` is in UTC with whole seconds,
    `deadline` the progress deadline.
    """

    key: NamespacedName
    account: WazzupAccount | None
    channels: Sequence[WazzupChannel]
    observation: Observation | None
    claims: Claims
    last_sync: datetime | None
    now: datetime
    deadline: timedelta


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pass leads to.

    `statuses` and `account_status` hold only what differs. `found` is, by the object's uid, the
    channel id that an object found or None; objects that nothing was found out about are not in
    it. `due` is when the plan changes without further news.
    """

    statuses: Sequence[tuple[WazzupChannel, ChannelStatus]]
    account_status: AccountStatus | None
    found: Mapping[str, str | None]
    due: datetime | None


def plan(view: AccountView) -> Plan:
    """Compute one pass."""
    found: dict[str, str | None] = {}
    statuses = [
        (channel, next_status(channel, finding, view.now, view.deadline))
        for channel, finding in _findings(view, found)
        if not channel.metadata.deleting
    ]
    account_status = _account_status(view, statuses)
    conditions = [status.conditions for _, status in statuses]
    if account_status:
        conditions.append(account_status.conditions)
    dues = (progress_due(each, view.deadline) for each in conditions)
    return Plan(
        [(channel, status) for channel, status in statuses if status != channel.status],
        account_status if view.account and account_status != view.account.status else None,
        found,
        min((due for due in dues if due), default=None),
    )


def _findings(
    view: AccountView, found: dict[str, str | None]
) -> list[tuple[WazzupChannel, Finding]]:
    """Pair each object with what was found out, and note the channel ids in `found`."""
    if view.account and view.account.metadata.paused:
        return [(channel, Paused()) for channel in view.channels]
    lost = lost_numbers(view.channels)
    first = [(channel, _finding(view, channel, lost)) for channel in view.channels]
    for channel, finding in first:
        if isinstance(finding, Found):
            found[channel.metadata.uid] = finding.listed.channel_id
        elif isinstance(finding, NotListed | Conflict) and isinstance(view.observation, Listed):
            found[channel.metadata.uid] = None
    finders: dict[str, list[WazzupChannel]] = {}
    for channel in view.channels:
        if channel_id := found.get(channel.metadata.uid):
            finders.setdefault(channel_id, []).append(channel)
    return [(channel, _contested(view, channel, finding, finders)) for channel, finding in first]


def _finding(
    view: AccountView, channel: WazzupChannel, lost: Mapping[str, WazzupChannel]
) -> Finding:
    if channel.metadata.paused or view.observation is None:
        return Paused()
    if view.account is not None and (winner := lost.get(channel.metadata.uid)):
        return _duplicate(channel, winner)
    match view.observation:
        case Listed(listing, trust):
            return Matcher(listing, trust.unconfirmed, trust.numbers).match(channel)
        case Unlisted(trouble, stale):
            claimed = view.claims.claimed(channel)
            rivals = _rivals(view, claimed) if claimed and not stale else []
            winner = senior([channel, *rivals])
            if winner is not channel:
                return _duplicate(channel, winner)
            return Outage(trouble.reason, _outage_message(view, trouble.reason), stale)


def _contested(
    view: AccountView,
    channel: WazzupChannel,
    finding: Finding,
    finders: Mapping[str, Sequence[WazzupChannel]],
) -> Finding:
    """Settle who keeps a channel that objects of several accounts found: two keys of one."""
    if not isinstance(finding, Found):
        return finding
    channel_id = finding.listed.channel_id
    winner = senior([*finders[channel_id], *_rivals(view, channel_id)])
    return finding if winner is channel else _duplicate(channel, winner)


def _rivals(view: AccountView, channel_id: str) -> list[WazzupChannel]:
    """Return the objects of other accounts that want this channel."""
    contenders = view.claims.contenders(channel_id)
    return [other for other in contenders if other.account_key != view.key]


def _duplicate(channel: WazzupChannel, winner: WazzupChannel) -> Conflict:
    near = winner.metadata.namespace == channel.metadata.namespace
    return Conflict(
        Reason.DUPLICATE_PHONE_NUMBER,
        f'The older WazzupChannel "{winner.metadata.name}" declares this channel too and keeps it.'
        if near
        else "An older WazzupChannel outside this namespace declares this channel and keeps it.",
        Action(
            Actor.DECLARATION,
            "Delete one of the two objects: one phone number is one channel, and deleting an object"
            " deletes nothing in Wazzup.",
        ),
        for_good=not (near and channel.replaces == winner.metadata.name),
    )


def _outage_message(view: AccountView, reason: Reason) -> str:
    name = view.key.name
    if reason is Reason.ACCOUNT_NOT_FOUND:
        return (
            f'There is no WazzupAccount "{name}" in this namespace; create it, and the channel'
            " follows by itself."
        )
    return (
        f'The WazzupAccount "{name}" cannot be read, so nothing new is known of this channel;'
        f" kubectl describe wzacc {name} says why."
    )


def _account_status(
    view: AccountView,
    statuses: Sequence[tuple[WazzupChannel, ChannelStatus]],
) -> AccountStatus | None:
    if view.account is None:
        return None
    return next_account_status(
        view.account,
        [status for _, status in statuses],
        _seen(view.observation),
        _census(view, [status for _, status in statuses]),
        view.last_sync,
        view.now,
        view.deadline,
    )


def _seen(observation: Observation | None) -> Listing | Trouble | None:
    match observation:
        case Listed(listing, _):
            return listing
        case Unlisted(trouble, _):
            return trouble
    return None


def _census(view: AccountView, statuses: Iterable[ChannelStatus]) -> Census | None:
    if not isinstance(view.observation, Listed) or view.observation.trust.unconfirmed:
        return None
    numbers = {channel.number for channel in view.channels}
    held = {status.channel_id for status in statuses}
    listing = view.observation.listing
    managed = {
        channel_id
        for channel_id, listed in listing.channels.items()
        if channel_id in held or listed.number in numbers or _rivals(view, channel_id)
    }
    return Census.of(listing, managed)
