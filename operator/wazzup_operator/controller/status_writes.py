"""Writes the statuses of one pass: those that differ, concurrently, the account's last."""

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeVar

from wazzup_operator.controller.clock import loop_time
from wazzup_operator.controller.dependencies import Dependencies
from wazzup_operator.controller.memory import AccountMemory
from wazzup_operator.controller.pass_metrics import observe_latency
from wazzup_operator.controller.retries import PlannedStatus, Retries
from wazzup_operator.controller.store import Table
from wazzup_operator.controller.transition_events import record_transition
from wazzup_operator.kube.status import NotWritten, Written
from wazzup_operator.observability import metrics
from wazzup_operator.reconcile.plan import Plan
from wazzup_operator.resources.account import WazzupAccount
from wazzup_operator.resources.channel import ChannelStatus, WazzupChannel
from wazzup_operator.resources.codec import ACCOUNTS, CHANNELS, Resource, Status

T = TypeVar("T", WazzupChannel, WazzupAccount)

WORKERS = 12
"""Concurrent PATCHes per account, below IN_FLIGHT so that one slow account cannot use every
slot."""

YIELD_AFTER = 1.0
"""Minimum seconds after which writes yield to the next pass if one is due."""


class StatusWrites:
    """Writes the statuses of one plan; `superseded` tells whether another pass is due."""

    def __init__(
        self,
        deps: Dependencies,
        memory: AccountMemory,
        retries: Retries,
        superseded: Callable[[], bool],
        *,
        yields_after: float,
    ) -> None:
        self._deps = deps
        self._memory = memory
        self._retries = retries
        self._is_superseded = superseded
        self._yields_at = loop_time() + yields_after
        self.unreachable = False
        """Whether the API server could not be reached."""

        self.throttled = False
        """Whether the API server asked to wait (429)."""

        self.complete = True
        """Whether no write was left to a later pass."""

    async def run(self, planned: Plan, account: WazzupAccount | None) -> None:
        """Write the statuses, the account's last."""
        self._retries.keep(_uids(planned, account))
        selected = self._retries.select(planned.statuses, loop_time())
        self.complete = len(selected) == len(planned.statuses)
        queue = iter(selected)
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(WORKERS, len(selected))):
                workers.create_task(self._write_worker(queue))
        if account and planned.account_status:
            if self.unreachable or not self._retries.may_write(account, loop_time()):
                self.complete = False
            else:
                accounts = self._deps.store.accounts
                await self._write(ACCOUNTS, accounts, account, planned.account_status)

    async def _write_worker(self, queue: Iterator[PlannedStatus]) -> None:
        """Write statuses until the queue is empty or the rest is left to the next pass."""
        for channel, status in queue:
            superseded = loop_time() > self._yields_at and self._is_superseded()
            self.throttled |= self._deps.writer.retry_after() > 0
            if self.unreachable or self.throttled or superseded:
                self.complete = False
                return
            await self._write(CHANNELS, self._deps.store.channels, channel, status)

    async def _write(
        self, resource: Resource[T], table: Table[T], object_: T, status: Status
    ) -> None:
        """Write one status and record the outcome."""
        outcome: Written[T] | NotWritten = NotWritten.OUTDATED
        present = table.objects.get(object_.metadata.key)
        if present is object_ or present == object_:  # equal: a copy that a later list brought
            outcome = await self._deps.writer.write(resource, object_, status)
        failure = outcome if isinstance(outcome, NotWritten) else None
        metrics.status_writes.labels(resource.kind, failure or "written").inc()
        if failure is NotWritten.UNREACHABLE:
            self.unreachable = True
        elif failure is NotWritten.REFUSED and self._deps.writer.retry_after():
            self.throttled = True  # which says nothing about this object
        else:
            self._retries.record(object_, failure, loop_time())
        if isinstance(outcome, NotWritten):
            # Writing again what was not kept would not help.
            self.complete &= outcome is NotWritten.NOT_KEPT
            return
        table.update(outcome.object)
        record_transition(self._deps.events, resource, object_, status)
        if isinstance(object_, WazzupChannel) and isinstance(status, ChannelStatus):
            observe_latency(object_, status, self._memory, self._deps.clock())


def _uids(planned: Plan, account: WazzupAccount | None) -> set[str]:
    """Return the uids of the objects that need a write."""
    uids = {channel.metadata.uid for channel, _ in planned.statuses}
    return uids | {account.metadata.uid} if account and planned.account_status else uids
