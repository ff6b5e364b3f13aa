"""Checks each write when it is sent."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from tests.expected_states import carries_none, meant
from tests.unit.histories.demands import DETAILS, FRESH, TROUBLE, condition, judged, progress, words
from tests.unit.histories.process import AC, CH, Write
from tests.unit.histories.world import World
from wazzup_operator.resources.codec import ACCOUNTS, CHANNELS

UNLISTED = {*TROUBLE, "AccountNotFound", "Paused"}
RECORD = ("account", "channelID", "plainID")


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
    """Return whether its Reconciling, if any, started with this pass."""
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
    moved = before.get("account") not in {None, status["account"]}
    same = not moved or ("channelID" in status and before.get("channelID") == status["channelID"])
    since = [each.get("stateSince") for each in (before, status)]
    if same and before.get("state") == status["state"] and since[0] != since[1]:
        yield "the state did not change, and stateSince moved"
    if status["account"] != write.before.spec.account_ref.name:
        yield from record_complaints(before, status, reason)
        return
    if moved:  # nothing is known of it here
        if reason in UNLISTED:
            yield "it drops the other account's record without a listing of this one"
        before = {"observedGeneration": before["observedGeneration"]}
    if reason == "DuplicatePhoneNumber":
        if status["state"] != "Unknown" or "channelID" in status:
            yield "a duplicate keeps a channel"
    elif reason in UNLISTED:
        yield from outage_complaints(world, write, before, reason)
    elif not says_the_same(before, status):
        yield from Answer(write, before).complaints()


def record_complaints(before: Any, status: Any, reason: str) -> Iterator[str]:
    """Yield what is wrong with a status that keeps another account's record."""
    if reason not in {*UNLISTED, "Unknown"}:
        yield "it names another account although its own was listed"
    if any(before.get(name) != status.get(name) for name in RECORD):
        yield "it changes another account's record"
    if reason == "Paused":
        if any(before.get(name) not in {None, status.get(name)} for name in DETAILS):
            yield "a pause changes another account's record"
    elif status["state"] != "Unknown":
        yield "it reports another account's state"


def outage_complaints(world: World, write: Write, before: Any, reason: str) -> Iterator[str]:
    """Yield what a status changes although no listing arrived."""
    status = write.status
    if before.get("channelID") != status.get("channelID"):
        yield "trouble or a pause changes the channelID"
    if before.get("state") in {None, "Unknown"}:
        if status["state"] != "Unknown":
            yield "it reports a state that no listing of this account showed"
        return
    if reason == "Paused" or status["state"] != "Unknown":
        if any(before.get(name) != status.get(name) for name in DETAILS):
            yield "trouble or a pause changes what is known"
    elif reason in TROUBLE and not may_be_stale(world, write):
        yield "a state turns Unknown too early"


