"""Compares each written status with the state of Wazzup and Kubernetes at that time.

The rules are written by hand, here and in tests/expected_states.py, never taken from the operator.
`judge` is pure: it takes plain data and returns violations.
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
"""Reasons of Ready that no rule here can derive, with its status; a drill must allow them."""

RIGHT = {None, "slow"}
"""Faults with a correct listing all the same."""

LISTINGS = {None, "slow", "partial", "duplicate", "contradict", "no-id", "huge"}
"""Faults with a listing, correct or not. An empty one counts as none."""

GONE = 60.0
"""Seconds for which all listings must lack a channel until it is gone."""

ANSWER = 1.0
"""Seconds from a request until the simulator reads its channels, on a busy machine."""

TIMES = {"stateSince", "lastTransitionTime"}


@dataclass(frozen=True)
class Write:
    """A stored status of a WazzupChannel."""

    time: float
    name: str
    uid: str
    replica: str
    """The user's group in the audit log, such as replica-1; may be empty."""

    account: str
    """The name of the WazzupAccount."""

    number: str
    """Digits only."""

    active: bool
    generation: int
    status: JSON
    before: JSON | None = None
    """The replaced status; None if a version between is not in the log."""

    last_known: JSON = field(default_factory=dict)
    """The newest earlier status in the log."""

    guarded: bool = True
    """Whether the PATCH named uid and resourceVersion."""

    changed: bool = True
    """Whether the object got a new resourceVersion."""

    restores: int = 0
    """How often etcd had been restored; a restore forgets writes."""


@dataclass(frozen=True)
class Facts:
    """What Wazzup showed and the drill expects, by names of WazzupAccounts."""

    changes: Mapping[str, Sequence[Change]]
    """Changes of each account, oldest first."""

    requests: Mapping[str, Sequence[Request]]
    numbers: Mapping[str, str]
    """Phone number (digits only) of each channel id."""

    window: float
    """Maximum seconds from a listing to a status based on it."""

    stale_after: float
    """Seconds after the last listing when channels become Unknown."""

    grace: float = 3.0
    """Maximum seconds between a decision and its write."""

    allow: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Allowed reasons of Ready, by pattern of the object's name."""


class Violation(NamedTuple):
    """A status that was wrong when it was written."""

    write: Write
    sentence: str

    def __str__(self) -> str:
        status, ready = self.write.status, condition(self.write.status, "Ready") or {}
        at = datetime.fromtimestamp(self.write.time, UTC).strftime("%H:%M:%S.%f")[:-3]
        by = self.write.replica or "the operator"
        wrote = f"{status.get('state')}, Ready={ready.get('status')} ({ready.get('reason')})"
        return f"{at}Z {self.write.name}: {by} wrote {wrote}: {self.sentence}"


def judge(writes: Iterable[Write], facts: Facts) -> list[Violation]:
    """Return the violations, oldest first. The writes of each object must be in order."""
    wazzup = {name: _Wazzup.of(name, facts) for name in facts.changes}
    previous: dict[tuple[str, int], Write] = {}
    violations = []
    for write in writes:
        shown = wazzup.get(write.account) or _Wazzup.of(write.account, facts)
        for rule in RULES:
            violations += [Violation(write, sentence) for sentence in rule(write, shown, facts)]
        if before := previous.get((write.uid, write.restores)):
            violations += [Violation(write, sentence) for sentence in _compare(before, write)]
        previous[write.uid, write.restores] = write
    return sorted(violations, key=lambda each: each.write.time)


def condition(status: JSON, type_: str) -> JSON | None:
    return next((each for each in status.get("conditions", []) if each["type"] == type_), None)


@dataclass
class _Wazzup:
    """What one account showed over time."""

    times: dict[str, list[float]]
    """Times of the changes of each channel id; `states` has the new states."""

    states: dict[str, list[Any]]
    ids: dict[str, list[str]]
    """The channel ids of each number."""

    right: list[float]
    """Times of requests that got a correct listing."""

    listings: list[float]
    """Times of requests that got a listing, correct or not."""

    slow: set[float]
    """Those that were answered with a delay."""

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
        """Return the interval in which each listing requested in this time was read."""
        first, last = (bisect.bisect_right(self.listings, each) for each in (since, until))
        return [(at, self._read(at, until)) for at in self.listings[first:last]]

    def _read(self, at: float, until: float) -> float:
        """Return when the listing requested at this time had been read at the latest."""
        return until if at in self.slow else min(at + ANSWER, until)

    def shown(self, channel_id: str, since: float, until: float) -> list[Any]:
        """Return every state that a channel showed in this time; None: it did not exist."""
        times, states = self.times.get(channel_id, []), self.states.get(channel_id, [])
        first, last = bisect.bisect_right(times, since), bisect.bisect_right(times, until)
        return ([states[first - 1]] if first else [None]) + states[first:last]

    def lacked_for(self, channel_id: str, until: float) -> float:
        """Return the seconds since the first listing that may have lacked a channel.

        Only listings after the last one that surely showed it count.
        """
        showed = [
            at
            for at in self.right
            if at <= until and None not in self.shown(channel_id, at, self._read(at, until))
        ]
        last = max(showed, default=0.0)
        lacking = [at for at in self.listings if last < at <= until]
        return until - lacking[0] if lacking else 0.0

    def absent(self, number: str, since: float, until: float) -> bool:
        """Return whether the number had no channel at some moment of this time."""
        ids = self.ids.get(number, [])
        moments = [since]
        moments += [at for each in ids for at in self.times[each] if since < at <= until]
        return any(all(self.shown(each, at, at) == [None] for each in ids) for at in moments)


