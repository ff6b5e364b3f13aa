"""How fast the webhook answers reviews, with thousands of objects in one namespace.

Reviews go straight to its HTTPS port over persistent connections, like the API server's. A creation
makes the webhook list the objects with its number, for which the API server scans the namespace.
"""

import asyncio
import itertools
import json
import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from dev.bench.cluster import Cluster, Fleet, namespace
from dev.bench.peers import use_of
from dev.bench.report import Report
from dev.bench.results import p99, shown
from dev.processes.operator import Operator
from dev.processes.port import free_port
from wazzup_operator.certificates.issue import dump_bundle, make_authority, make_serving
from wazzup_operator.resources.base import API_VERSION

_SENDERS = (1, 10)
_numbers = itertools.count(79_010_000_000)


def reviews(cluster: Cluster, report: Report) -> None:
    """Send reviews of each kind, one and ten at a time."""
    fleet = Fleet(1, report.form.objects)
    taken = fleet.number(0, 0)
    kinds: dict[str, tuple[Callable[[], dict[str, Any]], bool]] = {
        "creation": (lambda: _review(next(_numbers)), True),
        "update": (lambda: _review(next(_numbers), update=True), True),
        "creation with a taken number": (lambda: _review(taken), False),
    }
    with cluster.filled(fleet), _webhook(cluster) as (webhook, url, context):
        for (kind, (make, allowed)), senders in itertools.product(kinds.items(), _SENDERS):
            before, started = use_of(webhook).cpu, time.monotonic()
            latencies, wrong = asyncio.run(
                _send(url, context, make, allowed, report.form.reviews, senders)
            )
            count = len(latencies)
            row = [
                kind,
                str(senders),
                shown(latencies, "ms", spread=False),
                f"{p99(latencies):.0f} ms",
                f"{count / (time.monotonic() - started):.0f}",
                f"{1000 * (use_of(webhook).cpu - before) / count:.1f} ms",
                str(len(wrong)),
            ]
            report.reviews.append(row)
            report.say(f"reviews: {', '.join(row)}")
            if wrong:
                report.say(f"first wrong answer: {wrong[0]}")


def _review(number: int, *, update: bool = False) -> dict[str, Any]:
    def channel(*, active: bool) -> dict[str, Any]:
        return {
            "apiVersion": API_VERSION,
            "kind": "WazzupChannel",
            "metadata": {"name": f"new-{number}", "namespace": namespace(0), "uid": f"{number}"},
            "spec": {
                "phoneNumber": f"+{number}",
                "active": active,
                "transport": "whatsapp",
                "accountRef": {"name": "default"},
            },
        }

    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": f"review-{number}",
            "resource": {"group": "wazzup.dev", "version": "v1", "resource": "wazzupchannels"},
            "operation": "UPDATE" if update else "CREATE",
            "namespace": namespace(0),
            "name": f"new-{number}",
            "userInfo": {"username": "bench"},
            "object": channel(active=not update),
            "oldObject": channel(active=True) if update else None,
        },
    }


async def _send(
    url: str,
    context: ssl.SSLContext,
    make: Callable[[], dict[str, Any]],
    allowed: bool,
    count: int,
    senders: int,
) -> tuple[list[float], list[str]]:
    """Return the latencies in milliseconds, and the wrong answers."""
    latencies: list[float] = []
    wrong: list[str] = []
    pending = iter(range(count))

    async def sender() -> None:
        for _ in pending:
            review, started = make(), time.monotonic()
            async with session.post(url, json=review) as answer:
                text = await answer.text()
            latencies.append(1000 * (time.monotonic() - started))
            response = json.loads(text)["response"] if answer.status == 200 else {}
            if response.get("allowed") is not allowed:
                wrong.append(f"{answer.status}, {text}")

    connector = aiohttp.TCPConnector(limit=0, ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(sender() for _ in range(senders)))
    return latencies, wrong


@contextmanager
def _webhook(cluster: Cluster) -> Iterator[tuple[Operator, str, ssl.SSLContext]]:
    """Run the webhook; yield it, its URL and a TLS context that trusts its certificate."""
    now, directory, port = datetime.now(UTC), cluster.directory, free_port()
    authority = make_authority(now)
    pair = make_serving(authority, ["localhost"], now, timedelta(days=1))
    (directory / "tls.crt").write_bytes(dump_bundle([pair.certificate]))
    (directory / "tls.key").write_bytes(pair.key_pem)
    flags = (f"--webhook-address=127.0.0.1:{port}", f"--cert-dir={directory}", "--log-level=error")
    webhook = Operator("webhook", directory / "webhook.log", *flags, env=os.environ)
    webhook.start()
    try:
        webhook.wait_ready()
        context = ssl.create_default_context(cadata=dump_bundle([authority.certificate]).decode())
        yield webhook, f"https://localhost:{port}/channel", context
    finally:
        webhook.stop(10)
