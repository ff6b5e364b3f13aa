"""Whatever happens, in whatever order: once all works again, the statuses tell the newest facts.

A history is a list of steps in the world of `history.py`. Each write is checked when it is sent;
at the end everything heals, and each status is compared with what the rules in docs/architecture.md
and the README demand, worked out here by hand and from the world alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.expected_states import BY_NAME, SPELLINGS, meant
from tests.unit.examples import examples
from tests.unit.history import AC, CH, DEFAULT, FAR, ROWS, SECOND, SLOTS, World, Write
from wazzup_operator.resources.codec import ACCOUNTS, CHANNELS

pytestmark = pytest.mark.timeout(600)
"""Half a minute, on a machine that does nothing else."""

SHOWN = [*SPELLINGS, "QRidle", "melted"]
"""What Wazzup shows of a channel."""

FINAL = {"AmbiguousChannel", "ChannelMismatch"}
TROUBLE = {"AccountUnreachable", "SecretNotFound", "CredentialsInvalid"}
DETAILS = ("state", "upstreamState", "channelID", "plainID", "displayName")
NUMBERS = {id_: number for rows in ROWS.values() for id_, (_, number) in rows.items()}
FRESH, DEADLINE = 5.0, timedelta(minutes=15)

CHANNEL_STEPS = [
    *(("create", slot, 0) for slot in SLOTS),
    *(("create", slot, 1) for slot in SLOTS),
    *(("create", slot, 2, {"active": False}) for slot in SLOTS),
    ("create", "c0", 0, {"transport": "wapi"}),
    ("create", "c1", 0, {"channelID": "b"}),
    ("create", "c1", 0, {"channelID": "w"}),
    ("create", "c3", 1, {"channelID": "a"}),
    *(("anew", slot, number) for slot in SLOTS for number in (0, 1)),
    ("anew", "c1", 0, {"accountRef": {"name": "second"}}),
    ("anew", "c1", 0, {"annotations": {"wazzup.dev/replaces": "c0"}}),
    *(("delete", slot) for slot in SLOTS),
    *(("delete", slot) for slot in SLOTS),
    ("finish", "c0"),
    ("finish", "c3"),
    *(("edit", slot, "active") for slot in SLOTS),
    *(("edit", slot, "active") for slot in SLOTS),
    ("edit", "c0", "displayName", "Support"),
    ("edit", "c0", "displayName", None),
    ("edit", "c0", "channelID", "b"),
    *(("edit", slot, "channelID", "a") for slot in ("c0", "c0", "c3", "c3")),
    ("edit", "c0", "channelID", "c"),
    ("edit", "c3", "channelID", "w"),
    ("edit", "c3", "channelID", "a"),
    *(("move", slot, name) for slot in ("c0", "c1", "c2") for name in ("default", "second")),
    ("move", "c0", "second"),
    ("move", "c0", "default"),
    ("move", "c0", "second", {"channelID": "x"}),
    ("move", "c0", "default", {"channelID": None}),
    ("move", "c3", "second"),
    ("move", "c3", "default"),
    *(("annotate", slot, "paused", "true") for slot in SLOTS),
    *(("annotate", slot, "paused", None) for slot in SLOTS),
    ("annotate", "c1", "replaces", "c0"),
    ("annotate", "c0", "requested-at", "now"),
    *(("open", key) for key in (DEFAULT, SECOND, FAR)),
    *(("close", key) for key in (DEFAULT, SECOND, FAR)),
    *(("reopen", key) for key in (DEFAULT, SECOND, FAR)),
    *(("rekey", key) for key in (DEFAULT, SECOND, FAR)),
    ("annotate_account", DEFAULT, "paused", "true"),
    ("annotate_account", DEFAULT, "paused", None),
    ("annotate_account", FAR, "paused", "true"),
    ("annotate_account", FAR, "paused", None),
    ("annotate_account", DEFAULT, "requested-at", "now"),
]
"""What people do to objects."""

ALTERED_STEPS = [
    *(("row", "a", {"state": state, "name": "Support"}) for state in SHOWN),
    *(("row", "c", {"state": state, "name": "Sales"}) for state in SHOWN),
    *(("row", id_, {"state": state}) for id_ in "bmx" for state in ("active", "disabled", "qr")),
    *(("row", id_, {"name": name}) for id_ in "ac" for name in ("Support", "Sales", None)),
    ("row", "a", {"plainId": None}),
    ("row", "a", {"plainId": NUMBERS["a"]}),
    *(("add", id_) for id_ in "abcmwxy"),
    *(("remove", id_) for id_ in "aabcmx"),
]
"""What happens in Wazzup."""

FAULT_STEPS = [
    ("listings", "none"),
    ("listings", "none"),
    ("listings", "half"),
    ("listings", "other half"),
    ("listings", "contradiction"),
    ("listings", "damage"),
    ("listings", "wreck", "wreck"),
    ("listings", "none", "unreachable", "half"),
    ("listings", "slow"),
    ("listings", "unreachable"),
    ("listings", "429 30", "429 600"),
    *(("trouble", key, "") for key in (DEFAULT, DEFAULT, FAR)),
    *(("trouble", DEFAULT, each) for each in ("unreachable", "invalid", "missing", "kube")),
    *(("trouble", FAR, each) for each in ("429 600", "empty", "broken", "unreachable")),
    ("depose",),
    ("depose",),
    ("bury",),
]
"""What hides the facts, or keeps old ones alive."""

DELIVERY_STEPS = [
    *(("hold", plural) for plural in (CH, AC)),
    *(("flow", plural) for plural in (CH, AC)),
    *(("deliver", plural, events) for plural in (CH, AC) for events in (1, 3)),
    *(("cut", plural, end) for plural in (CH, AC) for end in ("gone", "broken", "over")),
    *(("cut", CH, "gone") for _ in range(3)),
    *(("pace", pace) for pace in ("late", "late", "ok", "ok")),
    ("server", True),
    ("server", False),
    ("server", False),
    ("writes", "lost"),
    ("writes", "late", "late", "lost"),
    ("writes", "unreachable"),
    ("writes", "ok", "refused"),
    ("restart",),
    ("restart",),
]
"""What happens on the way between the API server and the operator."""

SLOW_WRITES = [("writes", "slow"), ("writes", "ok", "slow", "slow", "slow"), ("pace", "slow")]
CLOCKS = [("clock", 3600), ("clock", -3600), ("clock", 0)]
WAITS = [("wait", seconds) for seconds in (0, 0.4, 1.2, 2.5, 6, 30, 200)]
LONG_WAITS = [("wait", seconds) for seconds in (700, 1000, 4000)]

NOTHING = ("wait", 0)


def some_of(*tables: tuple[list[Any], int], length: int) -> st.SearchStrategy[Any]:
    """Return histories of steps from tables, each with its weight in them all."""
    steps = [NOTHING]
    for table, weight in tables:
        steps += (table * (1 + 100 * weight // len(table)))[: 100 * weight]
    step = st.sampled_from(steps)
    return st.tuples(*[step] * length).map(
        lambda drawn: [each for each in drawn if each is not NOTHING]
    )


everything = some_of(
    (CHANNEL_STEPS, 6),
    (ALTERED_STEPS, 3),
    (FAULT_STEPS, 3),
    (DELIVERY_STEPS, 4),
    (SLOW_WRITES, 1),
    (CLOCKS, 1),
    (WAITS, 6),
    (LONG_WAITS, 1),
    length=26,
)
steady = some_of(
    (CHANNEL_STEPS, 5),
    (ALTERED_STEPS, 2),
    (FAULT_STEPS, 4),
    (DELIVERY_STEPS, 3),
    (WAITS, 5),
    (LONG_WAITS, 1),
    length=14,
)
"""The same with a wall clock that goes right: how old a record is, it must tell."""
OUTAGES = [
    ("unreachable", "AccountUnreachable"),
    ("invalid", "CredentialsInvalid"),
    ("missing", "SecretNotFound"),
    ("kube", "AccountUnreachable"),
]
afterwards = some_of((CHANNEL_STEPS, 5), (DELIVERY_STEPS, 3), (WAITS, 3), length=8)
"""What may happen while Wazzup says nothing new, so that it must show at once."""


def condition(status: Any, type_: str) -> Any:
    return next((each for each in status["conditions"] if each["type"] == type_), None)


def progress(status: Any) -> set[str]:
    return {each["type"] for each in status["conditions"]} - {"Ready", "Synced"}


def number_of(row: Any) -> str | None:
    """Return the number of a row of Wazzup as an object declares it."""
    plain = row["plainId"]
    return {None: None, "5215512345678": "+525512345678"}.get(plain, f"+{plain}")


def judged(state: str, *, active: bool) -> tuple[str, str, bool, set[str]]:
    """Return Ready's status and reason, whether there is an action, and which progress may be."""
    expected = BY_NAME[state]
    at_first = expected.progress(active=active)
    may_be = {at_first, "Stalled"} if at_first else set()
    return *expected.ready(active=active), bool(expected.action(active=active)), may_be


