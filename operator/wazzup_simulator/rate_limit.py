"""Rate limit ("Common errors"): 500 requests per window of 5 seconds.

The page does not say whether this is per key or per account; here it is per key.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

LIMIT = 500
WINDOW = 5.0


@dataclass
class _Window:
    started: float
    count: int = 0


class RateLimit:
    """One window per key. The first request after a window has ended starts the next."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def exceeded(self, key: str) -> bool:
        """Count a request and return whether it exceeds the limit."""
        now = self._clock()
        window = self._windows.get(key)
        if window is None or now - window.started >= WINDOW:
            window = self._windows[key] = _Window(now)
        window.count += 1
        return window.count > LIMIT
