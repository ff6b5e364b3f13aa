"""A semaphore that namespaces share fairly."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Waiter = asyncio.Future[None]
Rank = tuple[int, bool]
"""How many slots a namespace holds, and whether it has no urgent waiter."""


@dataclass(slots=True)
class _Queue:
    """The waiters of one namespace."""

    urgent: deque[Waiter] = field(default_factory=deque)
    routine: deque[Waiter] = field(default_factory=deque)
    rank: Rank | None = None
    """Where it stands in line."""

    def drop_ended(self) -> None:
        """Drop waiters that were cancelled."""
        for waiters in (self.urgent, self.routine):
            while waiters and waiters[0].done():
                waiters.popleft()

    def next(self) -> deque[Waiter]:
        """Return the waiters to serve first."""
        return self.urgent or self.routine


class Slots:
    """A number of slots; a free one goes to the waiting namespace that holds the fewest.

    So a namespace with thousands of waiters delays another one by a slot, not by thousands. Among
    equals, one with an urgent waiter comes first, then they take turns. Within a namespace: urgent
    waiters first, then first come, first served.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        self._held: Counter[str] = Counter()
        self._queues: dict[str, _Queue] = {}
        self._line: dict[Rank, dict[str, None]] = {}
        """The waiting namespaces of each rank, in the order of their turns."""

    @property
    def waiting(self) -> int:
        """Number of waiters."""
        return sum(
            not waiter.done()
            for queue in self._queues.values()
            for waiter in (*queue.urgent, *queue.routine)
        )

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
        self._place(namespace)
        self._serve()
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # got the slot and was cancelled at the same time
                self._release(namespace)
            raise

    def _release(self, namespace: str) -> None:
        self._free += 1
        self._held[namespace] -= 1
        if not self._held[namespace]:
            del self._held[namespace]
        if namespace in self._queues:
            self._place(namespace)
        self._serve()

    def _serve(self) -> None:
        """Give free slots to waiters."""
        while self._free and self._line:
            namespace = next(iter(self._line[min(self._line)]))
            queue = self._queues[namespace]
            queue.drop_ended()
            if waiters := queue.next():
                waiters.popleft().set_result(None)
                self._free -= 1
                self._held[namespace] += 1
            self._place(namespace)

    def _place(self, namespace: str) -> None:
        """Move a namespace to the end of its rank, if that changed; without waiters, forget it."""
        queue = self._queues[namespace]
        queue.drop_ended()
        rank = (self._held[namespace], not queue.urgent) if queue.next() else None
        if rank == queue.rank:
            return
        if queue.rank is not None:
            del self._line[queue.rank][namespace]
            if not self._line[queue.rank]:
                del self._line[queue.rank]
        queue.rank = rank
        if rank is None:
            del self._queues[namespace]
        else:
            self._line.setdefault(rank, {})[namespace] = None
