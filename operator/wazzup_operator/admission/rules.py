"""The rules of admission, in one table each for channels and accounts. Pure.

What is refused here for a changed field, the CRD's CEL rules refuse too, with the webhook off.
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
    """What a rule leads to."""

    DENY = "deny"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class ChannelReview:
    """What is asked about a WazzupChannel; `old` is None on CREATE.

    `replaces` is the annotation of that name, `holders` are the names of the other objects of the
    namespace that declare this transport and number, in whatever spelling, `account_exists`
    whether the account it refers to does, `state` what the channel was last seen in.
    """

    new: ChannelSpec
    old: ChannelSpec | None
    replaces: str | None
    holders: Sequence[str]
    account_exists: bool
    state: State


@dataclass(frozen=True, slots=True)
class AccountReview:
    """What is asked about a WazzupAccount; `min_poll_seconds` is the operator's own minimum."""

    new: AccountSpec
    min_poll_seconds: float


@dataclass(frozen=True, slots=True)
class Rule(Generic[R]):
    """One rule. `check` returns the sentence for whom it concerns, None for all others."""

    id: str
    action: ValidationAction
    summary: str
    check: Callable[[R], str | None]


_NEW_OBJECT = "create another WazzupChannel for the new one, and set spec.active to false here"


def _phone_number_changed(review: ChannelReview) -> str | None:
    if review.old is None or review.new.phone_number == review.old.phone_number:
        return None
    new, old = review.new.phone_number, review.old.phone_number
    if canonical(new) == canonical(old):
        # Another object would be refused: this one has the number.
        return (
            f"spec.phoneNumber cannot be changed from {old}: {new} is another spelling of the same"
            " number and says nothing new. Put the old one back."
        )
    return (
        f"spec.phoneNumber cannot be changed from {old}: a channel keeps its number for ever. To"
        f" use a new number, {_NEW_OBJECT} to stop using the old one."
    )


def _transport_changed(review: ChannelReview) -> str | None:
    if review.old is None or review.new.transport == review.old.transport:
        return None
    return f"spec.transport cannot be changed from {review.old.transport}: {_NEW_OBJECT}."


def _channel_id_changed(review: ChannelReview) -> str | None:
    if review.old is None or review.old.channel_id in {None, review.new.channel_id}:
        return None
    if review.new.account_ref != review.old.account_ref:
        return None  # an id belongs to an account
    return (
        "spec.channelID cannot be changed or taken away once it is set, unless spec.accountRef"
        f" changes too; it is {review.old.channel_id}. Put it back, or delete this object and"
        " create it anew: deleting it deletes nothing in Wazzup."
    )


def _readings(number: str) -> Iterator[phonenumbers.PhoneNumber]:
    for spelling in spellings(number):
        try:
            parsed = phonenumbers.parse(f"+{spelling}")
        except phonenumbers.NumberParseException:
            continue
        # The parser forgives a prefix for calls within the country, as in +44 07...
        if phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)[1:] == spelling:
            yield parsed


def _impossible(number: str) -> bool:
    if has_former_length(number):
        return False
    possible = phonenumbers.ValidationResult.IS_POSSIBLE  # and not without an area code only
    return all(
        phonenumbers.is_possible_number_with_reason(each) != possible for each in _readings(number)
    )


def _number_impossible(review: ChannelReview) -> str | None:
    if review.old is not None or not _impossible(review.new.phone_number):
        return None
    return (
        f"{review.new.phone_number} cannot be a phone number: no country has numbers that begin"
        " like this and are as long. Check the country code and count the digits."
    )


def _number_taken(review: ChannelReview) -> str | None:
    others = [name for name in review.holders if name != review.replaces]
    if review.old is not None or not others:
        return None
    holder = others[0]
    if len(review.holders) > 1:
        # The annotation names one: with any of them in it, another one would be in the way.
        names = ", ".join(f'"{name}"' for name in review.holders)
        return (
            f"The WazzupChannels {names} of this namespace declare {review.new.phone_number}, and"
            " one phone number is one channel. Delete all of them but one first, which deletes"
            " nothing in Wazzup; then change that one instead, or annotate this one with"
            f" {REPLACES} and its name."
        )
    return (
        f'The WazzupChannel "{holder}" of this namespace declares {review.new.phone_number}, and'
        " one phone number is one channel. Change that object instead; or, if this one is to"
        f' take its place, annotate this one with {REPLACES}: "{holder}" and delete that one'
        " afterwards."
    )


