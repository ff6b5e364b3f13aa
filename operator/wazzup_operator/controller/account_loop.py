"""One account's loop: list, plan, write, wait."""

import asyncio
import contextlib
import logging
from collections.abc import Generator, Mapping, Sequence
from typing import TypeVar

from wazzup_operator.backoff import Backoff
from wazzup_operator.controller import pass_metrics
from wazzup_operator.controller.clock import loop_time
from wazzup_operator.controller.dependencies import Dependencies
from wazzup_operator.controller.lister import AccountLister, SecretUnavailable
from wazzup_operator.controller.memory import AccountMemory
from wazzup_operator.controller.retries import Retries
from wazzup_operator.controller.status_writes import YIELD_AFTER, StatusWrites
from wazzup_operator.domain.listing import ListedChannel
from wazzup_operator.reconcile.find import Failure, Findings, Found, find, with_each
from wazzup_operator.reconcile.finding import Conflict, NotListed, Outage, Paused
from wazzup_operator.reconcile.plan import Plan, plan
from wazzup_operator.reconcile.view import AccountView, Settled
from wazzup_operator.resources.account import WazzupAccount
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.channel import WazzupChannel

log = logging.getLogger(__name__)

T = TypeVar("T")

GAP = 1.0
"""Minimum seconds between the starts of two passes."""

_BACKOFF = (1.0, 60.0)
"""Minimum and maximum seconds until a pass that failed is retried."""