# Each write, when it is sent.


def complaints(world: World, write: Write) -> Iterator[str]:
    """Yield what is wrong with a write."""
    generation, status = write.before.metadata.generation, write.status
    answered = {each.get("observedGeneration") for each in status["conditions"]}
    if answered | {status["observedGeneration"]} != {generation}:
        yield "it does not answer the generation that it was made for"
    resource = CHANNELS if write.plural == CH else ACCOUNTS
    before = resource.status_json(write.before.status)
    yield from times_are_wrong(before, status)
    if write.before.status.observed_generation != generation and not is_new(write):
        yield "a new generation waits by the clock of the old one"
    if len(progress(status)) > 1:
        yield "it is Reconciling and Stalled"
    if write.plural == CH:
        yield from channel_complaints(world, write, before)


def is_new(write: Write) -> bool:
    """Return whether its Reconciling, if it has one, began with this pass."""
    reconciling = condition(write.status, "Reconciling")
    if reconciling is None:
        return True
    since = datetime.fromisoformat(reconciling["lastTransitionTime"])
    return write.process.clock() - since < timedelta(seconds=30)


def times_are_wrong(before: Any, status: Any) -> Iterator[str]:
    same_generation = before["observedGeneration"] == status["observedGeneration"]
    for new in status["conditions"]:
        old = condition(before, new["type"]) if "conditions" in before else None
        if old is None or (new["type"] == "Reconciling" and not same_generation):
            continue
        moved = new["lastTransitionTime"] != old["lastTransitionTime"]
        if moved and new["status"] == old["status"]:
            yield f"{new['type']} did not flip, and its time moved"


