"""A semaphore that namespaces share fairly."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Waiter = asyncio.Future[None]


@dataclass(slots=True)
class _Queue:
    """The waiters of one namespace."""

    urgent: deque[Waiter] = field(default_factory=deque)
    routine: deque[Waiter] = field(default_factory=deque)

    def drop_ended(self) -> None:
        """Drop waiters that were cancelled."""
        for waiters in (self.urgent, self.routine):
            while waiters and waiters[0].done():
                waiters.popleft()

    def pop(self) -> Waiter:
        return (self.urgent or self.routine).popleft()


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
        """By namespace; the one whose turn was longest ago comes first."""

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
        self._serve()

    def _serve(self) -> None:
        """Give free slots to waiters."""
        while self._free and (namespace := self._next()) is not None:
            queue = self._queues.pop(namespace)
            queue.pop().set_result(None)
            self._free -= 1
            self._held[namespace] += 1
            self._queues[namespace] = queue

    def _next(self) -> str | None:
        """Return the namespace whose turn it is; forget those without waiters."""
        for queue in self._queues.values():
            queue.drop_ended()
        self._queues = {
            namespace: queue
            for namespace, queue in self._queues.items()
            if queue.urgent or queue.routine
        }
        return min(self._queues, key=self._rank, default=None)

    def _rank(self, namespace: str) -> tuple[int, bool]:
        return self._held[namespace], not self._queues[namespace].urgent
