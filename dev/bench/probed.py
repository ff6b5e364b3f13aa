"""Runs the operator with probes: `python -m dev.bench.probed DIRECTORY controller ...`.

A signal for each 10 ms of CPU time counts the function that runs. SIGUSR2 writes the counts to
DIRECTORY/profile.json and starts them again. If DIRECTORY/late exists, a task that wakes every 5 ms
appends when it was late, by how much, and how much CPU time the event loop used, in seconds.
"""

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from types import FrameType
from typing import Any

from wazzup_operator.cli import main

_SAMPLE = 0.01
_TICK = 0.005
_LATE = 0.02
"""Shorter delays are not recorded."""

_run = asyncio.run


class _Profile:
    """Counts of samples by the operator's function that ran, or that called what ran."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._samples: Counter[str] = Counter()

    def start(self) -> None:
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR2, self._write)
        signal.setitimer(signal.ITIMER_PROF, _SAMPLE, _SAMPLE)

    def _sample(self, number: int, frame: FrameType | None) -> None:
        at = frame
        while at and not at.f_globals.get("__name__", "").startswith("wazzup_operator"):
            at = at.f_back
        self._samples[_name(at or frame)] += 1

    def _write(self, number: int, frame: FrameType | None) -> None:
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(self._samples.most_common()))
        part.replace(self._file)
        self._samples.clear()


def _name(frame: FrameType | None) -> str:
    if frame is None:
        return "outside Python"
    return f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}"


async def _watched(work: Coroutine[Any, Any, None], file: Path) -> None:
    """Run `work`, and record delays of the event loop."""
    watching = asyncio.create_task(_watch(file))
    try:
        await work
    finally:
        watching.cancel()


async def _watch(file: Path) -> None:
    with file.open("a", buffering=1) as output:
        while True:
            due, computed = time.monotonic() + _TICK, time.thread_time()
            await asyncio.sleep(_TICK)
            if (late := time.monotonic() - due) > _LATE:
                output.write(f"{due} {late} {time.thread_time() - computed}\n")


if __name__ == "__main__":
    directory = Path(sys.argv.pop(1))
    late = directory / "late"
    if late.exists():
        asyncio.run = lambda work, **_: _run(_watched(work, late))  # type: ignore[assignment]
    _Profile(directory / "profile.json").start()
    main()