def channel_complaints(world: World, write: Write, before: Any) -> Iterator[str]:
    status, reason = write.status, condition(write.status, "Ready")["reason"]
    if write.before.metadata.deleting:
        yield "an object that is being deleted is written to"
    if status["account"] != write.before.spec.account_ref.name:
        yield "it does not say of which account it tells"
    moved = before.get("account") not in {None, status["account"]}
    same = not moved or ("channelID" in status and before.get("channelID") == status["channelID"])
    since = [each.get("stateSince") for each in (before, status)]
    if same and before.get("state") == status["state"] and since[0] != since[1]:
        yield "the state did not change, and stateSince moved"
    if moved:  # nothing is known of it here
        before = {"observedGeneration": before["observedGeneration"]}
    if reason == "DuplicatePhoneNumber":
        if status["state"] != "Unknown" or "channelID" in status:
            yield "a loser keeps a channel"
    elif reason in {*TROUBLE, "AccountNotFound", "Paused"}:
        yield from out_of_sight_complaints(world, write, before, reason)
    elif not says_the_same(before, status):
        yield from Answer(write, before).complaints()


def out_of_sight_complaints(world: World, write: Write, before: Any, reason: str) -> Iterator[str]:
    """Yield what a status changes though nothing was seen."""
    status = write.status
    if before.get("channelID") != status.get("channelID"):
        yield "trouble or a pause changes the channelID"
    if before.get("state") in {None, "Unknown"}:
        if status["state"] != "Unknown":
            yield "it tells of a state that nobody has seen here"
        return
    if reason == "Paused" or status["state"] != "Unknown":
        if any(before.get(name) != status.get(name) for name in DETAILS):
            yield "trouble or a pause changes what is known"
    elif reason in TROUBLE and not lost(world, write):
        yield "a state is lost before its time"


