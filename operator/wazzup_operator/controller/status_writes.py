"""Writes the statuses of one pass: those that differ, concurrently, the account's last."""

import asyncio
from collections.abc import Iterator
from typing import TypeVar

from wazzup_operator.controller.clock import loop_time
from wazzup_operator.controller.dependencies import Dependencies
from wazzup_operator.controller.memory import AccountMemory
from wazzup_operator.controller.pass_metrics import observe_latency
from wazzup_operator.controller.store import Table
from wazzup_operator.controller.transition_events import record_transition
from wazzup_operator.controller.write_order import PlannedStatus, WriteOrder
from wazzup_operator.kube.status import NotWritten, Written, awaits_status
from wazzup_operator.observability import metrics
from wazzup_operator.reconcile.plan import Plan
from wazzup_operator.resources.account import WazzupAccount
from wazzup_operator.resources.channel import ChannelStatus, WazzupChannel
from wazzup_operator.resources.codec import ACCOUNTS, CHANNELS, Resource, Status

T = TypeVar("T", WazzupChannel, WazzupAccount)

WORKERS = 12
"""Concurrent PATCHes per account, below IN_FLIGHT so that one slow account cannot use every
slot."""

MAX_REFUSALS = 16
"""Consecutive refusals after which a pass is abandoned: a refusal can take seconds."""

YIELD_AFTER = 1.0
"""Seconds after which routine writes yield to the next pass if one is due."""


class StatusWrites:
    """Writes the statuses of one plan; `woken` is set when another pass is due."""

    def __init__(
        self, deps: Dependencies, memory: AccountMemory, order: WriteOrder, woken: asyncio.Event
    ) -> None:
        self._deps = deps
        self._memory = memory
        self._order = order
        self._woken = woken
        self._yields_at = loop_time() + YIELD_AFTER
        self._failures: set[NotWritten] = set()
        self._left_to_next_pass = False
        self._consecutive_refusals = 0

    @property
    def failed(self) -> bool:
        """Whether a write has to be retried."""
        return bool(self._failures)

    @property
    def complete(self) -> bool:
        """Whether no write has to be retried and none was left to the next pass."""
        return not self._failures and not self._left_to_next_pass

    async def run(self, planned: Plan, account: WazzupAccount | None) -> None:
        """Write the statuses, the account's last."""
        queue = iter(self._order.sort(planned.statuses))
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(WORKERS, len(planned.statuses))):
                workers.create_task(self._write_worker(queue))
        if account and planned.account_status and not self._unreachable():
            if self._superseded():
                self._left_to_next_pass = True
            else:
                accounts = self._deps.store.accounts
                await self._write(ACCOUNTS, accounts, account, planned.account_status)

    async def _write_worker(self, queue: Iterator[PlannedStatus]) -> None:
        """Write statuses from the queue until it is empty or the pass is abandoned."""
        writer = self._deps.writer
        for channel, status in queue:
            if self._unreachable() or self._consecutive_refusals >= MAX_REFUSALS:
                return  # the next pass replans the rest
            if self._superseded() and not awaits_status(channel):
                self._left_to_next_pass = True
                continue
            if writer.retry_after():
                self._failures.add(NotWritten.REFUSED)
                return
            failure = await self._write(CHANNELS, self._deps.store.channels, channel, status)
            if failure is not NotWritten.REFUSED:
                self._consecutive_refusals = 0
                self._order.not_refused(channel)
            elif not writer.retry_after():  # a 429 says nothing about this object
                self._consecutive_refusals += 1
                self._order.refused(channel, loop_time())

    def _unreachable(self) -> bool:
        return NotWritten.UNREACHABLE in self._failures

    def _superseded(self) -> bool:
        """Return whether a newer pass is due; it replans the remaining routine writes."""
        return self._woken.is_set() and loop_time() > self._yields_at

    async def _write(
        self, resource: Resource[T], table: Table[T], object_: T, status: Status
    ) -> NotWritten | None:
        """Write one status and record it. Returns why it was not written, if it was not."""
        outcome: Written[T] | NotWritten = NotWritten.OUTDATED
        if table.objects.get(object_.metadata.key) is object_:
            outcome = await self._deps.writer.write(resource, object_, status)
        if isinstance(outcome, NotWritten):
            metrics.status_writes.labels(resource.kind, outcome).inc()
            if outcome is not NotWritten.NOT_KEPT:  # retrying would not help
                self._failures.add(outcome)
            return outcome
        metrics.status_writes.labels(resource.kind, "written").inc()
        table.update(outcome.object)
        record_transition(self._deps.events, resource, object_, status)
        if isinstance(object_, WazzupChannel) and isinstance(status, ChannelStatus):
            observe_latency(object_, status, self._memory, self._deps.clock())
        return None
