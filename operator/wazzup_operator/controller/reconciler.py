"""The accounts' loops: one for each account that exists or is referred to."""

import asyncio
import logging

from wazzup_operator.controller import pass_metrics
from wazzup_operator.controller.account_loop import AccountLoop
from wazzup_operator.controller.dependencies import Dependencies
from wazzup_operator.controller.memory import AccountMemory
from wazzup_operator.resources.base import NamespacedName

log = logging.getLogger(__name__)

STUCK = 600.0
"""Seconds without a step of a pass that is under way after which the process counts as hung: every
request in it has a timeout."""

_RESTART_DELAY = 10.0
"""Seconds until a loop that ended by a surprise is begun again."""


class Reconciler:
    """Begins a loop when an account is first heard of; the loop ends by itself."""

    def __init__(self) -> None:
        self._deps: Dependencies | None = None
        self._loops: dict[NamespacedName, tuple[AccountLoop, asyncio.Task[None]]] = {}

    def wake(self, key: NamespacedName, requested: bool) -> None:
        """Have a pass over this account soon. Before `start`, nothing is planned."""
        if self._deps is None:
            return
        if key not in self._loops:
            loop = AccountLoop(key, self._deps)
            task = asyncio.create_task(loop.run(), name=f"account {key}")
            task.add_done_callback(lambda ended: self._ended(key, ended))
            self._loops[key] = (loop, task)
        self._loops[key][0].wake(requested=requested)

    def _ended(self, key: NamespacedName, task: asyncio.Task[None]) -> None:
        del self._loops[key]
        if task.cancelled():
            return
        if error := task.exception():
            log.error("the loop of account %s ended by a surprise", key, exc_info=error)
            asyncio.get_running_loop().call_later(_RESTART_DELAY, self._start_if_needed, key)
        else:
            self._start_if_needed(key)  # it may have come back in the instant in which it ended

    def _start_if_needed(self, key: NamespacedName) -> None:
        if self._deps and key in self._deps.store.account_keys():
            self.wake(key, False)

    def start(self, deps: Dependencies) -> None:
        """Begin, now that the Store is complete."""
        self._deps = deps
        pass_metrics.start_at_zero()
        for key in deps.store.account_keys():
            self.wake(key, False)

    async def stop(self) -> None:
        """End all loops, in the middle of a pass too: the next process finds what is left."""
        self._deps = None
        tasks = [task for _, task in self._loops.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def memory(self, key: NamespacedName) -> AccountMemory | None:
        """Return what is remembered of an account, if it has a loop."""
        found = self._loops.get(key)
        return found[0].memory if found else None

    def stuck(self) -> str | None:
        """Return which account's pass does not get on, in a sentence."""
        for key, (loop, _) in self._loops.items():
            if loop.stuck_for() > STUCK:
                return f"the pass over account {key} does not get on"
        return None