def lost(world: World, write: Write) -> bool:
    """Return whether what was known of the account's channels is too old, or may be."""
    account = write.process.store.accounts.objects.get(write.before.account_key)
    if account is None:
        return True
    stale = max(600.0, 3 * account.spec.poll_seconds)
    got = [
        each.at
        for each in write.process.got.get(account.metadata.key, ())
        if (each.account_uid, each.secret) == identity(account)
    ]
    if got:
        return write.at - got[-1] >= stale
    recorded = account.status.last_sync_time
    age = (write.process.clock() - recorded).total_seconds() if recorded else stale
    return world.clock_stepped or age >= stale


def identity(account: Any) -> tuple[str, str]:
    return account.metadata.uid, account.spec.api_key_secret_ref.name


class Answer:
    """A write that tells of a listing, and what its process had been shown by then."""

    def __init__(self, write: Write, before: Any) -> None:
        self.write, self.before, self.status = write, before, write.status
        self.process, self.object = write.process, write.before
        self.declared, self.number = self.object.spec.channel_id, self.object.number
        got = self.process.got.get(self.object.account_key, [])
        self.got = [
            each
            for each in got
            if (each.account_uid, each.secret) == (got[-1].account_uid, got[-1].secret)
        ]

    def complaints(self) -> Iterator[str]:
        """Yield how the write contradicts what was listed."""
        if not self.got:
            yield "it comes from no listing"
            return
        self.listing = self.got[-1].listing
        self.missing = missing_once(self.got)
        self.unclear = self.missing | self.listing.doubtful_ids
        yield from self._age()
        if self.declared and self.status.get("channelID") not in {None, self.declared}:
            yield "it tells of another channel than the declared one"
        yield from self._absence()
        yield from self._row()
        yield from self._record()
        yield from self._verdict()

    def _age(self) -> Iterator[str]:
        account = self.process.store.accounts.objects.get(self.object.account_key)
        listed_for = self.got[-1].account_uid, self.got[-1].secret
        just_changed = self.process.hears_now(AC, self.object.account_key)
        if not just_changed and (account is None or identity(account) != listed_for):
            yield "it comes from another account's listing"
        metadata = self.object.metadata
        heard = self.process.heard[metadata.uid, metadata.generation]
        is_news = self.before["observedGeneration"] != metadata.generation
        if is_news and self.got[-1].at < heard - FRESH - 0.01:
            yield "a change is answered with an old listing"

    def _number_in_doubt(self) -> bool:
        """Return whether the number has, or may have, a channel that this listing does not show."""
        shown = self.got[-2].listing.channels if len(self.got) > 1 else {}
        lacks = any(shown[id_].number == self.number for id_ in self.missing & shown.keys())
        return lacks or self.number in self.listing.doubtful_numbers

    def _absence(self) -> Iterator[str]:
        channel_id, recorded = self.status.get("channelID"), self.before.get("channelID")
        if not self.declared and self._number_in_doubt() and channel_id not in {None, recorded}:
            yield "a number is given a channel while another of its channels is in doubt"
        if self.status["state"] != "NotAdded":
            return
        listed = (row.number for row in self.listing.channels.values())
        if not self.declared and self.number in listed:
            yield "NotAdded, and it is listed"
        if self.before.get("state") == "NotAdded" and not self.declared:
            return  # it was before; what is in doubt is kept
        if (self.declared or recorded) in self.unclear:
            yield "NotAdded after one listing without it, or an unclear one"
        if not self.declared and self._number_in_doubt():
            yield "NotAdded after one listing without the number's channel, or an unclear one"

    def _row(self) -> Iterator[str]:
        if self.status["state"] in {"NotAdded", "Unknown"}:
            return
        yield from robbed(self.write)
        row = self.listing.channels.get(self.status["channelID"])
        if row:
            shown = meant(row.upstream_state), row.upstream_state, row.name
            told = [self.status.get(name) for name in ("state", "upstreamState", "displayName")]
            if told != list(shown):
                yield f"the last listing shows {row}"
            return
        in_doubt = self.number in self.listing.doubtful_numbers
        if self.status["channelID"] not in self.unclear and not in_doubt:
            yield "it is kept, and nothing is in doubt"
        if any(self.before.get(name) != self.status.get(name) for name in DETAILS):
            yield "it is in doubt, and not kept"

    def _record(self) -> Iterator[str]:
        recorded = self.listing.channels.get(self.before.get("channelID"))
        if not recorded or self.declared or self.number in self.listing.doubtful_numbers:
            return
        holds = recorded.number == self.number and recorded.upstream_state != "disabled"
        if holds and self.status.get("channelID") != recorded.channel_id:
            yield "the recorded channel is listed and on, and it lets it go"

    def _verdict(self) -> Iterator[str]:
        if self.status["state"] != "Unknown":
            demanded = judged(self.status["state"], active=self.object.spec.active)[:3]
            if (*words(self.status), "action" in self.status) != demanded:
                yield "Ready or the action does not fit the state"


