"""Many reviews at once, sent directly to a webhook's HTTPS port."""

import asyncio
import contextlib
import itertools
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from cryptography import x509

from dev.controlplane.plane import ControlPlane
from tests.integration.harness.api import JSON, channel, eventually
from tests.integration.harness.webhook import (
    IMPOSSIBLE,
    PATIENCE,
    Authority,
    Webhook,
    of_chart,
    review,
    stored,
    trusting,
)

PHONE = "+79865784457"
NAMESPACE = "default"


def assert_stops_cleanly(webhook: Webhook) -> None:
    """Stop a webhook; check its exit code, and its log for phone numbers and tracebacks."""
    assert webhook.stop() == 0
    assert re.findall(r"\d{11,}", webhook.log()) == []
    assert "Traceback" not in webhook.log()


@contextlib.contextmanager
def started(
    plane: ControlPlane, directory: Path, authority: Authority | None = None
) -> Iterator[Webhook]:
    """Run a webhook with the chart's permissions; check that it stops cleanly."""
    webhook = Webhook(of_chart(plane), directory / "webhook", authority)
    webhook.start()
    try:
        if authority:
            webhook.wait_ready()
        yield webhook
        assert_stops_cleanly(webhook)
    finally:
        if webhook.runs:
            webhook.kill()


def creation(phone: str = PHONE) -> JSON:
    return review("CREATE", stored(channel("support", phone), NAMESPACE))


def switch() -> JSON:
    new, old = channel("support", PHONE, active=False), channel("support", PHONE, active=True)
    return review("UPDATE", stored(new, NAMESPACE), stored(old, NAMESPACE))


def renumbering() -> JSON:
    new, old = channel("support", "+79990001122"), channel("support", PHONE)
    return review("UPDATE", stored(new, NAMESPACE), stored(old, NAMESPACE))


KINDS = (
    (creation, True),
    (switch, True),
    (renumbering, False),
    (lambda: creation(IMPOSSIBLE), False),
)
"""Reviews, and whether they are allowed."""


@dataclass
class Load:
    """Concurrent senders of reviews.

    Every second sender opens a new connection for each review.
    """

    webhook: Webhook
    bundle: bytes
    sent: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    sending: bool = True
    until_closed: bool = False
    """Whether a refused connection ends a sender without counting as a failure."""
    ended: int = 0

    def trust(self, *certificates: bytes) -> None:
        self.bundle = b"".join(certificates)
        self._context = trusting(self.bundle)

    async def run(self, senders: int, count: int | None = None) -> None:
        """Send `count` reviews, or until `sending` is set to False."""
        self.trust(self.bundle)
        numbers = iter(range(count)) if count is not None else itertools.count()
        url = f"https://localhost:{self.webhook.port}/channel"
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as keeping,
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True)
            ) as closing,
        ):
            await asyncio.gather(
                *(
                    self._send(closing if sender % 2 else keeping, url, numbers)
                    for sender in range(senders)
                )
            )

    async def _send(self, session: aiohttp.ClientSession, url: str, numbers: Iterator[int]) -> None:
        for number in numbers:
            if not self.sending:
                return
            make, allowed = KINDS[number % len(KINDS)]
            body = make()
            begun = time.monotonic()
            try:
                async with session.post(url, json=body, ssl=self._context) as answer:
                    text = await answer.text()
                    right = (
                        answer.status == 200
                        and json.loads(text)["response"]["allowed"] is allowed
                        and json.loads(text)["response"]["uid"] == body["request"]["uid"]
                    )
            except (aiohttp.ClientError, OSError) as error:
                if self.until_closed and isinstance(error, aiohttp.ClientConnectorError):
                    self.ended += 1
                    return
                right, text = False, repr(error)
            if not right:
                self.failures.append(text)
            self.sent += 1
            self.slowest = max(self.slowest, time.monotonic() - begun)


@contextlib.asynccontextmanager
async def under_load(load: Load, senders: int) -> AsyncIterator[None]:
    running = asyncio.create_task(load.run(senders))
    try:
        yield
    finally:
        load.sending = False
        await running


async def until(look: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait in a thread, so that the senders keep running."""
    await asyncio.to_thread(eventually, look, what, seconds)


def serial(port: int) -> int:
    """Return the serial number of the served certificate."""
    pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=PATIENCE)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number
