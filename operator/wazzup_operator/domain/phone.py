"""Phone numbers: how Wazzup spells them, and how they are hidden."""

import re

_ALIASES = {
    # Mexico: WhatsApp keeps the mobile 1 that the numbering plan dropped in 2019.
    "52": (re.compile(r"^521(\d{10})$"), r"52\1"),
    # Argentina: the mobile 9 is dialled from abroad only.
    "54": (re.compile(r"^549(\d{10})$"), r"54\1"),
    # Brazil: the ninth digit put before mobile numbers, which begin with 6 to 9; land lines begin
    # with 2 to 5, so that taking it away never meets one.
    "55": (re.compile(r"^55(\d\d)9([6-9]\d{7})$"), r"55\1\2"),
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
        return alias[0].sub(alias[1], digits)
    return digits


def mask(text: str) -> str:
    """Return the text with every number of 8 digits or more reduced to its last two.

    For logs and Events, where hiding an innocent number costs less than showing a phone's. UUIDs,
    the form of channel ids, stay whole.
    """
    return _UUID_OR_NUMBER.sub(
        lambda match: match.group() if match["uuid"] else "***" + match.group()[-2:], text
    )
