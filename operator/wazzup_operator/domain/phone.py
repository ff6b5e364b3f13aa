"""Spellings of phone numbers."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Alias:
    """Two spellings of one number, and how to turn each into the other."""

    longer: re.Pattern[str]
    shorten: str
    shorter: re.Pattern[str]
    lengthen: str


_ALIASES = {
    # Mexico: WhatsApp keeps the mobile 1 that the numbering plan dropped in 2019.
    "52": _Alias(re.compile(r"^521(\d{10})$"), r"52\1", re.compile(r"^52(\d{10})$"), r"521\1"),
    # Argentina: the mobile 9 is dialled from abroad only.
    "54": _Alias(re.compile(r"^549(\d{10})$"), r"54\1", re.compile(r"^54(\d{10})$"), r"549\1"),
    # Brazil: mobile numbers, which start with 6 to 9, got a leading 9. Land lines start with 2 to
    # 5, so dropping the 9 never yields one.
    "55": _Alias(
        re.compile(r"^55(\d\d)9([6-9]\d{7})$"),
        r"55\1\2",
        re.compile(r"^55(\d\d)([6-9]\d{7})$"),
        r"55\g<1>9\2",
    ),
}
_FORMER_LENGTHS = {
    # Digits after the country code before the country's numbers grew. WhatsApp may still know a
    # number as it was registered. Source: the regulators' notices in the ITU's Operational
    # Bulletin.
    "225": 8,  # Ivory Coast, 10 digits since 31 January 2021 (ARTCI)
    "229": 8,  # Benin, 10 digits since 30 November 2024 (ARCEP Benin)
}


def canonical(number: str) -> str:
    """Return the same spelling, digits only, for all spellings of a phone number.

    Takes E.164 ("+5214429253333") or Wazzup's plainId ("5214429253333"). For Mexico, Argentina and
    Brazil, a plainId may have one digit more or less than E.164.
    """
    digits = number.removeprefix("+")
    if alias := _ALIASES.get(digits[:2]):
        return alias.longer.sub(alias.shorten, digits)
    return digits


def spellings(number: str) -> tuple[str, ...]:
    """Return all spellings of a number, digits only, the canonical one first."""
    one = canonical(number)
    alias = _ALIASES.get(one[:2])
    longer = alias.shorter.sub(alias.lengthen, one) if alias else one
    return (one,) if longer == one else (one, longer)


def has_former_length(number: str) -> bool:
    """Return whether the number has the length from before its country added digits."""
    digits = number.removeprefix("+")
    return len(digits) - 3 == _FORMER_LENGTHS.get(digits[:3])