def robbed(write: Write) -> Iterator[str]:
    """Yield who was asked for nothing yet, and has on record what another takes."""
    for other in write.process.store.all_channels():
        asked = other.account_key in write.process.got
        if other.status.channel_id != write.status.get("channelID") or asked:
            continue
        if other.status.account != other.spec.account_ref.name:
            continue
        if write.process.hears_now(CH, other.metadata.key):
            continue
        if other.metadata.seniority < write.before.metadata.seniority:
            yield f"it takes what the older {other.metadata.name} has on record"


def says_the_same(before: Any, status: Any) -> bool:
    """Return whether it only goes on: an outage keeps what was, and waiting may become Stalled."""
    told = [
        (each.get("observedGeneration"), [each.get(name) for name in DETAILS], words(each))
        for each in (before, status)
    ]
    return told[0] == told[1]


def words(status: Any) -> Any:
    """Return Ready's status and reason."""
    ready = condition(status, "Ready") if "conditions" in status else None
    return ready and (ready["status"], ready["reason"])


def missing_once(got: list[Any]) -> frozenset[str]:
    """Return the ids that only the last listing lacks."""
    earlier = got[-2].ids if len(got) > 1 else got[0].recorded
    return frozenset(earlier - got[-1].ids)


# What is demanded at the end.


def on_record(body: Any) -> str | None:
    """Return the channel id that an object's status has from the account it refers to now."""
    here = body["status"].get("account") == body["spec"]["accountRef"]["name"]
    return body["status"].get("channelID") if here else None


