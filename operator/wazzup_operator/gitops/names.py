"""Names of new objects, from the names of their channels. Pure."""

import re
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

_LONGEST = 50
"""Characters of a name before a number is added, so that it fits into a label."""

_SHOWN_DIGITS = 4
"""How much of a phone number a name may show."""


class Called(NamedTuple):
    """A channel's name in Wazzup, if it has one, its transport and its number, digits only."""

    name: str | None
    transport: str
    number: str


def names(channels: Sequence[Called], taken: Container[str]) -> list[str]:
    """Return a DNS-1123 label for each channel, all different and none of them taken.

    The name in Wazzup, transliterated, else the transport and the number's last four digits, which
    also tell channels of one name apart.
    """
    words = [_word(each) for each in channels]
    count = Counter(words)
    used: set[str] = set()
    found = []
    for channel, word in zip(channels, words, strict=True):
        alone = count[word] == 1
        for name in _candidates(word, channel, alone=alone):
            if name not in used and name not in taken:
                used.add(name)
                found.append(name)
                break
    return found


def _candidates(word: str, channel: Called, *, alone: bool) -> Iterator[str]:
    digits = channel.number[-_SHOWN_DIGITS:]
    if word and alone:
        yield word
    # Digits that the name has already may be the number's.
    base = f"{re.sub(r'[0-9]+', '', word) or channel.transport}-{digits}"
    base = re.sub("-+", "-", base).lstrip("-")
    yield base
    for count in range(2, 1_000_000):
        yield f"{base}-{_letters(count)}"


def _letters(count: int) -> str:
    """Count in letters, because digits would look like the number's."""
    text = ""
    while count:
        count, rest = divmod(count - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def _word(channel: Called) -> str:
    """Return the name as lower-case ASCII words, without digits that may be the number's."""
    from anyascii import anyascii  # loads tables, so only where needed

    text = re.sub(r"[^a-z0-9]+", "-", anyascii(channel.name or "").lower())
    if sum(map(str.isdigit, text)) > _SHOWN_DIGITS:
        text = re.sub(r"[-0-9]*[0-9][-0-9]*", "-", text)
    return text.strip("-")[:_LONGEST].strip("-")