def _number_doubtful(review: ChannelReview) -> str | None:
    number = review.new.phone_number
    if review.old is not None or _impossible(number):
        return None
    if any(phonenumbers.is_valid_number(each) for each in _readings(number)):
        return None
    if has_former_length(number):
        return (
            f"{number} is as long as this country's numbers were before they got more digits. If"
            " Wazzup shows it in its present form, create the object with that one instead: the"
            " number of an object cannot be changed."
        )
    return f"{number} has the right length, but no phone company is known to give out such numbers."


def _account_missing(review: ChannelReview) -> str | None:
    if review.account_exists:
        return None
    name = review.new.account_ref.name
    return (
        f'There is no WazzupAccount "{name}" in this namespace yet; until there is, nothing can be'
        " told of this channel."
    )


def _active_switched(review: ChannelReview) -> str | None:
    if review.old is None or review.new.active == review.old.active:
        return None
    if judge(review.state, active=review.new.active).ready:
        return None
    done = "enable" if review.new.active else "turn off"
    return f"The operator cannot switch channels: a person has to {done} this one in Wazzup."


def _renamed(review: ChannelReview) -> str | None:
    name = review.new.display_name
    if review.old is None or name in {None, review.old.display_name}:
        return None
    return (
        f'The operator cannot rename channels: a person has to name this one "{name}" in Wazzup;'
        " until then status.drift shows the difference."
    )


CHANNEL_RULES: tuple[Rule[ChannelReview], ...] = (
    Rule(
        "phone-number-changed",
        ValidationAction.DENY,
        "spec.phoneNumber of an existing object is changed.",
        _phone_number_changed,
    ),
    Rule(
        "transport-changed",
        ValidationAction.DENY,
        "spec.transport of an existing object is changed.",
        _transport_changed,
    ),
    Rule(
        "channel-id-changed",
        ValidationAction.DENY,
        "spec.channelID is changed or taken away after it was set, and spec.accountRef is not"
        " changed.",
        _channel_id_changed,
    ),
    Rule(
        "number-impossible",
        ValidationAction.DENY,
        "A new object's number cannot exist, in any of the spellings Wazzup uses for it.",
        _number_impossible,
    ),
    Rule(
        "number-taken",
        ValidationAction.DENY,
        "A new object declares a number that another object of the namespace declares with the"
        f" same transport, in any spelling, and is not annotated `{REPLACES}` with its name.",
        _number_taken,
    ),
    Rule(
        "number-doubtful",
        ValidationAction.WARN,
        "A new object's number is possible, but in no range that is given out; or it has the length"
        " that numbers of Ivory Coast and Benin had until 2021 and 2024.",
        _number_doubtful,
    ),
    Rule(
        "account-missing",
        ValidationAction.WARN,
        "The account that the object refers to does not exist yet.",
        _account_missing,
    ),
    Rule(
        "active-switched",
        ValidationAction.WARN,
        "spec.active is switched, which a person has to carry out in Wazzup; not if the channel's"
        " state is as declared already.",
        _active_switched,
    ),
    Rule(
        "renamed",
        ValidationAction.WARN,
        "spec.displayName is changed, which a person has to carry out in Wazzup.",
        _renamed,
    ),
)


def _poll_interval_short(review: AccountReview) -> str | None:
    if review.new.poll_seconds >= review.min_poll_seconds:
        return None
    return (
        f"spec.pollInterval {review.new.poll_interval} is below this operator's minimum of"
        f" {review.min_poll_seconds:g}s, which is used instead."
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
class Judgement:
    """What all rules together say: sentences by the rule's id, in the table's order."""

    denials: dict[str, str]
    warnings: dict[str, str]


def judge_channel(review: ChannelReview) -> Judgement:
    """Apply every rule for channels. An update that leaves the spec alone is not to come here."""
    return _evaluate(CHANNEL_RULES, review)


def judge_account(review: AccountReview) -> Judgement:
    """Apply every rule for accounts. An update that leaves the spec alone is not to come here."""
    return _evaluate(ACCOUNT_RULES, review)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""With one of these in it, the API server drops a warning without a word."""


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()


def _evaluate(rules: Sequence[Rule[R]], review: R) -> Judgement:
    said: dict[ValidationAction, dict[str, str]] = {each: {} for each in ValidationAction}
    for rule in rules:
        if sentence := rule.check(review):
            said[rule.action][rule.id] = _CONTROL.sub(_escaped, sentence)
    return Judgement(said[ValidationAction.DENY], said[ValidationAction.WARN])