class AccountLoop:
    """Keeps the statuses of one account and of its channels up to date."""

    def __init__(self, key: NamespacedName, deps: Dependencies) -> None:
        self.key = key
        self.memory = AccountMemory(deps.settings)
        self._deps = deps
        self._lister = AccountLister(key, deps, self.memory)
        self._retries = Retries()
        self._settled: Mapping[str, Settled] = {}
        self._backoff = Backoff(*_BACKOFF)
        self._woken = asyncio.Event()
        self._hurry = asyncio.Event()
        self._requested = self._awaits_turn = False
        self._due = self._not_before = self._next_turn = 0.0
        self._step_started: float | None = None

    def stuck_for(self) -> float:
        """Return the seconds in the current step; 0 between passes and while writing.

        StatusWriter.stuck covers writes.
        """
        return 0.0 if self._step_started is None else loop_time() - self._step_started

    def wake(self, *, requested: bool) -> None:
        """Run a pass soon; `requested`: with a listing, when its turn comes."""
        if not requested:
            self._woken.set()
        elif not self._awaits_turn:
            turn = self._deps.requests.turn(self.key.namespace, loop_time())
            turn = max(turn, self._next_turn)
            self._next_turn = turn + GAP
            self._awaits_turn = True
            asyncio.get_running_loop().call_at(turn, self._grant_request)

    def _grant_request(self) -> None:
        self._awaits_turn = False
        self._requested = True
        self._hurry.set()
        self._woken.set()

    async def run(self) -> None:
        """Run passes until neither the account nor a reference to it is left."""
        while self._deps.store.knows(self.key):
            started = self._step_started = loop_time()
            await pass_metrics.measure(self._try_pass)
            self._step_started = None
            await self._rest(started)

    async def _try_pass(self) -> pass_metrics.Result:
        try:
            return await self._pass()
        except Exception:
            # An unexpected error in one account must not end the others' loops.
            log.exception("account %s: a pass failed; retrying", self.key)
            self._woken.clear()
            self._due = loop_time() + self._backoff.fail()
            return "error"

    async def _rest(self, started: float) -> None:
        """Wait until woken or until a pass is due, at least until the minimum gap is over.

        A requested listing skips the gap.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(self._due, loop_time() + 3600.0)):
                await self._woken.wait()
        if loop_time() < started + GAP:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(started + GAP):
                    await self._hurry.wait()
        self._hurry.clear()
        if (wait := self._not_before - loop_time()) > 0:
            await asyncio.sleep(wait)

    async def _pass(self) -> pass_metrics.Result:
        """Run one pass.

        List the account's channels in Wazzup if a listing is due. Plan the next status of every
        object. Write the statuses that differ, the account's own last. Schedule the next pass.
        """
        if not await self._list_if_due():
            return "requeue_after"  # the Secret will be read again
        async with self._deps.planning.acquire(self.key.namespace):
            started = loop_time()
            account = self._follow_account()
            planned = await self._plan(account)
            planning_took = loop_time() - started
        writes = await self._write(planned, account, planning_took)
        self._schedule(planned, account, writes)
        if planned.failed:
            return "error"
        return "success" if writes.complete and not self.memory.failures else "requeue_after"

    async def _list_if_due(self) -> bool:
        """List the channels if a listing is due. Returns whether the pass may continue."""
        woken = self._woken.is_set()
        must = self._requested or self._lister.retries_secret
        account = self._follow_account()
        if account is None or account.metadata.paused:
            return True
        if not self.memory.may_list(loop_time(), woken=woken, requested=must):
            return True
        changed, self._requested, listed = woken or self._requested, False, False
        try:
            await self._lister.list(account, changed=changed)
            listed = True
        except SecretUnavailable as unavailable:
            # Wake-ups must not plan from the old listing; block them until the retry.
            self._woken.clear()
            self._not_before = self._due = loop_time() + unavailable.seconds
        finally:
            self._requested |= not listed  # an attempt that did not finish is repeated
        return listed

    def _follow_account(self) -> WazzupAccount | None:
        """Return the account as it is now, after applying its spec to the memory."""
        account = self._deps.store.accounts.objects.get(self.key)
        self.memory.follow(account, loop_time())
        return account

    async def _plan(self, account: WazzupAccount | None) -> Plan:
        """Compute the statuses; return an empty plan until the first listing succeeds or fails."""
        self._step_started = loop_time()
        self._woken.clear()  # what arrived during the listing is planned now
        now = self._deps.clock()
        paused = account is not None and account.metadata.paused
        observation = None if paused else self.memory.observation(account, loop_time(), now)
        if observation is None and not paused:
            return Plan()
        view = AccountView(
            key=self.key,
            account=account,
            channels=self._deps.store.channels_of(self.key),
            observation=observation,
            claims=self._deps.store,
            last_sync=self.memory.last_sync,
            now=now,
            deadline=self._deps.settings.progress_deadline,
            settled=self._settled,
        )
        self._settled = {}  # after an error, a claim may be missing: the next pass finds all again
        await asyncio.sleep(0)  # otherwise, thousands of small accounts would never take turns
        findings = await _finish(find(view))
        unrecorded = await _finish(self._record_claims(findings, account))
        planned = await _finish(plan(view, findings.without(unrecorded)))
        if not unrecorded:
            self._settled = planned.settled
        if planned.failed:
            self._log_failures(planned.failed)
        return planned

    def _log_failures(self, failed: Sequence[Failure[WazzupChannel]]) -> None:
        """Log the first error, so that thousands of objects cannot flood the log."""
        log.error(
            "account %s: planning failed for %s and %d others; retrying",
            self.key,
            failed[0].object.metadata.key,
            len(failed) - 1,
            exc_info=failed[0].error,
        )

    async def _write(
        self, planned: Plan, account: WazzupAccount | None, planning_took: float
    ) -> StatusWrites:
        """Write for as long as the plan took, so that much planning cannot leave little written."""
        self._step_started = None
        writes = StatusWrites(
            self._deps,
            self.memory,
            self._retries,
            lambda: self._newer_pass_is_due(account),
            yields_after=max(YIELD_AFTER, planning_took),
        )
        await writes.run(planned, account)
        return writes

    def _record_claims(
        self, findings: Findings, account: WazzupAccount | None
    ) -> Generator[None, None, list[Failure[WazzupChannel]]]:
        """Record in the Store which channel objects found, for the other accounts."""
        store = self._deps.store

        def record(found: Found) -> None:
            channel, finding = found
            match finding:
                case ListedChannel():
                    store.record_found(channel, finding.channel_id)
                case NotListed() | Conflict(outage=None):
                    store.record_found(channel, None)
                case Paused():
                    store.forget_found(channel)
                case Outage() if account is None:
                    store.forget_found(channel)

        return with_each(findings.fresh, record)

    def _schedule(self, planned: Plan, account: WazzupAccount | None, writes: StatusWrites) -> None:
        """Schedule the next pass for the next listing or deadline, or to retry writes."""
        now, wall = loop_time(), self._deps.clock()
        dues = [
            self.memory.stale_at(account, now, wall),
            self._next_listing(account),
            self._retries.next_due(now),
        ]
        if planned.due:
            dues.append(now + (planned.due - wall).total_seconds())
        if writes.complete:
            self.memory.forget_changes()
        if writes.throttled:
            dues.append(now + self._deps.writer.retry_after())
        if writes.unreachable or planned.failed:
            dues.append(now + self._backoff.fail())
        else:
            self._backoff.succeed()
        self._due = min(dues)

    def _next_listing(self, account: WazzupAccount | None) -> float:
        """Return when the account is to be listed again."""
        if account is None or account.metadata.paused:
            return float("inf")
        return self.memory.next_listing(requested=self._requested)

    def _newer_pass_is_due(self, account: WazzupAccount | None) -> bool:
        """Return whether writes must stop: their plan is older than a change or the interval."""
        return self._woken.is_set() or loop_time() >= self._next_listing(account)


async def _finish(steps: Generator[None, None, T]) -> T:
    """Run a computation to its end; let other tasks run whenever it yields."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)
