"""Clocks: wall clock for statuses, monotonic for waiting."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

log = logging.getLogger(__name__)

TOLERANCE = 2.0
"""Seconds; a smaller difference is slewing, not a step, and is followed at once."""

FOLLOW_AFTER = 600.0
"""Seconds that a step of the machine's clock must last before it is followed."""


class SteadyClock:
    """Returns the time in UTC, in whole seconds, and ignores short steps of the machine's clock.

    The progress deadline counts from a time in the object's status. A clock set forward by mistake
    would make every Reconciling object Stalled, and it would stay so.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset = wall() - monotonic()
        self._stepped_at: float | None = None

    def __call__(self) -> datetime:
        """Return the current time."""
        elapsed = self._monotonic()
        offset = self._wall() - elapsed
        step = offset - self._offset
        if abs(step) <= TOLERANCE:
            self._offset, self._stepped_at = offset, None
        elif self._stepped_at is None:
            self._stepped_at = elapsed
            log.warning(
                "the machine's clock stepped by %+.0f s; statuses follow if it stays so for %d min",
                step,
                FOLLOW_AFTER // 60,
            )
        elif elapsed - self._stepped_at >= FOLLOW_AFTER:
            self._offset, self._stepped_at = offset, None
        return datetime.fromtimestamp(elapsed + self._offset, UTC).replace(microsecond=0)


def loop_time() -> float:
    """Return the event loop's time, in monotonic seconds."""
    return asyncio.get_running_loop().time()
