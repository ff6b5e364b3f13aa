"""The limit on requests ("Common errors"): 500 in 5 seconds, counted anew every 5 seconds.

The page does not say what it is counted for; here it is the key.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

LIMIT = 500
WINDOW = 5.0


@dataclass
class _Window:
    began: float
    count: int = 0


class RateLimit:
    """A window for each key, which begins with the first request after the last one's end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def exceeded(self, key: str) -> bool:
        """Count a request and tell whether it is one too many."""
        now = self._clock()
        window = self._windows.get(key)
        if window is None or now - window.began >= WINDOW:
            window = self._windows[key] = _Window(now)
        window.count += 1
        return window.count > LIMIT
