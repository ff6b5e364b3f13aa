"""How a process of ours goes on and ends, whichever it is."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable

from wazzup_operator.backoff import Backoff

log = logging.getLogger(__name__)

_BACKOFF = (1.0, 60.0)
"""Seconds at least and at most until a task that ended by surprise is begun again."""


def stop_on_signals(stop: asyncio.Event) -> None:
    """Let SIGTERM and SIGINT set the event."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def watch_over(tasks: set[asyncio.Task[None]], stop: asyncio.Event) -> None:
    """Wait for the end; a task that fails by surprise takes the process with it."""
    stopping = asyncio.create_task(stop.wait())
    running: set[asyncio.Task[object]] = {stopping, *tasks}
    while not stop.is_set():
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    stopping.cancel()


async def end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel the tasks and wait until they are gone."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def supervise(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run what should never end, and begin it again when it does, until cancelled."""
    backoff = Backoff(*_BACKOFF)
    while True:
        started = asyncio.get_running_loop().time()
        try:
            await run()
            log.error("%s ended; beginning it again", name)
        except Exception:
            log.exception("%s ended by a surprise; beginning it again", name)
        if asyncio.get_running_loop().time() - started > _BACKOFF[1]:
            backoff.succeed()
        await asyncio.sleep(backoff.fail())
