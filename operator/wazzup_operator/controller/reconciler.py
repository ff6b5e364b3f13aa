"""Starts one loop for each account that exists or is referenced."""

import asyncio
import logging

from wazzup_operator.controller import pass_metrics
from wazzup_operator.controller.account_loop import AccountLoop
from wazzup_operator.controller.dependencies import Dependencies
from wazzup_operator.controller.memory import AccountMemory
from wazzup_operator.resources.base import NamespacedName

log = logging.getLogger(__name__)

STUCK = 600.0
"""Seconds after which a step of a pass counts as stuck: every request in it has a timeout."""

_RESTART_DELAY = 10.0
"""Seconds until a loop that crashed is restarted."""


class Reconciler:
    """Starts a loop with an account's first wake-up; it ends when the account is gone."""

    def __init__(self) -> None:
        self._deps: Dependencies | None = None
        self._loops: dict[NamespacedName, tuple[AccountLoop, asyncio.Task[None]]] = {}

    def wake(self, key: NamespacedName, requested: bool) -> None:
        """Run a pass over this account soon. Does nothing before `start`."""
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
            log.error("the loop of account %s crashed; restarting", key, exc_info=error)
            asyncio.get_running_loop().call_later(_RESTART_DELAY, self._start_if_needed, key)
        else:
            self._start_if_needed(key)  # the account may have been recreated as the loop ended

    def _start_if_needed(self, key: NamespacedName) -> None:
        if self._deps and self._deps.store.knows(key):
            self.wake(key, False)

    def start(self, deps: Dependencies) -> None:
        """Start the loops; the Store must be synced."""
        self._deps = deps
        pass_metrics.start_at_zero()
        for key in deps.store.account_keys():
            self.wake(key, False)

    async def stop(self) -> None:
        """Cancel all loops, even during a pass: the next leader writes what is left."""
        self._deps = None
        tasks = [task for _, task in self._loops.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def memory(self, key: NamespacedName) -> AccountMemory | None:
        """Return the memory of an account's loop, if it has one."""
        found = self._loops.get(key)
        return found[0].memory if found else None

    def stuck(self) -> str | None:
        """Return a sentence with the account whose pass is stuck."""
        for key, (loop, _) in self._loops.items():
            if loop.stuck_for() > STUCK:
                return f"the pass over account {key} is stuck"
        return None
