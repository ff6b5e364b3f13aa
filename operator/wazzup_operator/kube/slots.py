"""A semaphore with two priorities."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """A number of slots: urgent waiters first, then first come, first served."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._routine: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Number of waiters."""
        return sum(not slot.done() for slot in [*self._urgent, *self._routine])

    @asynccontextmanager
    async def acquire(self, *, urgent: bool) -> AsyncIterator[None]:
        """Hold a slot during the block."""
        await self._acquire(self._urgent if urgent else self._routine)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, queue: deque[asyncio.Future[None]]) -> None:
        if self._free:
            self._free -= 1
            return
        slot = asyncio.get_running_loop().create_future()
        queue.append(slot)
        try:
            await slot
        except asyncio.CancelledError:
            if not slot.cancelled():  # got the slot and was cancelled at the same time
                self._release()
            raise

    def _release(self) -> None:
        for queue in (self._urgent, self._routine):
            while queue:
                slot = queue.popleft()
                if not slot.done():  # done: the waiter was cancelled
                    slot.set_result(None)
                    return
        self._free += 1
