"""The webhook over a long time: memory, certificate renewal and rotation, idle connections.

The short form sends fewer reviews. A rotation takes its full time: a new CA is trusted for half a
minute before it is used.
"""

import asyncio
import base64
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest

from dev.controlplane.plane import ControlPlane
from tests.drills.duration import SCALE, lasting
from tests.drills.figures import measured
from tests.integration.harness.api import JSON, Api, ApiError
from tests.integration.harness.load import (
    Load,
    renumbering,
    serial,
    started,
    under_load,
    until,
)
from tests.integration.harness.webhook import (
    CONFIGURATIONS,
    PATIENCE,
    Authority,
    Configuration,
    Webhook,
    trusting,
)
from wazzup_operator.admission.connections import HANDSHAKE_TIMEOUT
from wazzup_operator.certificates.issue import load_bundle
from wazzup_operator.certificates.keeper import PROPAGATION, CertificateKeeper
from wazzup_operator.kube.client import KubeClient
from wazzup_operator.lifecycle import cancel_all
from wazzup_operator.observability.health import KEEP_ALIVE
from wazzup_operator.resources.base import NamespacedName

FLAT = 1.05
API_SERVER_WAITS = 3.0
SECRET = "webhook-certificate"
SHORT = timedelta(seconds=60)
"""A pair of this validity is renewed after 40 s."""

LONG = timedelta(hours=1)


@pytest.mark.timeout(1800)
async def test_memory_stays_flat(plane: ControlPlane, tmp_path: Path) -> None:
    authority, count = Authority(), round(20_000 * SCALE)
    with started(plane, tmp_path, authority) as webhook:
        await Load(webhook, authority.certificate).run(20, 1000)
        before, begun = webhook.resident(), time.monotonic()
        load = Load(webhook, authority.certificate)
        await load.run(20, count)
        after, took = webhook.resident(), time.monotonic() - begun
    measured(f"{count:,} reviews", took=took, KiB_before=before, KiB_after=after)
    assert load.failures == []
    assert load.sent == count
    assert after <= before * FLAT


class Installation:
    """The chart's configuration and the keeper's Secret, which it mounts as the kubelet does."""

    SECRET: ClassVar[JSON] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET},
        "type": "Opaque",
    }

    def __init__(self, plane: ControlPlane, webhook: Webhook) -> None:
        self.webhook = webhook
        self.api = Api(plane.kubeconfig)
        self.configuration = Configuration(self.api)
        self.configuration.point(webhook.port, b"")
        self.mounted: list[bytes] = []
        self.asked = 0
        self.apply_secret()

    def bundle(self) -> bytes:
        """Return the caBundle."""
        stored = self.api.request("GET", f"{CONFIGURATIONS}/wazzup")
        return base64.b64decode(stored["webhooks"][0]["clientConfig"].get("caBundle", ""))

    def mount(self) -> bool:
        """Mount what has changed in the Secret; return whether it has a pair."""
        data = {}
        with contextlib.suppress(ApiError):  # deleted
            data = self.api.get("secret", SECRET).get("data", {})
        files = [base64.b64decode(data[name]) for name in ("tls.crt", "tls.key") if name in data]
        if files != self.mounted:
            if files:
                self.webhook.certificates.write(*files)
            else:
                self.webhook.certificates.clear()
            self.mounted = files
        return any(files)

    def apply_secret(self) -> None:
        """Bring the Secret without data, as helm does."""
        self.api.create(self.SECRET)

    async def lose_the_authority(self) -> None:
        await self._patch({"ca.crt": "", "ca.key": ""})

    async def empty_the_secret(self) -> None:
        await self._patch(None)

    async def delete_and_restore_the_secret(self) -> None:
        """Restore it once keeper and webhook have noticed."""
        before = self._kept_current()
        await asyncio.to_thread(self.api.delete, "secret", SECRET)
        async with kept(LONG) as keeper:
            await until(lambda: keeper.maintained is False, "the keeper reports it")
        await until(lambda: self._kept_current() > before, "the webhook has no files")
        await asyncio.to_thread(self.apply_secret)

    async def _patch(self, data: JSON | None) -> None:
        await asyncio.to_thread(self.api.patch, "secret", SECRET, {"data": data})

    def _kept_current(self) -> int:
        return self.webhook.log().count("keeping the current one")

    @contextlib.asynccontextmanager
    async def followed(self, load: Load) -> AsyncIterator[None]:
        """Mount new pairs, trust new caBundles, and have the API server send reviews."""
        over = asyncio.Event()

        async def follow() -> None:
            while not over.is_set():
                await asyncio.to_thread(self.mount)
                bundle = await asyncio.to_thread(self.bundle)
                if bundle != load.bundle:
                    load.trust(bundle)
                # Without an answer, the API server would admit it.
                assert not await asyncio.to_thread(self.configuration.admits_impossible)
                self.asked += 1

        following = asyncio.create_task(follow())
        try:
            yield
        finally:
            over.set()
            await following


