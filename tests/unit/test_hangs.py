"""What hangs is told, and /healthz fails with it; a loop that ends is begun again."""

import asyncio
import logging
from types import SimpleNamespace

import aiohttp
import pytest

from tests.unit.account_loop.scene import Events, Server, Wazzup, wall
from tests.unit.build import ACCOUNT, account, channel, settings
from wazzup_operator.certificates import keeper as keeper_module
from wazzup_operator.certificates.keeper import CertificateKeeper
from wazzup_operator.controller.account_loop import AccountLoop
from wazzup_operator.controller.app import liveness
from wazzup_operator.controller.dependencies import Dependencies
from wazzup_operator.controller.reconciler import STUCK, Reconciler
from wazzup_operator.controller.store import Store
from wazzup_operator.kube import informer as informer_module
from wazzup_operator.kube import status
from wazzup_operator.kube.informer import WATCH_TIMEOUT, Informer
from wazzup_operator.kube.secrets import SecretReader
from wazzup_operator.kube.status import StatusWriter
from wazzup_operator.observability.health import health_app, serve
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.settings import Address


@pytest.fixture
def loop_time(monkeypatch):
    """Let the clocks of the informer and the keeper go with the loop's."""
    clock = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    monkeypatch.setattr(informer_module, "time", clock)
    monkeypatch.setattr(keeper_module, "time", clock)


class Silent:
    """A client whose requests do not even time out."""

    async def get(self, path, query=None):
        await asyncio.Event().wait()


class Scene:
    """A Reconciler that has begun, and what is around it."""

    def __init__(self):
        self.server, self.wazzup = Server([]), Wazzup([])
        self.reconciler = Reconciler()
        self.store = Store(self.reconciler.wake)
        self.store.accounts.upsert(self.server.put(account()))
        self.store.channels.upsert(self.server.put(channel()))
        self.deps = Dependencies(
            settings(),
            self.store,
            SecretReader(self.server),
            self.wazzup,
            StatusWriter(self.server),
            Events(),
            wall,
        )

    async def __aenter__(self):
        self.reconciler.start(self.deps)
        return self

    async def __aexit__(self, *error):
        await self.reconciler.stop()


@pytest.mark.looptime
class TestReconciler:
    async def test_a_pass_that_hangs(self):
        scene = Scene()
        scene.wazzup.takes = 10 * STUCK
        async with scene:
            await asyncio.sleep(STUCK - 1)
            assert scene.reconciler.stuck() is None
            await asyncio.sleep(2)
            assert scene.reconciler.stuck() == (
                "the pass over account shop/default does not get on"
            )

    async def test_a_write_that_hangs(self):
        scene = Scene()
        writer = scene.deps.writer

        async def hangs(path, body):
            await asyncio.sleep(10 * STUCK)

        scene.server.merge_patch = hangs
        async with scene:
            await asyncio.sleep(status.STUCK - 1)
            assert writer.stuck() is None
            await asyncio.sleep(2)
            assert writer.stuck() == "a status write is stuck"

    async def test_between_passes_nothing_hangs(self):
        async with Scene() as scene:
            for _ in range(100):
                await asyncio.sleep(STUCK)
                assert scene.reconciler.stuck() is None

    async def test_a_loop_that_ended_by_a_surprise_is_begun_again(self, monkeypatch, caplog):
        rest, rests = AccountLoop._rest, []

        async def surprise(loop, begun):
            rests.append(begun)
            if len(rests) == 1:
                raise RuntimeError("odd")
            await rest(loop, begun)

        monkeypatch.setattr(AccountLoop, "_rest", surprise)
        async with Scene() as scene:
            await asyncio.sleep(5)
            assert scene.reconciler.memory(ACCOUNT) is None
            (told,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
            assert told.getMessage() == "the loop of account shop/default ended by a surprise"
            assert told.exc_info
            await asyncio.sleep(10)
            assert scene.reconciler.memory(ACCOUNT) is not None
            assert len(rests) == 2

    async def test_a_loop_without_an_account_is_not_begun_again(self, monkeypatch):
        async def surprise(loop, begun):
            raise RuntimeError("odd")

        monkeypatch.setattr(AccountLoop, "_rest", surprise)
        async with Scene() as scene:
            await asyncio.sleep(5)
            scene.store.accounts.remove(account().metadata.key, account().metadata.uid)
            scene.store.channels.remove(channel().metadata.key, channel().metadata.uid)
            await asyncio.sleep(60)
            assert scene.reconciler.memory(ACCOUNT) is None

    async def test_an_account_that_comes_back_in_the_last_instant(self):
        async with Scene() as scene:
            await asyncio.sleep(5)
            scene.store.accounts.remove(account().metadata.key, account().metadata.uid)
            scene.store.channels.remove(channel().metadata.key, channel().metadata.uid)
            await asyncio.sleep(5)
            assert scene.reconciler.memory(ACCOUNT) is None
            scene.store.accounts.upsert(scene.server.put(account()))
            await asyncio.sleep(5)
            assert scene.reconciler.memory(ACCOUNT) is not None


@pytest.mark.looptime
@pytest.mark.usefixtures("loop_time")
async def test_an_informer_that_hangs():
    informer = Informer(Silent(), "/apis/wazzup.dev/v1/wazzupchannels", lambda body: body, None)
    task = asyncio.create_task(informer.run())
    await asyncio.sleep(2 * WATCH_TIMEOUT - 1)
    assert informer.stuck() is None
    await asyncio.sleep(2)
    assert informer.stuck() == ("the informer for /apis/wazzup.dev/v1/wazzupchannels is stuck")
    task.cancel()


@pytest.mark.looptime
@pytest.mark.usefixtures("loop_time")
async def test_a_keeper_that_hangs():
    keeper = CertificateKeeper(
        Silent(),
        secret=NamespacedName("system", "webhook"),
        configuration="webhook",
        service="webhook",
        validity=settings().stale_after,
    )
    assert keeper.stuck() is None
    task = asyncio.create_task(keeper.run())
    await asyncio.sleep(keeper_module.STUCK - 1)
    assert keeper.stuck() is None
    await asyncio.sleep(2)
    assert keeper.stuck() == "the certificate keeper's pass is stuck"
    task.cancel()


async def test_healthz_says_what_hangs():
    said = []
    hanging = SimpleNamespace(stuck=lambda: "it hangs" if said else None)
    fine = SimpleNamespace(stuck=lambda: None)
    runner = await serve(
        health_app(liveness([fine, None, hanging]), lambda: None), Address("127.0.0.1", 0)
    )
    host, port = runner.addresses[0][:2]
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{host}:{port}/healthz") as answer:
                assert (answer.status, await answer.text()) == (200, "ok\n")
            said.append("something")
            async with session.get(f"http://{host}:{port}/healthz") as answer:
                assert (answer.status, await answer.text()) == (503, "it hangs\n")
    finally:
        await runner.cleanup()
