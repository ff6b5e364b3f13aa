"""A bounded number of turns, where the urgent go first and nobody takes all of them."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import NamedTuple


class _Waiting(NamedTuple):
    owner: Hashable
    turn: asyncio.Future[None]


class Slots:
    """So many turns at once; those who wait get one in the order of coming, the urgent first.

    Of these, one owner has `each` at most: turns may take long, and the others need not wait.
    """

    def __init__(self, number: int, each: int) -> None:
        self._free = number
        self._each = each
        self._held: Counter[Hashable] = Counter()
        self._urgent: deque[_Waiting] = deque()
        self._routine: deque[_Waiting] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return sum(not turn.done() for _, turn in [*self._urgent, *self._routine])

    @asynccontextmanager
    async def turn(self, owner: Hashable, *, urgent: bool) -> AsyncIterator[None]:
        """Wait for a turn and have it during the block."""
        await self._take(owner, self._urgent if urgent else self._routine)
        try:
            yield
        finally:
            self._give(owner)

    async def _take(self, owner: Hashable, queue: deque[_Waiting]) -> None:
        turn = asyncio.get_running_loop().create_future()
        queue.append(_Waiting(owner, turn))
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was this one's turn in the same instant
                self._give(owner)
            raise

    def _give(self, owner: Hashable) -> None:
        self._free += 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        self._serve()

    def _serve(self) -> None:
        while self._free and (next_ := self._next()):
            self._free -= 1
            self._held[next_.owner] += 1
            next_.turn.set_result(None)

    def _next(self) -> _Waiting | None:
        """Take who is next out of the queues."""
        for queue in (self._urgent, self._routine):
            while queue and queue[0].turn.done():  # who waited for it was cancelled
                queue.popleft()
            for position, waiting in enumerate(queue):
                if not waiting.turn.done() and self._held[waiting.owner] < self._each:
                    del queue[position]
                    return waiting
        return None
