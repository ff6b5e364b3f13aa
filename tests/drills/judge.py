"""Whether a status was wrong when it was written: each write against what was so at its time.

What a write may say is written out by hand, here and in the table of expected states; nothing is
taken from the operator. `judge` is pure: it takes plain data and returns sentences.
"""

import bisect
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from tests.expected_states import BY_NAME, meant
from tests.integration.harness.api import JSON
from wazzup_simulator.client import Change, Request

OUTAGE = {"AccountUnreachable", "CredentialsInvalid", "SecretNotFound", "AccountNotFound"}
ALLOWED_ONLY = {
    "Paused": "Unknown",
    "DuplicatePhoneNumber": "False",
    "AmbiguousChannel": "False",
    "ChannelMismatch": "False",
}
"""Reasons of Ready that no rule here can prove, with its status: the drill has to expect them."""

RIGHT = {None, "slow"}
"""Faults with which the answer is the truth all the same."""

LISTINGS = {None, "slow", "empty", "partial", "duplicate", "contradict", "no-id", "huge"}
"""Faults with which the answer is a listing all the same, if not of everything."""

ANSWER = 1.0
"""Seconds within which the simulator reads what it lists, on a busy machine, once it was asked."""

TIMES = {"stateSince", "lastTransitionTime"}


@dataclass(frozen=True)
class Write:
    """A status of a WazzupChannel that the API server took."""

    time: float
    name: str
    uid: str
    replica: str
    """The audit user's group that is not the system's, such as replica-1; may be empty."""

    account: str
    """The name of the WazzupAccount."""

    number: str
    """Digits only."""

    active: bool
    generation: int
    status: JSON
    before: JSON | None = None
    """The status that this one replaced; None where the log does not tell."""

    last_known: JSON = field(default_factory=dict)
    """The newest status before this one that the log tells of."""

    guarded: bool = True
    """Whether the PATCH named uid and resourceVersion."""

    changed: bool = True
    """Whether the object got a new resourceVersion by it."""


@dataclass(frozen=True)
class Facts:
    """What Wazzup showed, and what the drill expects; accounts go by their names in Kubernetes."""

    changes: Mapping[str, Sequence[Change]]
    """Of each account, oldest first."""

    requests: Mapping[str, Sequence[Request]]
    numbers: Mapping[str, str]
    """Of each channel id the number, digits only."""

    window: float
    """Seconds within which a status must be written after the listing that it tells of."""

    stale_after: float
    """Seconds from the last listing until channels may, and must, be Unknown."""

    grace: float = 3.0
    """Seconds that may pass between a decision and the write."""

    allow: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By pattern of an object's name the reasons of Ready that no rule can prove."""


class Lie(NamedTuple):
    """A status that was not true when it was written."""

    write: Write
    sentence: str

    def __str__(self) -> str:
        status, ready = self.write.status, condition(self.write.status, "Ready") or {}
        at = datetime.fromtimestamp(self.write.time, UTC).strftime("%H:%M:%S.%f")[:-3]
        by = self.write.replica or "the operator"
        said = f"{status.get('state')}, Ready={ready.get('status')} ({ready.get('reason')})"
        return f"{at}Z {self.write.name}: {by} wrote {said}: {self.sentence}"


def judge(writes: Iterable[Write], facts: Facts) -> list[Lie]:
    """Return what was wrong about these writes, which may be of several objects, oldest first."""
    wazzup = {name: _Wazzup.of(name, facts) for name in facts.changes}
    previous: dict[str, Write] = {}
    lies = []
    for write in sorted(writes, key=lambda each: each.time):
        shown = wazzup.get(write.account) or _Wazzup.of(write.account, facts)
        for rule in RULES:
            lies += [Lie(write, sentence) for sentence in rule(write, shown, facts)]
        if before := previous.get(write.uid):
            lies += [Lie(write, sentence) for sentence in _compare(before, write)]
        previous[write.uid] = write
    return lies


def condition(status: JSON, type_: str) -> JSON | None:
    return next((each for each in status.get("conditions", []) if each["type"] == type_), None)