class Oracle:
    """What each status must be, from the objects and Wazzup's rows alone."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.channels = world.server.objects[CH]
        self.accounts = world.server.objects[AC]
        self.finds = {key: self._find(body) for key, body in self.channels.items()}

    @staticmethod
    def paused(body: Any) -> bool:
        return body["metadata"]["annotations"].get("wazzup.dev/paused") == "true"

    @staticmethod
    def account_key(body: Any) -> tuple[str, str]:
        return body["metadata"]["namespace"], body["spec"]["accountRef"]["name"]

    @staticmethod
    def seniority(body: Any) -> Any:
        metadata = body["metadata"]
        return "deletionTimestamp" in metadata, metadata["creationTimestamp"], metadata["uid"]

    def rows(self, key: tuple[str, str]) -> dict[str, Any]:
        """Return the rows of an account that objects can declare."""
        secret = self.accounts[key]["spec"]["apiKeySecretRef"]["name"]
        rows = self.world.listed_rows(secret).items()
        return {id_: row for id_, row in rows if row["transport"] in {"whatsapp", "wapi"}}

    def rivals(self, body: Any) -> list[Any]:
        """Return the objects of its account with its number, itself included."""
        spec = body["spec"]
        return [
            other
            for other in self.channels.values()
            if self.account_key(other) == self.account_key(body)
            and other["spec"]["phoneNumber"] == spec["phoneNumber"]
            and other["spec"]["transport"] == spec["transport"]
        ]

    def _find(self, body: Any) -> Any:
        """Return the row that is its channel, or the reason why there is none."""
        account = self.accounts.get(self.account_key(body))
        if self.paused(body) or (account and self.paused(account)):
            return "Paused"
        if account is None:
            return "AccountNotFound"
        if min(self.rivals(body), key=self.seniority) is not body:
            return "DuplicatePhoneNumber"
        spec, rows = body["spec"], self.rows(self.account_key(body))
        recorded = on_record(body)
        if declared := spec.get("channelID"):
            row = rows.get(declared)
            if row is None:
                return "NotAdded"
            fits = number_of(row) in {None, spec["phoneNumber"]}
            return row if fits and row["transport"] == spec["transport"] else "ChannelMismatch"
        own = [
            row
            for id_, row in rows.items()
            if (row["transport"], number_of(row)) == (spec["transport"], spec["phoneNumber"])
            or (number_of(row) is None and id_ == recorded)
        ]
        on = [row for row in own if row["state"] != "disabled"]
        for row in on:
            if row["channelId"] == recorded:
                return row
        if len(on) == 1 or len(own) == 1:
            return (on if len(on) == 1 else own)[0]
        return "AmbiguousChannel" if own else "NotAdded"

    def claims(self, key: tuple[str, str]) -> str | None:
        """Return the id of the channel that an object wants or, out of sight, has on record."""
        find = self.finds[key]
        if isinstance(find, dict):
            return str(find["channelId"])
        if find in {"Paused", "AccountNotFound"}:
            return on_record(self.channels[key])
        return None

    def outcome(self, key: tuple[str, str]) -> Any:
        """Return the row that the object gets, or the reason why it gets none."""
        find, body = self.finds[key], self.channels[key]
        if not isinstance(find, dict):
            return find
        wanting = [other for other in self.channels if self.claims(other) == find["channelId"]]
        winner = min((self.channels[other] for other in wanting), key=self.seniority)
        return find if winner is body else "DuplicatePhoneNumber"

    def verdict(self, key: tuple[str, str]) -> Any:
        """Return the details and Ready, the action and the progress that the status must have."""
        body, outcome = self.channels[key], self.outcome(key)
        status, active = body["status"], body["spec"]["active"]
        old = {name: status.get(name) for name in DETAILS}
        unknown = {**dict.fromkeys(DETAILS), "state": "Unknown"}
        waiting = {"Reconciling", "Stalled"}
        if outcome == "Paused":
            return old, ("Unknown", outcome), False, set()
        if outcome == "AccountNotFound":
            kept = {name: old[name] for name in ("channelID", "plainID")}
            return {**unknown, **kept}, ("Unknown", outcome), False, waiting
        if outcome == "DuplicatePhoneNumber":
            replaces = body["metadata"]["annotations"].get("wazzup.dev/replaces")
            return unknown, ("False", outcome), True, waiting if replaces else {"Stalled"}
        if isinstance(outcome, str) and outcome in FINAL:
            return unknown, ("False", outcome), True, {"Stalled"}
        state = outcome if outcome == "NotAdded" else meant(outcome["state"])
        ready, reason, acts, may_be = judged(state, active=active)
        details = {**dict.fromkeys(DETAILS), "state": state}
        if isinstance(outcome, dict):
            details |= {
                "upstreamState": outcome["state"],
                "channelID": outcome["channelId"],
                "plainID": outcome["plainId"],
                "displayName": outcome.get("name"),
            }
        return details, (ready, reason), acts, may_be

    def unmanaged(self, key: tuple[str, str]) -> set[str]:
        """Return the ids of an account's rows that nobody declares."""
        mine = [each for each in self.channels.values() if self.account_key(each) == key]
        numbers = {(each["spec"]["transport"], each["spec"]["phoneNumber"]) for each in mine}
        others = [other for other, body in self.channels.items() if body not in mine]
        claimed = {self.claims(other) for other in others}
        held = {
            each["status"].get("channelID")
            for each in mine
            if "deletionTimestamp" not in each["metadata"]
        }
        return {
            id_
            for id_, row in self.rows(key).items()
            if (row["transport"], number_of(row)) not in numbers and id_ not in claimed | held
        }


