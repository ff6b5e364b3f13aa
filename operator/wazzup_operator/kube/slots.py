"""A semaphore that namespaces share fairly."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Waiter = asyncio.Future[None]

Rank = tuple[int, bool]
"""How many slots a namespace holds, and whether it lacks an urgent waiter. The lowest is next."""


@dataclass(slots=True)
class _Queue:
    """The waiters of one namespace, and the line that it stands in."""

    urgent: deque[Waiter] = field(default_factory=deque)
    routine: deque[Waiter] = field(default_factory=deque)
    rank: Rank | None = None

    def drop_cancelled(self) -> None:
        for waiters in (self.urgent, self.routine):
            while waiters and waiters[0].done():
                waiters.popleft()

    def pop(self) -> Waiter | None:
        self.drop_cancelled()
        waiters = self.urgent or self.routine
        return waiters.popleft() if waiters else None


class Slots:
    """A number of slots; a free one goes to the waiting namespace that holds the fewest.

    So a namespace with thousands of waiters delays another one by a slot, not by thousands. Among
    equals, one with an urgent waiter comes first, then they take turns. Within a namespace: urgent
    waiters first, then first come, first served.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        self.waiting = 0
        """Number of waiters. A count, because scrapes read it in a thread beside the event loop."""

        self._held: Counter[str] = Counter()
        self._queues: dict[str, _Queue] = {}
        """By namespace."""

        self._lines: dict[Rank, dict[str, None]] = {}
        """The waiting namespaces of each rank, in order. With thousands of them, looking at each
        for every slot would take longer than a PATCH."""

    @asynccontextmanager
    async def acquire(self, namespace: str, *, urgent: bool = False) -> AsyncIterator[None]:
        """Hold a slot during the block."""
        await self._acquire(namespace, urgent)
        try:
            yield
        finally:
            self._release(namespace)

    async def _acquire(self, namespace: str, urgent: bool) -> None:
        waiter = asyncio.get_running_loop().create_future()
        queue = self._queues.setdefault(namespace, _Queue())
        (queue.urgent if urgent else queue.routine).append(waiter)
        self._line_up(namespace)
        self._serve()
        self.waiting += 1
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # got the slot and was cancelled at the same time
                self._release(namespace)
            raise
        finally:
            self.waiting -= 1

    def _release(self, namespace: str) -> None:
        self._free += 1
        self._held[namespace] -= 1
        if not self._held[namespace]:
            del self._held[namespace]
        self._line_up(namespace)
        self._serve()

    def _serve(self) -> None:
        """Give free slots to waiters."""
        while self._free and self._lines:
            namespace = next(iter(self._lines[min(self._lines)]))
            if waiter := self._queues[namespace].pop():
                waiter.set_result(None)
                self._free -= 1
                self._held[namespace] += 1
            self._line_up(namespace)

    def _line_up(self, namespace: str) -> None:
        """Move a namespace to the end of its rank's line, unless it is in that; drop empty ones."""
        queue = self._queues.get(namespace)
        if queue is None:
            return
        queue.drop_cancelled()
        waits = queue.urgent or queue.routine
        rank = (self._held[namespace], not queue.urgent) if waits else None
        if rank == queue.rank:
            return
        if queue.rank:
            self._leave(namespace, queue.rank)
        if rank:
            self._lines.setdefault(rank, {})[namespace] = None
            queue.rank = rank
        else:
            del self._queues[namespace]

    def _leave(self, namespace: str, rank: Rank) -> None:
        del self._lines[rank][namespace]
        if not self._lines[rank]:
            del self._lines[rank]
