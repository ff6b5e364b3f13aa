"""Plans a pass over an account: which statuses to write."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from wazzup_operator.domain.reasons import Reason
from wazzup_operator.domain.states import Action, Actor
from wazzup_operator.reconcile.account import Census, next_account_status
from wazzup_operator.reconcile.claims import duplicates, keeper_of
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
from wazzup_operator.reconcile.observation import Listed, Observation, Unlisted
from wazzup_operator.reconcile.status import next_status
from wazzup_operator.resources.account import AccountStatus, WazzupAccount
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.channel import ChannelStatus, WazzupChannel


class Claims(Protocol):
    """Which channel each object claims, across all accounts."""

    def claimed(self, channel: WazzupChannel) -> str | None:
        """Return the channel id that the object claims."""

    def claimants(self, channel_id: str) -> Iterable[WazzupChannel]:
        """Return the objects that claim this channel id."""


@dataclass(frozen=True, slots=True)
class AccountView:
    """Everything that a plan is computed from.

    `account` is None if the object does not exist. `observation` is None while the account is
    paused. `last_sync` is when this process last got a listing. `now` is in UTC with whole seconds.
    `deadline` is the progress deadline.
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
    """The outcome of a pass.

    `statuses` and `account_status` hold only statuses that changed. `found` maps an object's uid to
    the id of its channel, or to None if it has none; it omits objects that the pass learned nothing
    about. `due` is when the next Reconciling becomes Stalled.
    """

    statuses: Sequence[tuple[WazzupChannel, ChannelStatus]]
    account_status: AccountStatus | None
    found: Mapping[str, str | None]
    due: datetime | None


def plan(view: AccountView) -> Plan:
    """Compute the statuses to write."""
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
    """Pair each object with its finding, and record the channel ids in `found`."""
    if view.account and view.account.metadata.paused:
        return [(channel, Paused()) for channel in view.channels]
    keepers = duplicates(view.channels)
    first = [(channel, _finding(view, channel, keepers)) for channel in view.channels]
    for channel, finding in first:
        if isinstance(finding, Found):
            found[channel.metadata.uid] = finding.listed.channel_id
        elif isinstance(finding, NotListed | Conflict) and isinstance(view.observation, Listed):
            found[channel.metadata.uid] = None
    finders: dict[str, list[WazzupChannel]] = {}
    for channel in view.channels:
        if channel_id := found.get(channel.metadata.uid):
            finders.setdefault(channel_id, []).append(channel)
    return [(channel, _settled(view, channel, finding, finders)) for channel, finding in first]


def _finding(
    view: AccountView, channel: WazzupChannel, keepers: Mapping[str, WazzupChannel]
) -> Finding:
    if channel.metadata.paused or view.observation is None:
        return Paused()
    keeper = keepers.get(channel.metadata.uid) if view.account else None
    match view.observation:
        case Listed(listing, trust):
            if keeper:
                return _duplicate(channel, keeper)
            return Matcher(listing, trust.unconfirmed, trust.numbers).match(channel)
        case Unlisted(trouble, stale):
            outage = Outage(trouble.reason, _outage_message(view, trouble.reason), stale)
            keeper = keeper or _keeper_of_claimed(view, channel, stale=stale)
            return outage if keeper is channel else _duplicate(channel, keeper, outage)


def _keeper_of_claimed(view: AccountView, channel: WazzupChannel, *, stale: bool) -> WazzupChannel:
    """Return the keeper of the channel that this object claims: itself, or an older object."""
    claimed = view.claims.claimed(channel)
    elsewhere = _claimants_elsewhere(view, claimed) if claimed and not stale else []
    return keeper_of([channel, *elsewhere])


def _settled(
    view: AccountView,
    channel: WazzupChannel,
    finding: Finding,
    finders: Mapping[str, Sequence[WazzupChannel]],
) -> Finding:
    """Return the finding, or a conflict if another object keeps the channel found.

    Two accounts find the same channel if their API keys belong to one Wazzup account.
    """
    if not isinstance(finding, Found):
        return finding
    channel_id = finding.listed.channel_id
    keeper = keeper_of([*finders[channel_id], *_claimants_elsewhere(view, channel_id)])
    return finding if keeper is channel else _duplicate(channel, keeper)


def _claimants_elsewhere(view: AccountView, channel_id: str) -> list[WazzupChannel]:
    """Return the objects of other accounts that claim this channel."""
    claimants = view.claims.claimants(channel_id)
    return [other for other in claimants if other.account_key != view.key]


def _duplicate(
    channel: WazzupChannel, keeper: WazzupChannel, outage: Outage | None = None
) -> Conflict:
    near = keeper.metadata.namespace == channel.metadata.namespace
    return Conflict(
        Reason.DUPLICATE_PHONE_NUMBER,
        f'The older WazzupChannel "{keeper.metadata.name}" declares the same channel.'
        if near
        else "An older WazzupChannel in another namespace declares the same channel.",
        Action(
            Actor.DECLARATION,
            "Delete one of the two objects; this deletes nothing in Wazzup.",
        ),
        permanent=not (near and channel.replaces == keeper.metadata.name),
        outage=outage,
    )


def _outage_message(view: AccountView, reason: Reason) -> str:
    namespace, name = view.key
    if reason is Reason.ACCOUNT_NOT_FOUND:
        return (
            f'The WazzupAccount "{name}" does not exist in this namespace. Create it, or correct'
            " spec.accountRef."
        )
    return (
        f'The operator cannot list the WazzupAccount "{name}", so the state of this channel is'
        f" unknown. Run: kubectl -n {namespace} describe wzacc {name}"
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
        view.observation,
        _census(view, [status for _, status in statuses]),
        view.last_sync,
        view.now,
        view.deadline,
    )


def _census(view: AccountView, statuses: Iterable[ChannelStatus]) -> Census | None:
    if not isinstance(view.observation, Listed) or view.observation.trust.unconfirmed:
        return None
    numbers = {channel.number for channel in view.channels}
    held = {status.channel_id for status in statuses if status.account == view.key.name}
    listing = view.observation.listing
    managed = {
        channel_id
        for channel_id, listed in listing.channels.items()
        if channel_id in held or listed.number in numbers or _claimants_elsewhere(view, channel_id)
    }
    return Census.of(listing, managed)
