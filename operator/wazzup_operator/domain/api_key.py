"""API keys as people store them."""


class NotAnApiKey(Exception):
    """A value cannot be an API key; the message says what to do."""


def clean(value: bytes, place: str) -> str:
    """Return the key without the white space around it. Raises NotAnApiKey, which names `place`."""
    try:
        key = value.decode("ascii").strip()
    except UnicodeDecodeError:
        key = "\n"
    if not key:
        raise NotAnApiKey(f"{place} is empty. Put the API key there.")
    if not key.isprintable() or " " in key:
        raise NotAnApiKey(
            f"{place} is not an API key: it contains a line break, a space or a non-ASCII"
            " character. Put only the API key there."
        )
    return key
