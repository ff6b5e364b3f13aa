"""The operator at work on a fleet, and its CPU time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dev.bench.cluster import ACCOUNTS, Cluster, Fleet, connected, until
from dev.bench.peers import Controller, use_of
from dev.processes.process import StartError, log_tail

_GRACE = 10.0


@asynccontextmanager
async def operated(
    cluster: Cluster, fleet: Fleet, url: str | None = None, *, watch_loop: bool = False
) -> AsyncIterator[Controller]:
    """Run the operator until the context exits; yield it once it has written all accounts."""
    url = url or cluster.simulator.base_url
    controller = Controller(cluster.directory, url, watch_loop=watch_loop)
    controller.start()
    try:
        async with connected() as client:

            async def written() -> bool:
                if failure := controller.failure():
                    raise StartError(f"{failure}:\n{log_tail(controller.log())}")
                answer = await client.get(ACCOUNTS)
                return all("conditions" in each["status"] for each in answer["items"])

            await until(written, "the operator has not written every account", 600)
        yield controller
    finally:
        await asyncio.to_thread(controller.stop, _GRACE)


async def load(controller: Controller, seconds: float, windows: int) -> list[float]:
    """Return the percentage of a core that the operator uses, for each window."""
    found = []
    for _ in range(windows):
        before, started = use_of(controller).cpu, time.monotonic()
        await asyncio.sleep(seconds)
        used = use_of(controller).cpu - before
        found.append(100 * used / (time.monotonic() - started))
    return found