def _last(times: Sequence[float], until: float) -> float | None:
    """Return the last of these times up to `until`."""
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
        yield f"observedGeneration is {observed}, the object has generation {write.generation}"
    if observed < write.last_known.get("observedGeneration", -1):
        yield (
            f"observedGeneration went back from {write.last_known['observedGeneration']}"
            f" to {observed}"
        )
    same = write.before is not None and timeless(write.before) == timeless(write.status)
    if same or not write.changed:
        yield "nothing but times has changed"


def _expected(write: Write, _: _Wazzup, facts: Facts) -> Iterator[str]:
    """Check the reasons that only a drill can allow."""
    status, reason = _ready(write)
    if reason not in ALLOWED_ONLY:
        return
    if not _is_allowed(write, facts):
        yield "the drill does not allow this reason"
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
        must = f"{fitting[0]} ({fitting[1]})" if fitting else "another"
        yield f"with active: {str(write.active).lower()} Ready must be {must}"


def _channel_fits(write: Write, wazzup: _Wazzup, facts: Facts) -> Iterator[str]:
    channel_id = write.status.get("channelID")
    if channel_id is not None and channel_id not in wazzup.ids.get(write.number, []):
        number = facts.numbers.get(channel_id)
        whose = f"the channel of {number}" if number else "no channel of this account"
        yield f"channelID {channel_id} is {whose}, the object's number is {write.number}"
    if (plain := write.status.get("plainID", write.number)) != write.number:
        yield f"plainID is {plain}, the object's number is {write.number}"


def _state_was_shown(write: Write, wazzup: _Wazzup, facts: Facts) -> Iterator[str]:
    state = write.status.get("state")
    if state is None:
        yield "the status has no state"
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
        yield "this reason does not make the state Unknown"
    elif known and reason == "Unknown":
        yield f"it was {write.last_known['state']}, and an unconfirmed id must not change that"
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
        # A state may be kept, but no longer than since the last correct listing.
        since = min(since, (_last(wazzup.right, write.time) or write.time) - facts.window)
        last = _last(wazzup.listings, write.time)
        if last is not None and write.time - last > facts.stale_after + facts.grace:
            yield f"there had been no listing for {write.time - last:.1f} s, it must be Unknown"
    # The current state is never wrong, however old the listing is.
    looks = [*wazzup.looks(since, write.time), (write.time, write.time)]
    if write.status["state"] == "NotAdded":
        yield from _was_absent(write, wazzup, looks, since)
    elif channel_id := write.status.get("channelID"):
        if meant(_spelling(write)) != write.status["state"]:
            yield f"Wazzup's state {_spelling(write)} means something else"
        shown = [state for look in looks for state in wazzup.shown(channel_id, *look)]
        if _spelling(write) not in {each.lower() for each in shown if isinstance(each, str)}:
            yield f"Wazzup did not show {_spelling(write)}: {_evidence(wazzup, write, since)}"
    else:
        yield "a state without a channelID"


def _was_absent(
    write: Write, wazzup: _Wazzup, looks: list[tuple[float, float]], since: float
) -> Iterator[str]:
    had = write.last_known.get("channelID")
    lacked = wazzup.lacked_for(had, write.time) if had in wazzup.times else GONE
    if not any(wazzup.absent(write.number, *look) for look in looks):
        yield f"the number had a channel in every listing: {_evidence(wazzup, write, since)}"
    elif lacked < GONE:
        yield f"listings had lacked {had} for only {lacked:.1f} s"
    if "channelID" in write.status:
        yield "NotAdded with a channelID"


def _spelling(write: Write) -> str:
    return str(write.status.get("upstreamState")).lower()


def _evidence(wazzup: _Wazzup, write: Write, since: float) -> str:
    """Describe what Wazzup showed, and how often it was listed."""
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


RULES: Sequence[Rule] = (_well_made, _expected, _ready_fits, _channel_fits, _state_was_shown)


def _compare(before: Write, write: Write) -> Iterator[str]:
    """Check that two replicas did not write the same change one after the other."""
    followed = write.before == before.status  # else there was a write between
    if followed and before.replica != write.replica and _change(before) == _change(write):
        yield f"{before.replica or 'another replica'} had already written this change"


def _change(write: Write) -> JSON:
    """Return a status without times and messages."""
    kept = timeless(write.status)
    return {
        **kept,
        "generation": write.generation,
        "conditions": [
            {key: value for key, value in each.items() if key != "message"}
            for each in kept["conditions"]
        ],
    }


def timeless(status: JSON) -> JSON:
    """Return a status without its times."""
    kept = {key: value for key, value in status.items() if key not in TIMES}
    kept["conditions"] = sorted(
        (
            {key: value for key, value in each.items() if key not in TIMES}
            for each in status.get("conditions", [])
        ),
        key=lambda each: str(each["type"]),
    )
    return kept
