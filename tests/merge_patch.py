"""JSON merge patch (RFC 7386), as an API server applies it."""

from typing import Any


def merged(old: Any, patch: Any) -> Any:
    """Return a value with a patch applied."""
    if not isinstance(patch, dict):
        return patch
    new = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = merged(new.get(key), value)
    return new
