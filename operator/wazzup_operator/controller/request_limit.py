"""Limits requested listings, so that one namespace cannot starve the others."""

RATE = 10.0
"""Requested listings per second of one namespace."""

BURST = 50
"""How many of them may come at once after a quiet time."""


class RequestLimit:
    """Gives each requested listing a turn; a token bucket per namespace."""

    def __init__(self) -> None:
        self._full_at: dict[str, float] = {}
        """When the bucket of a namespace is full again; others are full."""

    def turn(self, namespace: str, now: float) -> float:
        """Take a turn, and return when it comes."""
        self._full_at = {each: at for each, at in self._full_at.items() if at > now}
        full_at = self._full_at.get(namespace, now) + 1 / RATE
        self._full_at[namespace] = full_at
        return max(now, full_at - BURST / RATE)
