"""API keys as people store them."""

import re

_AROUND = re.compile(
    "^[\\s\u00ad\u200b-\u200f\u2060\ufeff]+|[\\s\u00ad\u200b-\u200f\u2060\ufeff]+$"
)
"""White space and invisible characters around a key, as editors and copied text leave them."""


class NotAnApiKey(Exception):
    """A value cannot be an API key; the message says what to do."""


def clean(value: bytes, place: str) -> str:
    """Return the key without what surrounds it. Raises NotAnApiKey, which names `place`."""
    if b"\0" in value:
        raise NotAnApiKey(
            f"{place} is UTF-16 text, as PowerShell writes it. Store the API key as UTF-8 or ASCII."
        )
    key = _AROUND.sub("", value.decode(errors="replace"))
    if not key:
        raise NotAnApiKey(f"{place} is empty. Put the API key there.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise NotAnApiKey(
            f"{place} is not an API key: it contains a line break, a space or a non-ASCII"
            " character. Put only the API key there."
        )
    return key


def rejection(key: str) -> str:
    """Return a sentence about a key that Wazzup rejects, with what is odd about it."""
    if odd := next((each for each in ('"', "'", "${", "=") if each in key), None):
        return f"Wazzup rejects this API key (401), which contains {odd} and is probably not a key."
    return "Wazzup rejects this API key (401)."
