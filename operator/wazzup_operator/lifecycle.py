"""Signals, supervision, garbage collection and shutdown."""

import asyncio
import gc
import logging
import resource
import signal
from collections.abc import Awaitable, Callable

from wazzup_operator.backoff import Backoff

log = logging.getLogger(__name__)

_BACKOFF = (1.0, 60.0)
"""Minimum and maximum seconds until a task that crashed is restarted."""

COLLECT_INTERVAL = 600.0
"""Seconds between two collections that skip nothing."""


def raise_descriptor_limit() -> None:
    """Allow as many open files and connections as the process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def collect_garbage() -> None:
    """Collect all garbage every ten minutes; in between, skip what survived a full collection.

    With 50,000 objects in the Store, a full collection blocks the event loop for 0.3 s. Skipped
    objects are still freed once nothing refers to them. Those in reference cycles, such as the
    parts of a connection, are freed when nothing is skipped. Runs until cancelled.
    """

    def freeze(phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == 2:
            gc.freeze()

    gc.callbacks.append(freeze)
    while True:
        await asyncio.sleep(COLLECT_INTERVAL)
        gc.unfreeze()
        gc.collect()


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set the event on SIGTERM or SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def wait_for_stop(tasks: set[asyncio.Task[None]], stop: asyncio.Event) -> None:
    """Wait until `stop` is set. Raises the exception of a task that fails first."""
    stopping = asyncio.create_task(stop.wait())
    running: set[asyncio.Task[object]] = {stopping, *tasks}
    while not stop.is_set():
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    stopping.cancel()


async def cancel_all(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel the tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def supervise(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a task until cancelled; restart it with backoff when it ends or crashes."""
    backoff = Backoff(*_BACKOFF)
    while True:
        started = asyncio.get_running_loop().time()
        try:
            await run()
            log.error("%s ended; restarting", name)
        except Exception:
            log.exception("%s crashed; restarting", name)
        if asyncio.get_running_loop().time() - started > _BACKOFF[1]:
            backoff.succeed()
        await asyncio.sleep(backoff.fail())
