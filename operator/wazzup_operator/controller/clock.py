"""The clocks of the controller: one for statuses, one for waiting."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

log = logging.getLogger(__name__)

TOLERANCE = 2.0
"""Seconds by which the machine's clock may differ from ours: no step, it is being slewed."""

PROBATION = 600.0
"""Seconds for which a step must last to be believed."""


class SteadyClock:
    """Says what time it is, in UTC with whole seconds.

    The progress deadline counts from a time in the object's status, so a clock that is set forward
    by mistake would make every object that waits for somebody Stalled, and for good. What differs
    from the monotonic clock is therefore believed only when it lasts.
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
        """Return the present time."""
        elapsed = self._monotonic()
        offset = self._wall() - elapsed
        step = offset - self._offset
        if abs(step) <= TOLERANCE:
            self._offset, self._stepped_at = offset, None
        elif self._stepped_at is None:
            self._stepped_at = elapsed
            log.warning(
                "the machine's clock was set by %+.0f s; it is followed in %d min, if that lasts",
                step,
                PROBATION // 60,
            )
        elif elapsed - self._stepped_at >= PROBATION:
            self._offset, self._stepped_at = offset, None
        return datetime.fromtimestamp(elapsed + self._offset, UTC).replace(microsecond=0)


def loop_time() -> float:
    """Return the event loop's seconds, which are monotonic."""
    return asyncio.get_running_loop().time()
