"""A bounded number of turns, where the urgent go first."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """So many turns at once; those who wait get one in the order of coming, the urgent first."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._routine: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return sum(not turn.done() for turn in [*self._urgent, *self._routine])

    @asynccontextmanager
    async def acquire(self, *, urgent: bool) -> AsyncIterator[None]:
        """Wait for a turn and have it during the block."""
        await self._take(self._urgent if urgent else self._routine)
        try:
            yield
        finally:
            self._give()

    async def _take(self, queue: deque[asyncio.Future[None]]) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was this one's turn in the same instant
                self._give()
            raise

    def _give(self) -> None:
        for queue in (self._urgent, self._routine):
            while queue:
                turn = queue.popleft()
                if not turn.done():  # done: who waited for it was cancelled
                    turn.set_result(None)
                    return
        self._free += 1