def check(world: World, *, settled: bool) -> None:
    """Compare everything stored with what is demanded; `settled`: long after the last news."""
    world.inspect()
    oracle = Oracle(world)
    for table, plural in ((world.process.store.channels, CH), (world.process.store.accounts, AC)):
        known = {key: each.metadata.resource_version for key, each in table.objects.items()}
        stored = {
            key: each["metadata"]["resourceVersion"]
            for key, each in world.server.objects[plural].items()
        }
        assert known == stored, "the Store is not what the API server holds"
    for key, body in oracle.channels.items():
        if "deletionTimestamp" not in body["metadata"]:
            check_channel(world, oracle, key, body)
    for key, body in oracle.accounts.items():
        check_account(world, oracle, key, body, settled=settled)
    held = [
        body["status"].get("channelID")
        for key, body in oracle.channels.items()
        if isinstance(oracle.finds[key], dict) and "deletionTimestamp" not in body["metadata"]
    ]
    assert len(set(held) - {None}) == len(held) - held.count(None), "two objects hold one channel"


def check_channel(world: World, oracle: Oracle, key: Any, body: Any) -> None:
    details, ready, acts, may_be = oracle.verdict(key)
    status, generation = body["status"], body["metadata"]["generation"]
    assert status["observedGeneration"] == generation, (key, status)
    assert status["account"] == body["spec"]["accountRef"]["name"], (key, status)
    assert {each["observedGeneration"] for each in status["conditions"]} == {generation}
    assert {name: status.get(name) for name in DETAILS} == details, (key, status)
    is_ = condition(status, "Ready")
    assert (is_["status"], is_["reason"]) == ready, (key, status)
    assert ("action" in status) == acts, (key, status)
    assert all(each["message"] for each in status["conditions"])
    synced = condition(status, "Synced")
    expected = {"Paused": ("Unknown", "Paused"), "AccountNotFound": ("False", "AccountNotFound")}
    assert (synced["status"], synced["reason"]) == expected.get(ready[1], ("True", "UpToDate"))
    assert len(progress(status)) == bool(may_be), (key, status)
    assert progress(status) <= may_be, (key, status)
    if reconciling := condition(status, "Reconciling"):
        since = datetime.fromisoformat(reconciling["lastTransitionTime"])
        assert world.process.clock() - since < DEADLINE + timedelta(seconds=1), (
            "it waits for too long"
        )
    outcome, declared = oracle.outcome(key), body["spec"].get("displayName")
    observed = outcome.get("name") if isinstance(outcome, dict) else None
    drift = {
        (each["field"], each["declared"], each["observed"]) for each in status.get("drift", [])
    }
    if ready[1] not in {"Paused", "AccountNotFound"}:
        differs = declared and observed and declared != observed
        assert drift == ({("displayName", declared, observed)} if differs else set())


def check_account(world: World, oracle: Oracle, key: Any, body: Any, *, settled: bool) -> None:
    status, ready = body["status"], condition(body["status"], "Ready")
    assert status["observedGeneration"] == body["metadata"]["generation"], (key, status)
    if oracle.paused(body):
        assert (ready["status"], ready["reason"]) == ("Unknown", "Paused")
        return
    assert (ready["status"], ready["reason"]) == ("True", "UpToDate"), (key, status)
    assert not progress(status)
    mine = [
        each["status"]
        for each in oracle.channels.values()
        if oracle.account_key(each) == key and "deletionTimestamp" not in each["metadata"]
    ]
    are_ready = sum(condition(each, "Ready")["status"] == "True" for each in mine)
    observed = len(oracle.rows(key))
    counts = {"declared": len(mine), "observed": observed, "ready": are_ready}
    assert status["channels"] == counts, (key, status)
    assert "lastSyncTime" in status
    if settled:
        unmanaged = {each["channelID"] for each in status.get("unmanaged", [])}
        assert unmanaged == oracle.unmanaged(key), (key, status)


