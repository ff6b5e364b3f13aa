"""Whether a process answers its probes, and what it takes."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from dev.processes.operator import Operator

PROBE_TIMEOUT = 5.0
"""As in the chart."""


class Probes:
    """Probes like the kubelet's; each opens a connection."""

    def __init__(self, *processes: Operator) -> None:
        self._processes = processes
        self.sent = 0
        self.missed: list[str] = []

    async def send(self) -> None:
        """Probe each process once."""
        for process in self._processes:
            for path in ("/healthz", "/readyz"):
                if problem := await _problem(f"http://{process.health_address}{path}"):
                    self.missed.append(f"{process.name} {path}: {problem}")
                self.sent += 1


async def _problem(url: str) -> str:
    timeout = aiohttp.ClientTimeout(PROBE_TIMEOUT)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            return "" if answer.status == 200 else await answer.text()
    except (OSError, aiohttp.ClientError) as error:
        return repr(error)


def peak(pid: int) -> int:
    """Return the most MiB of memory that a process had since the last reset."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(each for each in status.splitlines() if each.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


def cpu(pid: int) -> float:
    """Return the seconds of CPU time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@asynccontextmanager
async def repeated(seconds: float, work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Repeat work during the block, with pauses of so many seconds; raise what it raises."""
    ended = asyncio.Event()

    async def repeat() -> None:
        while not ended.is_set():
            await work()
            await asyncio.wait({waiting}, timeout=seconds)

    waiting, repeating = asyncio.create_task(ended.wait()), asyncio.create_task(repeat())
    try:
        yield
    finally:
        ended.set()
        await repeating
