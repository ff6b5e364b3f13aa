"""The webhook under hostile senders: its memory, its probes, and honest reviews meanwhile.

The short form runs several kinds at once, and for a shorter time.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from dev.controlplane.plane import ControlPlane
from dev.processes.process import Process
from tests.drills.duration import SCALE, lasting
from tests.drills.figures import measured
from tests.drills.hostile import KINDS
from tests.drills.vitals import Probes, peak, repeated, reset_peak
from tests.integration.harness.load import KINDS as HONEST
from tests.integration.harness.load import started, until
from tests.integration.harness.webhook import Authority, Webhook, trusting

ROOT = Path(__file__).parents[2]
MEMORY = 200
"""MiB; the chart limits the webhook to 256."""

IN_TIME = 1.0
PROBE_INTERVAL = 0.2

ENOUGH = 200
"""Honest reviews for a 99th percentile."""

SHORT = {
    "bodies": ["huge", "larger than allowed", "deep", "many elements"],
    "connections": ["slow", "many connections", "unread", "malformed"],
}
GROUPS = {**({each: [each] for each in KINDS} if SCALE >= 1 else SHORT), "all kinds": list(KINDS)}


class Senders:
    """Ten hostile senders of each of these kinds."""

    def __init__(self, webhook: Webhook, kinds: list[str], log: Path) -> None:
        self._process = Process("hostile", log)
        self._words = [sys.executable, "-m", "tests.drills.hostile", str(webhook.port), *kinds]
        self._kinds = kinds

    @contextlib.asynccontextmanager
    async def running(self) -> Iterator[None]:
        self._process.launch(self._words, os.environ, ROOT)
        try:
            await until(lambda: set(self.sent()) == set(self._kinds), "each kind is sent")
            yield
            assert self._process.runs, self._process.log()
        finally:
            self._process.kill()

    def sent(self) -> dict[str, int]:
        """Return how many requests or connections of each kind were sent."""
        whole = self._process.log().split("\n")[:-1]
        lines = [each for each in whole if each.startswith("{")]  # asyncio logs broken connections
        return json.loads(lines[-1]) if lines else {}


class Honest:
    """Reviews over connections like the API server's, and probes meanwhile."""

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook
        self._context = trusting(webhook.trusted)  # aiohttp keeps connections per context
        self.probes = Probes(webhook)
        self.latencies: list[float] = []
        self.failures: list[str] = []

    async def run(self, seconds: float) -> None:
        """Probe and review for so long, and until there are enough reviews."""
        end = time.monotonic() + seconds
        async with (
            repeated(PROBE_INTERVAL, self.probes.send),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session,
        ):
            while time.monotonic() < end or len(self.latencies) < ENOUGH:
                await asyncio.gather(*(self._review(session, number) for number in range(2)))
                await asyncio.sleep(0.02)

    def p(self, percent: int) -> float:
        """Return a percentile of the latencies; a review that fails is never answered."""
        ordered = sorted(self.latencies)
        return ordered[-(-len(ordered) * percent // 100) - 1]

    async def _review(self, session: aiohttp.ClientSession, number: int) -> None:
        make, allowed = HONEST[(len(self.latencies) + number) % len(HONEST)]
        url = f"https://localhost:{self._webhook.port}/channel"
        begun = time.monotonic()
        try:
            async with session.post(url, json=make(), ssl=self._context) as answer:
                text = await answer.text()
                right = answer.status == 200 and json.loads(text)["response"]["allowed"] is allowed
        except (OSError, aiohttp.ClientError) as error:
            right, text = False, repr(error)
        if not right:
            self.failures.append(text)
        self.latencies.append(time.monotonic() - begun if right else float("inf"))


@pytest.fixture(scope="module")
def webhook(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    with started(plane, tmp_path_factory.mktemp("hostile"), Authority()) as webhook:
        yield webhook


@pytest.mark.parametrize("group", GROUPS)
async def test_ten_senders_of_each_kind(webhook: Webhook, group: str, tmp_path: Path) -> None:
    honest, senders = Honest(webhook), Senders(webhook, GROUPS[group], tmp_path / "hostile.log")
    reset_peak(webhook.pid)
    async with senders.running():
        await honest.run(lasting(20, at_least=8))
        memory = peak(webhook.pid)
    measured(
        f"ten hostile senders of each kind: {group}",
        sent=sum(senders.sent().values()),
        peak_MiB=memory,
        probes=honest.probes.sent,
        missed=len(honest.probes.missed),
        honest_reviews=len(honest.latencies),
        failed=len(honest.failures),
        p50_ms=round(min(honest.p(50), 99) * 1000),
        p99_ms=round(min(honest.p(99), 99) * 1000),
    )
    assert memory < MEMORY
    assert honest.probes.missed == []
    assert honest.p(99) < IN_TIME, honest.failures
