"""The admission rules: a table for channels, a table for accounts. Pure.

The rules about changed fields are in the CRD as CEL too, so they hold without the webhook.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

import phonenumbers

from wazzup_operator.domain.phone import canonical, has_former_length, spellings
from wazzup_operator.domain.states import State, judge
from wazzup_operator.resources.account import AccountSpec
from wazzup_operator.resources.base import REPLACES
from wazzup_operator.resources.channel import ChannelSpec

R = TypeVar("R")


class ValidationAction(StrEnum):
    """What the webhook does when a rule applies."""

    DENY = "deny"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class ChannelReview:
    """A WazzupChannel under review; `old` is None on CREATE.

    `replaces` is the annotation of that name. `state` is the last recorded one.
    """

    new: ChannelSpec
    old: ChannelSpec | None
    replaces: str | None
    state: State


@dataclass(frozen=True, slots=True)
class LookedUp:
    """The WazzupChannel under review, and what was looked up in the API server.

    `holders` are the names of the other objects in the namespace with this transport and number, in
    any spelling.
    """

    review: ChannelReview
    holders: Sequence[str]
    account_exists: bool


@dataclass(frozen=True, slots=True)
class AccountReview:
    """A WazzupAccount under review; `min_poll_seconds` is the operator's minimum."""

    new: AccountSpec
    min_poll_seconds: float


@dataclass(frozen=True, slots=True)
class Rule(Generic[R]):
    """One rule. `check` returns its sentence if the rule applies, else None."""

    id: str
    action: ValidationAction
    summary: str
    check: Callable[[R], str | None]


def _phone_number_changed(review: ChannelReview) -> str | None:
    if review.old is None or review.new.phone_number == review.old.phone_number:
        return None
    new, old = review.new.phone_number, review.old.phone_number
    if canonical(new) == canonical(old):
        # No advice to create another object: number-taken would refuse it.
        return (
            f"spec.phoneNumber cannot be changed from {old}: {new} is another spelling of the same"
            f" number. Put {old} back."
        )
    return (
        f"spec.phoneNumber cannot be changed from {old}. To use a new number, create another"
        " WazzupChannel with it and set spec.active to false in this one."
    )


def _transport_changed(review: ChannelReview) -> str | None:
    if review.old is None or review.new.transport == review.old.transport:
        return None
    return (
        f"spec.transport cannot be changed from {review.old.transport}. Create another"
        f" WazzupChannel with {review.new.transport}, and set spec.active to false in this one."
    )


def _channel_id_changed(review: ChannelReview) -> str | None:
    if review.old is None or review.old.channel_id in {None, review.new.channel_id}:
        return None
    if review.new.account_ref != review.old.account_ref:
        return None  # an id belongs to an account
    return (
        f"spec.channelID cannot be changed from {review.old.channel_id} or removed unless"
        " spec.accountRef changes in the same edit. Put it back, or recreate this object (this"
        " deletes nothing in Wazzup); if you changed spec.accountRef before, change it back, then"
        " change both in one edit."
    )


def _readings(number: str) -> Iterator[phonenumbers.PhoneNumber]:
    for spelling in spellings(number):
        try:
            parsed = phonenumbers.parse(f"+{spelling}")
        except phonenumbers.NumberParseException:
            continue
        # The parser accepts a national prefix, as in +44 07..., and drops it.
        if phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)[1:] == spelling:
            yield parsed


def _impossible(number: str) -> bool:
    if has_former_length(number):
        return False
    possible = phonenumbers.ValidationResult.IS_POSSIBLE  # excludes IS_POSSIBLE_LOCAL_ONLY
    return all(
        phonenumbers.is_possible_number_with_reason(each) != possible for each in _readings(number)
    )


def _number_impossible(review: ChannelReview) -> str | None:
    if review.old is not None or not _impossible(review.new.phone_number):
        return None
    return (
        f"{review.new.phone_number} cannot be a phone number: no country has numbers with this"
        " prefix and length. Check the country code and count the digits."
    )


def _number_taken(found: LookedUp) -> str | None:
    review = found.review
    others = [name for name in found.holders if name != review.replaces]
    if review.old is not None or not others:
        return None
    number = review.new.phone_number
    if len(found.holders) > 1:
        # The annotation names one object only, so it cannot help while there are several.
        names = ", ".join(f'"{name}"' for name in found.holders)
        return (
            f"{number} is already declared by the WazzupChannels {names} in this namespace. Delete"
            " all but one of them (this deletes nothing in Wazzup); then change the remaining one,"
            f" or annotate this object with {REPLACES} and the remaining one's name."
        )
    holder = others[0]
    return (
        f'{number} is already declared by the WazzupChannel "{holder}" in this namespace. Change'
        f' that object, or, to replace it, annotate this one with {REPLACES}: "{holder}" and'
        f' delete "{holder}" afterwards.'
    )