@dataclass
class _Wazzup:
    """What one account showed at any time."""

    times: dict[str, list[float]]
    """Of each channel id when its state changed, and to what."""

    states: dict[str, list[Any]]
    ids: dict[str, list[str]]
    """The channel ids of each number."""

    right: list[float]
    """When it was asked and answered with the truth."""

    listings: list[float]
    """When it was asked and answered with a listing, be it a wrong one."""

    slow: set[float]
    """Those of them that were answered some time after they were asked for."""

    @classmethod
    def of(cls, account: str, facts: Facts) -> "_Wazzup":
        times: dict[str, list[float]] = defaultdict(list)
        states: dict[str, list[Any]] = defaultdict(list)
        for change in facts.changes.get(account, ()):
            times[change.channel].append(change.time)
            states[change.channel].append(change.state)
        ids: dict[str, list[str]] = defaultdict(list)
        for channel_id in times:
            ids[facts.numbers.get(channel_id, "")].append(channel_id)
        answered = [each for each in facts.requests.get(account, ()) if each.status == 200]
        return cls(
            times,
            states,
            ids,
            [each.time for each in answered if each.fault in RIGHT],
            [each.time for each in answered if each.fault in LISTINGS],
            {each.time for each in answered if each.fault == "slow"},
        )

    def looks(self, since: float, until: float) -> list[tuple[float, float]]:
        """Return from when to when each listing that was asked for in this time was read."""
        first, last = (bisect.bisect_right(self.listings, each) for each in (since, until))
        return [
            (at, until if at in self.slow else min(at + ANSWER, until))
            for at in self.listings[first:last]
        ]

    def shown(self, channel_id: str, since: float, until: float) -> list[Any]:
        """Return every state that a channel showed in this time; None: it was not there."""
        times, states = self.times.get(channel_id, []), self.states.get(channel_id, [])
        first, last = bisect.bisect_right(times, since), bisect.bisect_right(times, until)
        return ([states[first - 1]] if first else [None]) + states[first:last]

    def absent(self, number: str, since: float, until: float) -> bool:
        """Return whether at some moment of this time no channel of the number was there."""
        ids = self.ids.get(number, [])
        moments = [since]
        moments += [at for each in ids for at in self.times[each] if since < at <= until]
        return any(all(self.shown(each, at, at) == [None] for each in ids) for at in moments)


def _last(times: Sequence[float], until: float) -> float | None:
    """Return the last of these times that is not after `until`."""
    number = bisect.bisect_right(times, until)
    return times[number - 1] if number else None


Rule = Callable[[Write, _Wazzup, Facts], Iterator[str]]


def _reason(write: Write) -> str:
    return str((condition(write.status, "Ready") or {}).get("reason", ""))


def _ready(write: Write) -> tuple[str, str]:
    return str((condition(write.status, "Ready") or {}).get("status", "")), _reason(write)


def _is_allowed(write: Write, facts: Facts) -> bool:
    return any(
        fnmatchcase(write.name, pattern) and _reason(write) in reasons
        for pattern, reasons in facts.allow.items()
    )


def _well_made(write: Write, _: _Wazzup, __: Facts) -> Iterator[str]:
    if not write.guarded:
        yield "the PATCH named no uid or no resourceVersion"
    observed = write.status.get("observedGeneration", -1)
    if observed > write.generation:
        yield f"it answers generation {observed}, the object has {write.generation}"
    if observed < write.last_known.get("observedGeneration", -1):
        yield (
            f"observedGeneration went back from {write.last_known['observedGeneration']}"
            f" to {observed}"
        )
    same = write.before is not None and timeless(write.before) == timeless(write.status)
    if same or not write.changed:
        yield "this was stored already, and nothing but times differs"


def _expected(write: Write, _: _Wazzup, facts: Facts) -> Iterator[str]:
    """Check reasons that no other rule can prove."""
    status, reason = _ready(write)
    if reason not in ALLOWED_ONLY:
        return
    if not _is_allowed(write, facts):
        yield "the drill gives no cause for this reason"
    if status != ALLOWED_ONLY[reason]:
        yield f"with this reason Ready is {ALLOWED_ONLY[reason]}"


def _ready_fits(write: Write, _: _Wazzup, __: Facts) -> Iterator[str]:
    status, reason = _ready(write)
    progress = [each for each in ("Reconciling", "Stalled") if condition(write.status, each)]
    if status == "True" or reason == "Paused":
        if progress:
            yield f"it has the condition {' and '.join(progress)}"
    elif len(progress) != 1:
        yield f"it has {len(progress)} of Reconciling and Stalled, and must have one"
    if reason in ALLOWED_ONLY or write.status.get("observedGeneration") != write.generation:
        return
    state = str(write.status.get("state"))
    if state == "Unknown" or reason in OUTAGE:
        if status != "Unknown":
            yield "Ready must be Unknown"
        return
    expected = BY_NAME.get(state)
    fitting = expected.ready(active=write.active) if expected else None
    if (status, reason) != fitting:
        told = f"{fitting[0]} ({fitting[1]})" if fitting else "no such thing"
        yield f"with active: {str(write.active).lower()} Ready must be {told}"