def check_quiet(world: World, *, settled: bool) -> None:
    """Have everything listed and planned once more: nothing is left to be written."""
    written = len(world.writes)

    def wake() -> None:
        for key in world.process.store.account_keys():
            world.process.reconciler.wake(key, True)

    world.loop.call_soon(wake)
    world.do(("wait", 10))
    for write in world.writes[written:]:
        resource = CHANNELS if write.plural == CH else ACCOUNTS
        before = resource.status_json(write.before.status)
        if not settled and write.plural == AC:
            continue
        differs = {
            name
            for name in before.keys() | write.status.keys()
            if before.get(name) != write.status.get(name)
        }
        overdue = condition(write.status, "Stalled") and not condition(before, "Stalled")
        may_differ = {"lastSyncTime", "conditions"} if overdue else {"lastSyncTime"}
        assert differs <= may_differ, f"it is not quiet: {write}"


def live(world: World, steps: list[Any]) -> None:
    for name, *rest in steps:
        more = rest.pop() if rest and isinstance(rest[-1], dict) else {}
        world.do((name, *rest), more)


def check_blind(world: World, reason: str) -> None:
    """Compare everything stored with what is demanded when Wazzup cannot be asked for long."""
    world.inspect()
    oracle = Oracle(world)
    for key, body in oracle.channels.items():
        find, status = oracle.finds[key], body["status"]
        if "deletionTimestamp" in body["metadata"]:
            continue
        assert status["observedGeneration"] == body["metadata"]["generation"], (key, status)
        outside = {"Paused": "Unknown", "AccountNotFound": "Unknown"}
        outside["DuplicatePhoneNumber"] = "False"
        told = find if isinstance(find, str) and find in outside else reason
        assert words(status) == (outside.get(told, "Unknown"), told), (key, status)
        if told != "Paused":
            assert status["state"] == "Unknown", (key, status)
        if told == reason:
            assert condition(status, "Synced")["status"] == "False"
    for key, body in oracle.accounts.items():
        expected = ("Unknown", "Paused") if oracle.paused(body) else ("False", reason)
        assert words(body["status"]) == expected, (key, body)


@contextmanager
def a_world(poll: str) -> Iterator[World]:
    """Have a world, and tell its story if something is wrong with it."""
    with World(poll, complaints) as world:
        try:
            yield world
        except AssertionError:
            note("\n".join(f"{at:10.1f}  {' '.join(map(str, what))}" for at, what in world.story))
            raise


@examples(2000)
@given(everything, afterwards)
def test_the_newest_facts_win(steps: Any, more_steps: Any) -> None:
    with a_world("1h") as world:
        live(world, steps)
        world.heal()
        world.do(("wait", 2 * 3600 + 900))
        check(world, settled=True)
        check_quiet(world, settled=True)
        live(world, more_steps)
        world.heal()
        world.do(("wait", 200))
        check(world, settled=False)
        check_quiet(world, settled=False)
        world.do(("wait", 1000))
        check(world, settled=False)  # now at the latest, waiting has become Stalled


@examples(250)
@given(steady, st.sampled_from(OUTAGES))
def test_what_nobody_can_see_is_unknown_and_comes_back(steps: Any, outage: Any) -> None:
    trouble, reason = outage
    with a_world("5m") as world:
        live(world, steps)
        world.heal()
        for key in (DEFAULT, SECOND, FAR):
            world.do(("trouble", key, trouble))
        world.do(("wait", 1500))
        check_blind(world, reason)
        check_quiet(world, settled=True)
        world.heal()
        world.do(("wait", 700))
        check(world, settled=True)
        check_quiet(world, settled=True)
