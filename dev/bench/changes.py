"""Changes in Wazzup and in specs, and how soon their statuses follow."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from dev.bench.cluster import (
    JSON,
    Cluster,
    Fleet,
    account_path,
    changed_channels,
    channel_path,
    connected,
    namespace,
)
from wazzup_operator.kube.client import KubeClient


@asynccontextmanager
async def changing_specs(fleet: Fleet) -> AsyncIterator[None]:
    """Change the spec of a random object of the first account every second."""

    async def change() -> None:
        async with connected() as client:
            while True:
                index = random.randrange(fleet.channels)
                spec = {"displayName": f"Name {random.randrange(10**6)}"}
                await client.merge_patch(channel_path(0, index), {"spec": spec})
                await asyncio.sleep(1)

    changing = asyncio.create_task(change())
    try:
        yield
        if changing.done():
            changing.result()
    finally:
        changing.cancel()


class Statuses:
    """A watch that tells when statuses were written."""

    def __init__(self) -> None:
        self._awaited: dict[tuple[str, str], tuple[str, asyncio.Future[float]]] = {}

    @classmethod
    @asynccontextmanager
    async def watched(cls) -> AsyncIterator[tuple[KubeClient, Self]]:
        """Watch until the context exits."""
        async with connected() as client:
            statuses, changes = cls(), changed_channels(client)
            await anext(changes)
            watching = asyncio.create_task(statuses._follow(changes))
            try:
                yield client, statuses
            finally:
                watching.cancel()

    def shows(self, account: int, index: int, state: str) -> asyncio.Future[float]:
        """Return when (monotonic seconds) this object next has this state."""
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._awaited[namespace(account), f"channel-{index}"] = state, future
        return future

    async def _follow(self, changes: AsyncIterator[JSON | None]) -> None:
        async for channel in changes:
            if channel:
                key = channel["metadata"]["namespace"], channel["metadata"]["name"]
                state, future = self._awaited.get(key, (None, None))
                if future and channel["status"].get("state") == state:
                    del self._awaited[key]
                    future.set_result(time.monotonic())


class Relay:
    """Forwards connections to the simulator, and notes when it last sent a byte to the operator."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.last_byte = 0.0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Yield its URL."""
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", self._port)
        writer.transport.set_write_buffer_limits(0)  # `drain` waits until all is sent
        asking = asyncio.create_task(_copy(reader, requests))
        while chunk := await answers.read(2**16):
            writer.write(chunk)
            await writer.drain()
            self.last_byte = time.monotonic()
        await asking
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(2**16):
        writer.write(chunk)
    writer.close()


async def scanned(cluster: Cluster, fleet: Fleet, count: int, seconds: float) -> list[float]:
    """Scan phones at random times; return the seconds until each object is Ready.

    The channels must have been logged out.
    """

    async def scan(number: int) -> float:
        account, index = fleet.place(number)
        await asyncio.sleep(random.uniform(0, seconds))
        ready = statuses.shows(account, index, "Active")
        started = time.monotonic()
        await asyncio.to_thread(cluster.simulator.act, fleet.channel(account, index), "scan")
        return await ready - started

    async with Statuses.watched() as (_, statuses), asyncio.timeout(seconds + 120):
        return await asyncio.gather(*(scan(number) for number in range(count)))


async def requested(cluster: Cluster, fleet: Fleet, count: int, pause: float) -> list[float]:
    """Request listings after changes in Wazzup; return the seconds until the statuses."""

    async def request(number: int) -> float:
        await asyncio.sleep(number * pause)
        account, index = fleet.place(number)
        channel = fleet.channel(account, index)
        written = statuses.shows(account, index, "ScanQRCode")
        await asyncio.to_thread(cluster.simulator.act, channel, "logout")
        started = time.monotonic()
        annotations = {"wazzup.dev/requested-at": f"{number}"}
        await client.merge_patch(account_path(account), {"metadata": {"annotations": annotations}})
        return max(0.0, await written - started)

    async with Statuses.watched() as (client, statuses), asyncio.timeout(count * pause + 120):
        return await asyncio.gather(*(request(number) for number in range(count)))


async def after_listing(cluster: Cluster, fleet: Fleet, relay: Relay, count: int) -> list[float]:
    """Return the milliseconds from the end of the listing that shows a change to its status."""
    found = []
    async with Statuses.watched() as (_, statuses), asyncio.timeout(60 * count):
        for index in range(count):
            written = statuses.shows(0, index, "ScanQRCode")
            await asyncio.to_thread(cluster.simulator.act, fleet.channel(0, index), "logout")
            found.append(1000 * (await written - relay.last_byte))
    return found
