"""A channel's next status, from its previous one and what a pass found out."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from wazzup_operator.domain.listing import ListedChannel
from wazzup_operator.domain.reasons import ACCOUNT_TROUBLE, Reason
from wazzup_operator.domain.states import State, Verdict, judge
from wazzup_operator.reconcile.conditions import Conditions, Statement, status_of
from wazzup_operator.reconcile.finding import (
    Conflict,
    Finding,
    Found,
    Held,
    NotListed,
    Outage,
    Paused,
)
from wazzup_operator.resources.base import READY, SYNCED, Condition, find
from wazzup_operator.resources.channel import ActionStatus, ChannelStatus, Drift, WazzupChannel

_PASSING_REASONS = ACCOUNT_TROUBLE | {Reason.PAUSED, Reason.DUPLICATE_PHONE_NUMBER}
"""Reasons that an outage does not keep, since they may have gone while nobody could look."""

_UP_TO_DATE: Statement = (
    "True",
    Reason.UP_TO_DATE,
    "The status comes from a current listing of the Wazzup account.",
)
_IN_DOUBT: Statement = (
    "Unknown",
    State.UNKNOWN,
    "What Wazzup lists for this number cannot be made out: a row is damaged, contradicts another"
    " or may be missing by mistake.",
)
_PAUSED_MESSAGE = "Paused by the annotation wazzup.dev/paused; take it away to go on."


@dataclass(frozen=True, slots=True)
class _Draft:
    """What a finding says, before conditions are made of it.

    `ready` and `synced` are (status, reason, message); a `synced` of None stays as it was.
    """

    status: ChannelStatus
    ready: Statement
    synced: Statement | None
    for_good: bool = False


def next_status(
    channel: WazzupChannel, finding: Finding, now: datetime, deadline: timedelta
) -> ChannelStatus:
    """Return the status that the object should have; equal to its present one if nothing is new.

    `now` is in UTC with whole seconds, `deadline` the progress deadline.
    """
    draft = _draft(channel, finding)
    previous = channel.status
    rules = Conditions(
        previous.conditions,
        channel.recorded.observed_generation,
        channel.metadata.generation,
        now,
        deadline,
    )
    ready, *progress = rules.with_progress(rules.make(READY, *draft.ready), for_good=draft.for_good)
    return replace(
        draft.status,
        observed_generation=channel.metadata.generation,
        account=channel.spec.account_ref.name,
        state_since=previous.state_since if _goes_on(channel, draft.status) else now,
        conditions=(ready, _synced(rules, draft), *progress),
    )


def _goes_on(channel: WazzupChannel, status: ChannelStatus) -> bool:
    """Return whether the channel still is in the state that it was in before."""
    before = channel.status
    here = before is channel.recorded
    # Two accounts may be two keys of one in Wazzup, and show the same channel.
    same = here or (status.channel_id is not None and status.channel_id == before.channel_id)
    return same and status.state == before.state


def _synced(rules: Conditions, draft: _Draft) -> Condition:
    if draft.synced:
        return rules.make(SYNCED, *draft.synced)
    before = find(rules.previous, SYNCED)
    if before and before.reason != Reason.PAUSED:
        return replace(before, observed_generation=rules.generation)
    return rules.make(SYNCED, "Unknown", *draft.ready[1:])


def _draft(channel: WazzupChannel, finding: Finding) -> _Draft:
    match finding:
        case Found(listed):
            return _judged(channel, _as_listed(channel, listed), listed.state, synced=_UP_TO_DATE)
        case NotListed():
            return _not_listed(channel, finding)
        case Conflict():
            return _refused(finding)
        case Held():
            return _held(channel)
        case Outage():
            return _outage(channel, finding)
        case Paused():
            paused: Statement = ("Unknown", Reason.PAUSED, _PAUSED_MESSAGE)
            return _Draft(replace(_kept(channel.recorded), action=None), paused, paused)


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
            action=ActionStatus(by=action.by, summary=action.summary, url=action.url)
            if action
            else None,
        ),
        (status_of(verdict.ready), verdict.reason, message),
        synced,
        for_good=verdict.for_good,
    )


def _state(status: ChannelStatus) -> State:
    try:
        return State(status.state or State.UNKNOWN)
    except ValueError:  # a later operator's state
        return State.UNKNOWN


def _kept(status: ChannelStatus) -> ChannelStatus:
    return replace(status, state=status.state or State.UNKNOWN)


def _as_listed(channel: WazzupChannel, listed: ListedChannel) -> ChannelStatus:
    declared = channel.spec.display_name
    drift = (
        (Drift(field="displayName", declared=declared, observed=listed.name),)
        if declared and listed.name and declared != listed.name
        else ()
    )
    return ChannelStatus(
        state=listed.state,
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
    return _with_verdict(ChannelStatus(state=State.NOT_ADDED), verdict, _UP_TO_DATE)


def _refused(finding: Conflict) -> _Draft:
    verdict = Verdict(
        False, finding.reason, finding.message, finding.action, for_good=finding.for_good
    )
    return _with_verdict(ChannelStatus(state=State.UNKNOWN), verdict, _UP_TO_DATE)


def _held(channel: WazzupChannel) -> _Draft:
    if as_before := _as_before(channel):
        return as_before
    known = channel.recorded
    if not known.state:  # nor is there an older comparison that Synced could tell of
        return _Draft(ChannelStatus(state=State.UNKNOWN), _IN_DOUBT, _IN_DOUBT)
    if channel.spec.channel_id not in {None, known.channel_id}:
        # What is known is known of another channel than the one that is declared now.
        return _Draft(ChannelStatus(state=State.UNKNOWN), _IN_DOUBT, None)
    if _state(known) is State.UNKNOWN:
        return _Draft(replace(known, action=None), _IN_DOUBT, None)
    return _judged(channel, known, _state(known), synced=None)


def _as_before(channel: WazzupChannel) -> _Draft | None:
    """Return the status as it is, where it answers this generation and may still be true."""
    known = channel.recorded
    ready = find(known.conditions, READY)
    if (
        ready is None
        or ready.reason in _PASSING_REASONS
        or known.observed_generation != channel.metadata.generation
    ):
        return None
    return _Draft(known, (ready.status, ready.reason, ready.message), None)


def _outage(channel: WazzupChannel, outage: Outage) -> _Draft:
    previous = channel.recorded
    trouble: Statement = ("Unknown", outage.reason, outage.message)
    if outage.stale or previous.state is None:
        unknown = ChannelStatus(
            state=State.UNKNOWN, channel_id=previous.channel_id, plain_id=previous.plain_id
        )
        return _Draft(unknown, trouble, ("False", *trouble[1:]))
    return _as_before(channel) or _Draft(replace(previous, action=None), trouble, None)
