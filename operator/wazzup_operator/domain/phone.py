"""Phone numbers: how Wazzup spells them, and how they are hidden."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Alias:
    """Two spellings of one number: how the longer becomes the shorter, and the reverse."""

    longer: re.Pattern[str]
    shorten: str
    shorter: re.Pattern[str]
    lengthen: str


_ALIASES = {
    # Mexico: WhatsApp keeps the mobile 1 that the numbering plan dropped in 2019.
    "52": _Alias(re.compile(r"^521(\d{10})$"), r"52\1", re.compile(r"^52(\d{10})$"), r"521\1"),
    # Argentina: the mobile 9 is dialled from abroad only.
    "54": _Alias(re.compile(r"^549(\d{10})$"), r"54\1", re.compile(r"^54(\d{10})$"), r"549\1"),
    # Brazil: the ninth digit put before mobile numbers, which begin with 6 to 9; land lines begin
    # with 2 to 5, so that taking it away never meets one.
    "55": _Alias(
        re.compile(r"^55(\d\d)9([6-9]\d{7})$"),
        r"55\1\2",
        re.compile(r"^55(\d\d)([6-9]\d{7})$"),
        r"55\g<1>9\2",
    ),
}
_FORMER_LENGTHS = {
    # Digits after the country code until the whole country was renumbered: WhatsApp may go on
    # knowing a number as it was registered. Source: the regulators' notices in the ITU's
    # Operational Bulletin.
    "225": 8,  # Ivory Coast, 10 digits since 31 January 2021 (ARTCI)
    "229": 8,  # Benin, 10 digits since 30 November 2024 (ARCEP Benin)
}
_UUID_OR_NUMBER = re.compile(
    r"(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})|\+?[0-9]{8,}", re.IGNORECASE
)


def canonical(number: str) -> str:
    """Return one spelling, digits only, for all the spellings of a phone number.

    Takes E.164 ("+5214429253333") or Wazzup's plainId ("5214429253333"). Accounts in Mexico,
    Argentina and Brazil show numbers with or without a digit that E.164 lacks or has.
    """
    digits = number.removeprefix("+")
    if alias := _ALIASES.get(digits[:2]):
        return alias.longer.sub(alias.shorten, digits)
    return digits


def spellings(number: str) -> tuple[str, ...]:
    """Return every spelling, digits only, of which `canonical` makes one; that one comes first."""
    one = canonical(number)
    alias = _ALIASES.get(one[:2])
    longer = alias.shorter.sub(alias.lengthen, one) if alias else one
    return (one,) if longer == one else (one, longer)


def has_former_length(number: str) -> bool:
    """Return whether the number is as long as its country's were before they got more digits."""
    digits = number.removeprefix("+")
    return len(digits) - 3 == _FORMER_LENGTHS.get(digits[:3])


def mask(text: str) -> str:
    """Return the text with every number of 8 digits or more reduced to its last two.

    For logs and Events, where hiding an innocent number costs less than showing a phone's. UUIDs,
    the form of channel ids, stay whole.
    """
    return _UUID_OR_NUMBER.sub(
        lambda match: match.group() if match["uuid"] else "***" + match.group()[-2:], text
    )
