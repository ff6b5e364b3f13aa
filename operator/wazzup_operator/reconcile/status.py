"""A channel's next status."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from wazzup_operator.domain.listing import ListedChannel
from wazzup_operator.domain.reasons import ACCOUNT_TROUBLE, Reason
from wazzup_operator.domain.states import State, Verdict, judge, named
from wazzup_operator.reconcile.conditions import Conditions, Statement, status_of
from wazzup_operator.reconcile.finding import (
    Conflict,
    Finding,
    Inconclusive,
    NotListed,
    Outage,
    Paused,
)
from wazzup_operator.resources.base import READY, SYNCED, Condition, find
from wazzup_operator.resources.channel import ActionStatus, ChannelStatus, Drift, WazzupChannel

_TEMPORARY_REASONS = ACCOUNT_TROUBLE | {Reason.PAUSED, Reason.DUPLICATE_PHONE_NUMBER}
"""Reasons that are not kept during an outage, because their cause may have ended meanwhile."""

_UP_TO_DATE: Statement = (
    "True",
    Reason.UP_TO_DATE,
    "This status comes from a current listing of the Wazzup account.",
)
_PAUSED: Statement = (
    "Unknown",
    Reason.PAUSED,
    "Paused by the annotation wazzup.dev/paused on this object or its WazzupAccount. Remove the"
    " annotation to resume.",
)
_INCONCLUSIVE: Statement = (
    "Unknown",
    State.UNKNOWN,
    "Wazzup's last listing lacks this channel, or has damaged or contradictory rows for it. The"
    " operator waits for a clear listing.",
)


@dataclass(frozen=True, slots=True)
class _Draft:
    """The next status plus its Ready and Synced statements; None keeps the current Synced."""

    status: ChannelStatus
    ready: Statement
    synced: Statement | None
    permanent: bool = False


def next_status(
    channel: WazzupChannel, finding: Finding, now: datetime, deadline: timedelta
) -> ChannelStatus:
    """Return the object's next status, equal to the current one if nothing changed.

    `now` is in UTC with whole seconds. `deadline` is the progress deadline.
    """
    draft = _draft(channel, finding)
    status = _with_account(channel, finding, draft.status)
    previous = channel.status
    rules = Conditions(
        previous.conditions,
        channel.recorded.observed_generation,
        channel.metadata.generation,
        now,
        deadline,
    )
    ready, *progress = rules.with_progress(
        rules.make(READY, *draft.ready), permanent=draft.permanent
    )
    return replace(
        status,
        observed_generation=channel.metadata.generation,
        state_since=previous.state_since if _same_state(previous, status) else now,
        conditions=(ready, _synced(rules, draft), *progress),
    )


def _with_account(channel: WazzupChannel, finding: Finding, status: ChannelStatus) -> ChannelStatus:
    """Set the account that the status is about.

    After a change of accountRef, the old account and its channel stay until the new one is listed.
    """
    before = channel.status
    if before is channel.recorded or not isinstance(finding, Inconclusive | Outage | Paused):
        return replace(status, account=channel.spec.account_ref.name)
    return replace(
        status, account=before.account, channel_id=before.channel_id, plain_id=before.plain_id
    )


def _same_state(before: ChannelStatus, status: ChannelStatus) -> bool:
    """Return whether the channel is still in its previous state."""
    same_account = before.account in {None, status.account}
    # After a change of accountRef: two WazzupAccounts may use keys of one Wazzup account.
    same_channel = status.channel_id is not None and status.channel_id == before.channel_id
    return (same_account or same_channel) and status.state == before.state


def _synced(rules: Conditions, draft: _Draft) -> Condition:
    if draft.synced:
        return rules.make(SYNCED, *draft.synced)
    before = find(rules.previous, SYNCED)
    if before and before.reason != Reason.PAUSED:
        return replace(before, observed_generation=rules.generation)
    return rules.make(SYNCED, "Unknown", *draft.ready[1:])


def _draft(channel: WazzupChannel, finding: Finding) -> _Draft:
    match finding:
        case ListedChannel():
            status = _as_listed(channel, finding)
            return _judged(channel, status, finding.state, synced=_UP_TO_DATE)
        case NotListed():
            return _not_listed(channel, finding)
        case Conflict():
            return _conflict(channel, finding)
        case Inconclusive():
            return _inconclusive(channel)
        case Outage():
            return _outage(channel, finding)
        case Paused():
            kept = channel.status
            status = replace(kept, state=kept.state or State.UNKNOWN.value, action=None)
            return _Draft(status, _PAUSED, _PAUSED)


def _judged(
    channel: WazzupChannel, status: ChannelStatus, state: State, *, synced: Statement | None
) -> _Draft:
    verdict = judge(state, active=channel.spec.active)
    return _with_verdict(status, verdict, synced)


def _with_verdict(status: ChannelStatus, verdict: Verdict, synced: Statement | None) -> _Draft:
    action = verdict.action
    message = f"{verdict.message} {action.summary}" if action else verdict.message
    return _Draft(
        replace(
            status,
            action=ActionStatus(by=action.by.value, summary=action.summary, url=action.url)
            if action
            else None,
        ),
        (status_of(verdict.ready), verdict.reason, message),
        synced,
        permanent=verdict.permanent,
    )


def _as_listed(channel: WazzupChannel, listed: ListedChannel) -> ChannelStatus:
    declared = channel.spec.display_name
    drift = (
        (Drift(field="displayName", declared=declared, observed=listed.name),)
        if declared and listed.name and declared != listed.name
        else ()
    )
    return ChannelStatus(
        state=listed.state.value,
        upstream_state=listed.upstream_state,
        channel_id=listed.channel_id,
        plain_id=listed.plain_id,
        display_name=listed.name,
        drift=drift,
    )


def _not_listed(channel: WazzupChannel, finding: NotListed) -> _Draft:
    verdict = judge(State.NOT_ADDED, active=channel.spec.active)
    if finding.message and verdict.ready is False:
        verdict = replace(verdict, message=finding.message, action=finding.action)
    return _with_verdict(ChannelStatus(state=State.NOT_ADDED.value), verdict, _UP_TO_DATE)


def _conflict(channel: WazzupChannel, finding: Conflict) -> _Draft:
    verdict = Verdict(
        False, finding.reason, finding.message, finding.action, permanent=finding.permanent
    )
    synced = _synced_in(finding.outage, channel.recorded) if finding.outage else _UP_TO_DATE
    return _with_verdict(ChannelStatus(state=State.UNKNOWN.value), verdict, synced)


def _inconclusive(channel: WazzupChannel) -> _Draft:
    if unchanged := _unchanged(channel):
        return unchanged
    known = channel.recorded
    if not known.state:  # never listed, so there is no Synced to keep
        return _Draft(ChannelStatus(state=State.UNKNOWN.value), _INCONCLUSIVE, _INCONCLUSIVE)
    if channel.spec.channel_id not in {None, known.channel_id}:
        # The recorded state is that of another channel.
        return _Draft(ChannelStatus(state=State.UNKNOWN.value), _INCONCLUSIVE, None)
    if named(known.state) is State.UNKNOWN:
        return _Draft(replace(known, action=None), _INCONCLUSIVE, None)
    return _judged(channel, known, named(known.state), synced=None)


def _unchanged(channel: WazzupChannel) -> _Draft | None:
    """Return the current status if it is for this generation and may still be true."""
    known = channel.recorded
    ready = find(known.conditions, READY)
    if (
        ready is None
        or ready.reason in _TEMPORARY_REASONS
        or known.observed_generation != channel.metadata.generation
    ):
        return None
    return _Draft(known, (ready.status, ready.reason, ready.message), None)


def _outage(channel: WazzupChannel, outage: Outage) -> _Draft:
    previous = channel.recorded
    trouble: Statement = ("Unknown", outage.reason, outage.message)
    synced = _synced_in(outage, previous)
    if outage.stale or previous.state is None:
        unknown = ChannelStatus(
            state=State.UNKNOWN.value, channel_id=previous.channel_id, plain_id=previous.plain_id
        )
        return _Draft(unknown, trouble, synced)
    return _unchanged(channel) or _Draft(replace(previous, action=None), trouble, synced)


def _synced_in(outage: Outage, previous: ChannelStatus) -> Statement | None:
    """Return what Synced says in an outage; None keeps the Synced of the last listing."""
    before = find(previous.conditions, SYNCED)
    # False before: refresh the message left by an earlier outage.
    if outage.stale or previous.state is None or (before and before.status == "False"):
        return "False", outage.reason, outage.message
    if before is None or before.reason == Reason.PAUSED:
        return "Unknown", outage.reason, outage.message
    return None
