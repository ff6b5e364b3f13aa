"""Measures latency and throughput of the webhook with thousands of stored objects.

Reviews go straight to its HTTPS port over persistent connections, like the API server's: one at a
time for the latency, many at a time for the throughput. A creation makes the webhook list the
WazzupChannels with the same number and get the account; an update only gets the account. For the
list, the API server scans all objects of the namespace, here the same one for all, so it is the
bottleneck. If it answers too late, the webhook leaves the decision to the failurePolicy, and the
review counts as missed.
"""

import argparse
import asyncio
import itertools
import os
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from dev.bench.cluster import KEY, NAMESPACE, fill
from dev.controlplane.plane import ControlPlane
from dev.processes.operator import Operator
from dev.processes.port import free_port
from wazzup_operator.certificates.issue import dump_bundle, make_authority, make_serving
from wazzup_operator.resources.base import API_VERSION
from wazzup_simulator.client import Simulator

GRACE = 30.0
SENDERS = 10

_reviews = itertools.count()


@dataclass(frozen=True)
class Speed:
    """Latency in milliseconds (median and 99th percentile), and reviews per second.

    `cpu` is the webhook's CPU time per review in milliseconds. `missed` counts reviews without the
    right answer.
    """

    p50: float
    p99: float
    rate: float
    cpu: float
    missed: int


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m dev.bench.admission", description=__doc__)
    parser.add_argument(
        "--objects", type=int, default=10_000, help="stored objects (default 10000)"
    )
    parser.add_argument("--reviews", type=int, default=1000, help="of each kind (default 1000)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        ControlPlane(Path(directory) / "plane", audit=False) as plane,
        Simulator.launch([KEY]) as simulator,
    ):
        os.environ["KUBECONFIG"] = str(plane.kubeconfig)
        asyncio.run(fill(simulator, options.objects))
        with _webhook(Path(directory)) as (webhook, url, context):
            print(f"{options.objects} objects stored, {os.cpu_count()} cores")
            print(f"{'':<42}{'p50 ms':>8}{'p99 ms':>8}{'per s':>8}{'CPU ms':>8}{'missed':>8}")
            for name, make in _KINDS.items():
                for senders in (1, SENDERS):
                    speed = asyncio.run(
                        _measure(webhook.pid, url, context, make, options.reviews, senders)
                    )
                    title = f"{name}, {senders} in flight"
                    print(
                        f"{title:<42}{speed.p50:>8.1f}{speed.p99:>8.1f}{speed.rate:>8.0f}"
                        f"{speed.cpu:>8.2f}{speed.missed:>8}",
                        flush=True,
                    )


def _object(number: int, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "WazzupChannel",
        "metadata": {"name": f"new-{number}", "namespace": NAMESPACE, "uid": f"uid-{number}"},
        "spec": {
            "phoneNumber": f"+7901{number % 10**7:07d}",
            "active": True,
            "transport": "whatsapp",
            "accountRef": {"name": "default"},
            **spec,
        },
    }


@dataclass(frozen=True)
class _Case:
    """A review and its correct answer."""

    review: dict[str, Any]
    allowed: bool


def _review(new: dict[str, Any], old: dict[str, Any] | None, allowed: bool) -> _Case:
    name = new["metadata"]["name"]
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": f"review-of-{name}",
            "resource": {"group": "wazzup.dev", "version": "v1", "resource": "wazzupchannels"},
            "operation": "UPDATE" if old else "CREATE",
            "namespace": NAMESPACE,
            "name": name,
            "userInfo": {"username": "bench"},
            "object": new,
            "oldObject": old,
        },
    }
    return _Case(review, allowed)


def _creation() -> _Case:
    return _review(_object(next(_reviews)), None, allowed=True)


def _update() -> _Case:
    number = next(_reviews)
    return _review(_object(number, active=False), _object(number), allowed=True)


def _duplicate() -> _Case:
    # The first stored object has this number.
    return _review(_object(next(_reviews), phoneNumber="+79000000000"), None, allowed=False)


_KINDS: dict[str, Callable[[], _Case]] = {
    "creation": _creation,
    "update": _update,
    "creation with a duplicate number": _duplicate,
}


async def _measure(
    pid: int,
    url: str,
    context: ssl.SSLContext,
    make: Callable[[], _Case],
    count: int,
    senders: int,
) -> Speed:
    """Warm up, then send `count` reviews."""
    connector = aiohttp.TCPConnector(limit=0, ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        await _send(session, url, make, count // 10, senders)
        started, cpu = time.monotonic(), _cpu_seconds(pid)
        latencies, missed = await _send(session, url, make, count, senders)
        rate = count / (time.monotonic() - started)
        cpu = (_cpu_seconds(pid) - cpu) / count
    percentiles = statistics.quantiles(latencies, n=100)
    return Speed(percentiles[49] * 1000, percentiles[98] * 1000, rate, cpu * 1000, missed)


def _cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _send(
    session: aiohttp.ClientSession,
    url: str,
    make: Callable[[], _Case],
    count: int,
    senders: int,
) -> tuple[list[float], int]:
    """Send the reviews; return their latencies in seconds and the number of missed ones."""
    latencies: list[float] = []
    missed = 0
    pending = iter(range(count))

    async def sender() -> None:
        nonlocal missed
        for _ in pending:
            case = make()
            started = time.monotonic()
            async with session.post(url, json=case.review) as answer:
                response = (await answer.json())["response"] if answer.status == 200 else {}
            latencies.append(time.monotonic() - started)
            missed += response.get("allowed") is not case.allowed

    await asyncio.gather(*(sender() for _ in range(senders)))
    return latencies, missed


@contextmanager
def _webhook(directory: Path) -> Iterator[tuple[Operator, str, ssl.SSLContext]]:
    """Run the webhook; yield it, its URL and a TLS context that trusts its certificate."""
    now = datetime.now(UTC)
    authority = make_authority(now)
    pair = make_serving(authority, ["localhost"], now, timedelta(days=1))
    (directory / "tls.crt").write_bytes(dump_bundle([pair.certificate]))
    (directory / "tls.key").write_bytes(pair.key_pem)
    port = free_port()
    webhook = Operator(
        "webhook",
        directory / "webhook.log",
        f"--webhook-address=127.0.0.1:{port}",
        f"--health-address=127.0.0.1:{free_port()}",
        "--metrics-address=127.0.0.1:0",
        f"--cert-dir={directory}",
        "--log-level=error",
        env=os.environ,
    )
    webhook.start()
    try:
        webhook.wait_ready()
        bundle = dump_bundle([authority.certificate]).decode()
        yield (
            webhook,
            f"https://localhost:{port}/channel",
            ssl.create_default_context(cadata=bundle),
        )
    finally:
        webhook.stop(GRACE)


if __name__ == "__main__":
    main()