def may_be_stale(world: World, write: Write) -> bool:
    """Return whether the last listing is stale, or may be."""
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
    """A write that is based on a listing, and the listings of its process so far."""

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
        """Yield contradictions between the write and the listings."""
        if not self.got:
            yield "it comes from no listing"
            return
        self.listing = self.got[-1].listing
        self.missing = unconfirmed(self.got)
        self.unclear = self.missing.keys() | self.listing.ambiguous_ids
        yield from self._age()
        if self.declared and self.status.get("channelID") not in {None, self.declared}:
            yield "it reports another channel than the declared one"
        yield from self._absence()
        yield from self._row()
        yield from self._record()
        yield from self._verdict()

    def _age(self) -> Iterator[str]:
        account = self.process.store.accounts.objects.get(self.object.account_key)
        listed_for = self.got[-1].account_uid, self.got[-1].secret
        just_changed = self.process.received_now(AC, self.object.account_key)
        if not just_changed and (account is None or identity(account) != listed_for):
            yield "it comes from another account's listing"
        metadata = self.object.metadata
        received = self.process.first_received[metadata.uid, metadata.generation]
        is_new_spec = self.before["observedGeneration"] != metadata.generation
        if is_new_spec and self.got[-1].at < received - FRESH - 0.01:
            yield "a change is answered with an old listing"

    def _number_is_ambiguous(self) -> bool:
        """Return whether the number may have a channel that this listing lacks."""
        lacks = any(row and row.number == self.number for row in self.missing.values())
        return self.number in self.listing.ambiguous_numbers or (lacks and not self._succeeds())

    def _succeeds(self) -> bool:
        """Return whether it takes the only Active channel in place of one without messages."""
        rows = self.listing.channels
        recorded, taken = self.before.get("channelID"), self.status.get("channelID")
        active = {
            id_
            for id_, row in rows.items()
            if row.number == self.number and meant(row.upstream_state) == "Active"
        }
        if recorded is None or active != {taken}:
            return False
        return recorded not in rows or carries_none(rows[recorded].upstream_state)

    def _absence(self) -> Iterator[str]:
        channel_id, recorded = self.status.get("channelID"), self.before.get("channelID")
        if not self.declared and self._number_is_ambiguous() and channel_id not in {None, recorded}:
            yield "a number gets a channel while another of its channels is ambiguous"
        if self.status["state"] != "NotAdded":
            return
        listed = (row.number for row in self.listing.channels.values())
        if not self.declared and self.number in listed:
            yield "NotAdded, although it is listed"
        if self.before.get("state") == "NotAdded" and not self.declared:
            return  # it already was; an ambiguous listing keeps it
        if (self.declared or recorded) in self.unclear:
            yield "NotAdded after less than 60 s of listings without it, or an unclear one"
        if not self.declared and self._number_is_ambiguous():
            yield "NotAdded after less than 60 s without the number's channel, or an unclear one"

    def _row(self) -> Iterator[str]:
        if self.status["state"] in {"NotAdded", "Unknown"}:
            return
        yield from taken_from(self.write)
        row = self.listing.channels.get(self.status["channelID"])
        if row:
            shown = meant(row.upstream_state), row.upstream_state, row.name
            reported = [self.status.get(name) for name in ("state", "upstreamState", "displayName")]
            if reported != list(shown):
                yield f"the last listing shows {row}"
            return
        ambiguous = self.number in self.listing.ambiguous_numbers
        if self.status["channelID"] not in self.unclear and not ambiguous:
            yield "it keeps its state although the listing is clear"
        if any(self.before.get(name) != self.status.get(name) for name in DETAILS):
            yield "it does not keep its state although the listing is ambiguous"

    def _record(self) -> Iterator[str]:
        recorded = self.listing.channels.get(self.before.get("channelID"))
        if not recorded or self.declared or self.number in self.listing.ambiguous_numbers:
            return
        holds = recorded.number == self.number and recorded.upstream_state != "disabled"
        keeps = self.status.get("channelID") == recorded.channel_id
        if holds and not keeps and not self._succeeds():
            yield "the recorded channel is listed and on, and it is given up"

    def _verdict(self) -> Iterator[str]:
        if self.status["state"] != "Unknown":
            demanded = judged(self.status["state"], active=self.object.spec.active)[:3]
            if (*words(self.status), "action" in self.status) != demanded:
                yield "Ready or the action does not fit the state"


def taken_from(write: Write) -> Iterator[str]:
    """Yield objects without a pass so far whose recorded channel another object takes."""
    for other in write.process.store.all_channels():
        asked = other.account_key in write.process.got
        if other.status.channel_id != write.status.get("channelID") or asked:
            continue
        if other.status.account != other.spec.account_ref.name:
            continue
        if write.process.received_now(CH, other.metadata.key):
            continue
        if other.claim_order < write.before.claim_order:
            yield f"it takes what {other.metadata.name} has on record"


def says_the_same(before: Any, status: Any) -> bool:
    """Return whether nothing changed, except that Reconciling may have become Stalled."""
    reported = [
        (each.get("observedGeneration"), [each.get(name) for name in DETAILS], words(each))
        for each in (before, status)
    ]
    return reported[0] == reported[1]


def unconfirmed(got: list[Any]) -> dict[str, Any]:
    """Return the ids that all listings lack, but not for 60 s, with their last row."""
    known: dict[str, Any] = dict.fromkeys(got[0].recorded)
    since: dict[str, float] = {}
    for each in got:
        since = {id_: since.get(id_, each.at) for id_ in known.keys() - each.ids}
        known = {id_: row for id_, row in known.items() if each.at - since.get(id_, each.at) < 60}
        known |= {id_: each.listing.channels.get(id_) for id_ in each.ids}
    return {id_: known[id_] for id_ in since.keys() & known.keys()}
