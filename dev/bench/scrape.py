"""Measures a scrape: its duration, its size, and the delay that it causes in the event loop.

The operator's Store, collectors and metrics server run in this process; the scraper is a separate
process. A task that wakes every 10 ms measures how late it is, first without scrapes and then with
back-to-back scrapes. The difference is the delay for everything else in the event loop.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from wazzup_operator.controller.store import Store
from wazzup_operator.domain.states import State
from wazzup_operator.observability.exposition import expose, scrape, withdraw
from wazzup_operator.observability.fleet import FleetMetrics
from wazzup_operator.observability.health import metrics_app, serve
from wazzup_operator.resources.account import (
    AccountSpec,
    AccountStatus,
    SecretKeyRef,
    WazzupAccount,
)
from wazzup_operator.resources.base import Condition, ObjectMeta
from wazzup_operator.resources.channel import (
    AccountRef,
    ChannelSpec,
    ChannelStatus,
    WazzupChannel,
)
from wazzup_operator.settings import Address

COUNTS = (100, 1_000, 10_000)
NAMESPACE = "bench"
ACCOUNTS = 5
TICK = 0.01
IDLE = 2.0
"""Seconds to measure without scrapes."""

_NOW = datetime.now(UTC).replace(microsecond=0)
_SCRAPER = """
import sys, time, urllib.request
for _ in range(int(sys.argv[2])):
    started = time.perf_counter()
    with urllib.request.urlopen(sys.argv[1]) as answer:
        answer.read()
    print(time.perf_counter() - started)
"""


@dataclass(frozen=True)
class Cost:
    """Cost of a scrape: duration in milliseconds, as the scraper measures it, bytes and series.

    `late` is the maximum delay of the event loop in milliseconds, `idle` the one without scrapes.
    """

    median: float
    worst: float
    size: int
    series: int
    late: float
    idle: float


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m dev.bench.scrape", description=__doc__)
    parser.add_argument("--scrapes", type=int, default=20, help="per line (default 20)")
    parser.add_argument("--objects", type=int, nargs="*", default=COUNTS, help="how many objects")
    options = parser.parse_args()
    print(f"{ACCOUNTS} accounts, {os.cpu_count()} cores; late: maximum delay of the event loop")
    print(
        f"{'objects, with own series':<30}{'p50 ms':>8}{'max ms':>8}{'kB':>8}"
        f"{'series':>8}{'late ms':>9}{'idle ms':>9}"
    )
    for count in options.objects:
        for limit in sorted({0, min(count, 2000), count}):
            cost = asyncio.run(_measure(count, limit, options.scrapes))
            print(
                f"{f'{count}, {limit}':<30}{cost.median:>8.1f}{cost.worst:>8.1f}"
                f"{cost.size / 1000:>8.0f}{cost.series:>8}"
                f"{cost.late:>9.1f}{cost.idle:>9.1f}",
                flush=True,
            )


async def _measure(count: int, limit: int, scrapes: int) -> Cost:
    fleet = FleetMetrics(_filled(count), lambda key: None, limit)
    expose(fleet)
    try:
        async with _served() as url:
            await _scrape(url, 2)
            gc.collect()
            idle = await _lateness(asyncio.sleep(IDLE))
            scraping = asyncio.create_task(_scrape(url, scrapes))
            late = await _lateness(scraping)
            body, _ = scrape("", "")
    finally:
        withdraw(fleet)
    milliseconds = [1000 * each for each in scraping.result()]
    return Cost(
        statistics.median(milliseconds),
        max(milliseconds),
        len(body),
        sum(not line.startswith(b"#") for line in body.splitlines()),
        1000 * late,
        1000 * idle,
    )


@asynccontextmanager
async def _served() -> AsyncIterator[str]:
    runner = await serve(metrics_app(), Address("127.0.0.1", 0))
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
    finally:
        await runner.cleanup()


async def _scrape(url: str, times: int) -> list[float]:
    """Scrape `times` times without a pause; return the durations in seconds."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SCRAPER, url, str(times), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise SystemExit("the scraper failed; its error is above")
    return [float(line) for line in output.split()]


async def _lateness(work: Awaitable[object]) -> float:
    """Return the maximum delay of the event loop, in seconds, during `work`."""
    worst = 0.0

    async def measure() -> None:
        nonlocal worst
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            worst = max(worst, time.perf_counter() - due)

    measuring = asyncio.create_task(measure())
    try:
        await work
    finally:
        measuring.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await measuring
    return worst


def _filled(count: int) -> Store:
    store = Store(lambda key, requested: None)
    for index in range(ACCOUNTS):
        store.accounts.put(_account(index))
    for index in range(count):
        store.channels.put(_channel(index))
    return store


def _metadata(name: str) -> ObjectMeta:
    return ObjectMeta(
        name=name,
        namespace=NAMESPACE,
        uid=name,
        resource_version="1",
        generation=1,
        creation_timestamp=_NOW,
    )


def _ready(status: Literal["True", "False"]) -> Condition:
    return Condition(
        type="Ready", status=status, last_transition_time=_NOW, reason="Any", message="Any."
    )


def _account(index: int) -> WazzupAccount:
    return WazzupAccount(
        metadata=_metadata(f"account-{index}"),
        spec=AccountSpec(api_key_secret_ref=SecretKeyRef(name="wazzup")),
        status=AccountStatus(last_sync_time=_NOW, conditions=(_ready("True"),)),
    )


def _channel(index: int) -> WazzupChannel:
    state = list(State)[index % len(State)]
    return WazzupChannel(
        metadata=_metadata(f"channel-of-a-customer-{index:05d}"),
        spec=ChannelSpec(
            phone_number=f"+7900{index:07d}",
            account_ref=AccountRef(name=f"account-{index % ACCOUNTS}"),
        ),
        status=ChannelStatus(
            state=state,
            state_since=_NOW,
            conditions=(_ready("True" if state is State.ACTIVE else "False"),),
        ),
    )


if __name__ == "__main__":
    main()