def _number_unassigned(review: ChannelReview) -> str | None:
    number = review.new.phone_number
    if review.old is not None or _impossible(number):
        return None
    if any(phonenumbers.is_valid_number(each) for each in _readings(number)):
        return None
    if has_former_length(number):
        return (
            f"{number} has the length that numbers of its country used to have. If Wazzup shows a"
            " longer one, use that instead: spec.phoneNumber cannot be changed later."
        )
    return f"{number} is in no range of numbers that is known to be assigned. Check the digits."


def _account_missing(found: LookedUp) -> str | None:
    if found.account_exists:
        return None
    name = found.review.new.account_ref.name
    return (
        f'The WazzupAccount "{name}" does not exist in this namespace. Create it; until then, the'
        " state of this channel is unknown."
    )


def _active_switched(review: ChannelReview) -> str | None:
    if review.old is None or review.new.active == review.old.active:
        return None
    if judge(review.state, active=review.new.active).ready:
        return None
    action = "Enable this one" if review.new.active else "Turn this one off"
    return f"The operator cannot switch channels on or off. {action} in Wazzup."


def _renamed(review: ChannelReview) -> str | None:
    name = review.new.display_name
    if review.old is None or name in {None, review.old.display_name}:
        return None
    return (
        f'The operator cannot rename channels. Rename this one to "{name}" in Wazzup; until then,'
        " status.drift shows the difference."
    )


CHANNEL_RULES: tuple[Rule[ChannelReview], ...] = (
    Rule(
        "phone-number-changed",
        ValidationAction.DENY,
        "spec.phoneNumber of an existing object changes.",
        _phone_number_changed,
    ),
    Rule(
        "transport-changed",
        ValidationAction.DENY,
        "spec.transport of an existing object changes.",
        _transport_changed,
    ),
    Rule(
        "channel-id-changed",
        ValidationAction.DENY,
        "spec.channelID, once set, changes or is removed while spec.accountRef stays the same.",
        _channel_id_changed,
    ),
    Rule(
        "number-impossible",
        ValidationAction.DENY,
        "A new object's number cannot exist, in any of the spellings Wazzup uses for it.",
        _number_impossible,
    ),
    Rule(
        "number-unassigned",
        ValidationAction.WARN,
        "A new object's number is possible, but in no assigned range; or it has the length that"
        " numbers had in Ivory Coast until 2021 or in Benin until 2024.",
        _number_unassigned,
    ),
    Rule(
        "active-switched",
        ValidationAction.WARN,
        "spec.active changes and the channel's state does not match it yet: a person has to switch"
        " the channel in Wazzup.",
        _active_switched,
    ),
    Rule(
        "renamed",
        ValidationAction.WARN,
        "spec.displayName changes: a person has to rename the channel in Wazzup.",
        _renamed,
    ),
)
"""The rules that need nothing but the review."""

LOOKUP_RULES: tuple[Rule[LookedUp], ...] = (
    Rule(
        "number-taken",
        ValidationAction.DENY,
        "A new object's number, in any spelling, and transport are declared by another object in"
        f" the namespace already, and the new one is not annotated `{REPLACES}` with its name.",
        _number_taken,
    ),
    Rule(
        "account-missing",
        ValidationAction.WARN,
        "The account that the object refers to does not exist yet.",
        _account_missing,
    ),
)


def _poll_interval_short(review: AccountReview) -> str | None:
    if review.new.poll_seconds >= review.min_poll_seconds:
        return None
    return (
        f"spec.pollInterval {review.new.poll_interval} is below this operator's minimum of"
        f" {review.min_poll_seconds:g}s. The operator uses the minimum instead."
    )


ACCOUNT_RULES: tuple[Rule[AccountReview], ...] = (
    Rule(
        "poll-interval-short",
        ValidationAction.WARN,
        "spec.pollInterval is below the operator's `--min-poll-interval`.",
        _poll_interval_short,
    ),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The sentences of all rules that apply, by the rule's id, in the table's order."""

    denials: dict[str, str]
    warnings: dict[str, str]

    def __or__(self, other: "Outcome") -> "Outcome":
        """Return the sentences of both."""
        return Outcome(self.denials | other.denials, self.warnings | other.warnings)


def evaluate_channel(review: ChannelReview) -> Outcome:
    """Apply the rules for channels that need no lookup.

    Skip this if an update leaves the spec unchanged.
    """
    return _evaluate(CHANNEL_RULES, review)


def evaluate_lookups(found: LookedUp) -> Outcome:
    """Apply the rules for channels that need lookups."""
    return _evaluate(LOOKUP_RULES, found)


def evaluate_account(review: AccountReview) -> Outcome:
    """Apply every rule for accounts. Skip this if an update leaves the spec unchanged."""
    return _evaluate(ACCOUNT_RULES, review)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""The API server silently drops a warning that contains one of these."""


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()


def _evaluate(rules: Sequence[Rule[R]], review: R) -> Outcome:
    sentences: dict[ValidationAction, dict[str, str]] = {each: {} for each in ValidationAction}
    for rule in rules:
        if sentence := rule.check(review):
            sentences[rule.action][rule.id] = _CONTROL.sub(_escaped, sentence)
    return Outcome(sentences[ValidationAction.DENY], sentences[ValidationAction.WARN])