@contextlib.asynccontextmanager
async def kept(validity: timedelta) -> AsyncIterator[CertificateKeeper]:
    """Run a keeper, as a new leader does: it reads the Secret at once."""
    client = await KubeClient.connect(lambda *_: None)
    keeper = CertificateKeeper(
        client,
        secret=NamespacedName("default", SECRET),
        configuration="wazzup",
        service="localhost",
        validity=validity,
    )
    running = asyncio.create_task(keeper.run())
    try:
        yield keeper
        assert not running.done()
    finally:
        await cancel_all({running})
        await client.close()


@pytest.mark.timeout(600)
async def test_a_renewed_pair_and_a_lost_secret_under_load_fail_no_review(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real keeper, webhook and API server, while the CA or the whole Secret is lost."""
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    senders, seconds = 50 if SCALE >= 1 else 10, lasting(60)
    with started(plane, tmp_path) as webhook:
        installation = Installation(plane, webhook)
        async with kept(SHORT):
            await until(installation.mount, "the keeper issues a pair")
            await until(lambda: webhook.probe("/readyz")[0] == 200, "it is served")
            await until(
                lambda: not installation.configuration.admits_impossible(), "the API server asks"
            )
        load = Load(webhook, await asyncio.to_thread(installation.bundle))
        begun = time.monotonic()
        async with under_load(load, senders), installation.followed(load):
            pairs = [await asyncio.to_thread(serial, webhook.port)]

            async def another(validity: timedelta) -> float:
                """Have a keeper issue another pair; return the seconds until it is served."""
                since = time.monotonic()
                async with kept(validity):
                    await until(
                        lambda: serial(webhook.port) not in pairs, "a new pair", PATIENCE + 60
                    )
                pairs.append(await asyncio.to_thread(serial, webhook.port))
                return time.monotonic() - since

            await another(SHORT)
            before = load.bundle
            rotations = []
            for lose in (
                installation.lose_the_authority,
                installation.empty_the_secret,
                installation.delete_and_restore_the_secret,
            ):
                await lose()
                rotations.append(await another(LONG))
            await until(lambda: time.monotonic() > begun + seconds, "the time is over")
        took = time.monotonic() - begun
    measured(
        f"{senders} reviews in flight across a renewal and three rotations",
        took=took,
        reviews=load.sent,
        failed=len(load.failures),
        slowest=load.slowest,
        rotation=max(rotations),
        asked_by_the_api_server=installation.asked,
    )
    assert load.failures == []
    assert installation.asked > seconds / 2
    assert min(rotations) >= PROPAGATION.total_seconds()
    lost, trusted = load_bundle(before), load_bundle(load.bundle)
    assert set(lost) < set(trusted), "the lost CA is no longer trusted while its pairs are valid"


@pytest.mark.skipif(SCALE < 1, reason="only at full durations: idle connections last two minutes")
@pytest.mark.timeout(600)
async def test_idle_connections_are_closed(plane: ControlPlane, tmp_path: Path) -> None:
    authority = Authority()
    with started(plane, tmp_path, authority) as webhook:
        context, begun = trusting(authority.certificate), time.monotonic()
        head = b"POST /channel HTTP/1.1\r\nHost: localhost\r\n"

        async def idle(sent: bytes, drip: bytes, tls: ssl.SSLContext | None) -> float:
            """Connect, send this, then a byte every 5 s; return the time of the disconnect."""
            reader, writer = await asyncio.open_connection(
                "localhost", webhook.port, ssl=tls, ssl_handshake_timeout=PATIENCE if tls else None
            )
            gone = asyncio.create_task(reader.read())
            try:
                writer.write(sent)
                while not gone.done():
                    await asyncio.wait({gone}, timeout=5)
                    writer.write(drip)
                with contextlib.suppress(OSError):
                    await gone
                return time.monotonic() - begun
            finally:
                writer.transport.abort()

        async with asyncio.timeout(KEEP_ALIVE + PATIENCE):
            kinds = {
                "no_tls": [idle(b"", b"", None) for _ in range(20)],
                "no_head": [idle(b"", b"", context) for _ in range(40)],
                "half_a_head": [idle(head, b"", context) for _ in range(20)],
                "slow_head": [idle(head, b"x", context) for _ in range(20)],
            }
            closed = asyncio.gather(*(asyncio.gather(*each) for each in kinds.values()))
            await asyncio.sleep(0)
            while not closed.done():
                sent = time.monotonic()
                assert not (await asyncio.to_thread(webhook.review, renumbering()))["allowed"]
                assert time.monotonic() - sent < API_SERVER_WAITS
                await asyncio.wait({closed}, timeout=1)
        last = {kind: max(each) for kind, each in zip(kinds, closed.result(), strict=True)}
    measured("100 idle connections, seconds until the last was closed", **last)
    assert last["no_tls"] < HANDSHAKE_TIMEOUT + PATIENCE
    assert max(last.values()) < KEEP_ALIVE + PATIENCE