def _channel_fits(write: Write, wazzup: _Wazzup, facts: Facts) -> Iterator[str]:
    channel_id = write.status.get("channelID")
    if channel_id is not None and channel_id not in wazzup.ids.get(write.number, []):
        number = facts.numbers.get(channel_id)
        whose = f"the channel of {number}" if number else "no channel of this account"
        yield f"channelID {channel_id} is {whose}, the object's number is {write.number}"
    if (plain := write.status.get("plainID", write.number)) != write.number:
        yield f"plainID is {plain}, the object's number is {write.number}"


def _state_was_so(write: Write, wazzup: _Wazzup, facts: Facts) -> Iterator[str]:
    state = write.status.get("state")
    if state is None:
        yield "a status without a state"
    elif _reason(write) == "Paused":
        if state != write.last_known.get("state", "Unknown"):
            yield f"a pause must not change the state {write.last_known.get('state')}"
    elif state == "Unknown":
        yield from _may_be_unknown(write, wazzup, facts)
    else:
        yield from _was_shown(write, wazzup, facts)


def _may_be_unknown(write: Write, wazzup: _Wazzup, facts: Facts) -> Iterator[str]:
    known = write.last_known.get("state") not in (None, "Unknown")
    reason = _reason(write)
    if _is_allowed(write, facts) or reason in ALLOWED_ONLY:
        return
    if reason not in OUTAGE | {"Unknown"}:
        yield "this is no reason to be Unknown"
    elif known and reason == "Unknown":
        yield f"it was {write.last_known['state']}, and a doubt must not change that"
    elif known:
        last = _last(wazzup.right, write.time)
        if last is not None and write.time - last < facts.stale_after:
            yield (
                f"the account had been listed {write.time - last:.1f} s before, and staleAfter is"
                f" {facts.stale_after:g} s"
            )


def _was_shown(write: Write, wazzup: _Wazzup, facts: Facts) -> Iterator[str]:
    since = write.time - facts.window
    if write.last_known.get("state") == write.status["state"]:
        # It may be kept, but only as far as the last right listing goes back.
        since = min(since, (_last(wazzup.right, write.time) or write.time) - facts.window)
        last = _last(wazzup.listings, write.time)
        if last is not None and write.time - last > facts.stale_after + facts.grace:
            yield f"there had been no listing for {write.time - last:.1f} s, it must be Unknown"
    # What is so at this moment is no lie, however long ago it was listed.
    looks = [*wazzup.looks(since, write.time), (write.time, write.time)]
    if write.status["state"] == "NotAdded":
        if not any(wazzup.absent(write.number, *look) for look in looks):
            yield f"the number had a channel whenever it was listed: {_told(wazzup, write, since)}"
        if "channelID" in write.status:
            yield "what is not there has no channelID"
    elif channel_id := write.status.get("channelID"):
        if meant(_spelling(write)) != write.status["state"]:
            yield f"Wazzup's state {_spelling(write)} means something else"
        shown = [state for look in looks for state in wazzup.shown(channel_id, *look)]
        if _spelling(write) not in {each.lower() for each in shown if isinstance(each, str)}:
            yield f"Wazzup did not show {_spelling(write)}: {_told(wazzup, write, since)}"
    else:
        yield "a state without the channel that it is of"


def _spelling(write: Write) -> str:
    return str(write.status.get("upstreamState")).lower()


def _told(wazzup: _Wazzup, write: Write, since: float) -> str:
    """Say what was true, and when somebody could see it."""
    channels = [
        f"{each} showed {', '.join(str(one or 'nothing') for one in found)}"
        for each in wazzup.ids.get(write.number, [])
        for found in (wazzup.shown(each, since, write.time),)
    ]
    looks = len(wazzup.looks(since, write.time))
    return (
        f"in the {write.time - since:.1f} s before, with {looks} listings,"
        f" {'; '.join(channels) or 'it had no channel'}"
    )


RULES: Sequence[Rule] = (_well_made, _expected, _ready_fits, _channel_fits, _state_was_so)


def _compare(before: Write, write: Write) -> Iterator[str]:
    """Check that two replicas did not write the same change one after the other."""
    followed = write.before is not None  # else there may have been another one in between
    if followed and before.replica != write.replica and _change(before) == _change(write):
        yield f"{before.replica or 'another replica'} had written this very change before"


def _change(write: Write) -> JSON:
    """Return what a write says, without times and the words of messages."""
    said = timeless(write.status)
    return {
        **said,
        "generation": write.generation,
        "conditions": [
            {key: value for key, value in each.items() if key != "message"}
            for each in said["conditions"]
        ],
    }


def timeless(status: JSON) -> JSON:
    """Return a status without its times; these move only when what they are of does."""
    kept = {key: value for key, value in status.items() if key not in TIMES}
    kept["conditions"] = sorted(
        (
            {key: value for key, value in each.items() if key not in TIMES}
            for each in status.get("conditions", [])
        ),
        key=lambda each: str(each["type"]),
    )
    return kept
