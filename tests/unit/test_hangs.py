"""Stuck tasks are reported by /healthz; a loop that crashes is restarted."""

import asyncio
import logging
from types import SimpleNamespace

import aiohttp
import pytest

from tests.unit.account_loop.scene import Events, Server, Wazzup, wall
from tests.unit.build import ACCOUNT, account, channel, settings
from wazzup_operator.certificates import keeper as keeper_module
from wazzup_operator.certificates.keeper import CertificateKeeper
from wazzup_operator.controller import account_loop
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
from wazzup_operator.reconcile.plan import plan
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.settings import Address


@pytest.fixture
def loop_time(monkeypatch):
    """Use the event loop's clock in the informer and the keeper."""
    clock = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    monkeypatch.setattr(informer_module, "time", clock)
    monkeypatch.setattr(keeper_module, "time", clock)


class HangingClient:
    """A client whose requests never return."""

    async def get(self, path, query=None):
        await asyncio.Event().wait()


class Scene:
    """A Reconciler that was started, with its dependencies."""

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
    async def test_a_stuck_pass(self):
        scene = Scene()
        scene.wazzup.takes = 10 * STUCK
        async with scene:
            await asyncio.sleep(STUCK - 1)
            assert scene.reconciler.stuck() is None
            await asyncio.sleep(2)
            assert scene.reconciler.stuck() == "the pass over account shop/default is stuck"

    async def test_a_stuck_write(self):
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

    async def test_nothing_is_stuck_between_passes(self):
        async with Scene() as scene:
            for _ in range(100):
                await asyncio.sleep(STUCK)
                assert scene.reconciler.stuck() is None

    async def test_thousands_of_accounts_in_one_namespace_do_not_hold_up_another(self, monkeypatch):
        """Whoever may create objects may invent accounts, and all of them may be due at once."""
        scene, planned = Scene(), []

        def recording(view, findings):
            planned.append(view.key)
            return plan(view, findings)

        monkeypatch.setattr(account_loop, "plan", recording)
        for n in range(1000):
            invented = channel(f"channel-{n}", namespace="hostile", account=f"invented-{n}")
            scene.store.channels.upsert(scene.server.put(invented))
        async with scene:
            await asyncio.sleep(10)
        assert len(set(planned)) == 1001
        assert planned.index(ACCOUNT) < 200

    async def test_a_loop_that_crashed_is_restarted(self, monkeypatch, caplog):
        rest, calls = AccountLoop._rest, []

        async def crash(loop, started):
            calls.append(started)
            if len(calls) == 1:
                raise RuntimeError("odd")
            await rest(loop, started)

        monkeypatch.setattr(AccountLoop, "_rest", crash)
        async with Scene() as scene:
            await asyncio.sleep(5)
            assert scene.reconciler.memory(ACCOUNT) is None
            (logged,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
            assert logged.getMessage() == "the loop of account shop/default crashed; restarting"
            assert logged.exc_info
            await asyncio.sleep(10)
            assert scene.reconciler.memory(ACCOUNT) is not None
            assert len(calls) == 2

    async def test_a_loop_without_an_account_is_not_restarted(self, monkeypatch):
        async def crash(loop, started):
            raise RuntimeError("odd")

        monkeypatch.setattr(AccountLoop, "_rest", crash)
        async with Scene() as scene:
            await asyncio.sleep(5)
            scene.store.accounts.remove(account().metadata.key, account().metadata.uid)
            scene.store.channels.remove(channel().metadata.key, channel().metadata.uid)
            await asyncio.sleep(60)
            assert scene.reconciler.memory(ACCOUNT) is None

    async def test_a_recreated_account_has_a_loop_again(self):
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
async def test_a_stuck_informer():
    path = "/apis/wazzup.dev/v1/wazzupchannels"
    informer = Informer(HangingClient(), path, lambda body: body, None)
    task = asyncio.create_task(informer.run())
    await asyncio.sleep(2 * WATCH_TIMEOUT - 1)
    assert informer.stuck() is None
    await asyncio.sleep(2)
    assert informer.stuck() == f"the informer for {path} is stuck"
    task.cancel()


@pytest.mark.looptime
@pytest.mark.usefixtures("loop_time")
async def test_a_stuck_keeper():
    keeper = CertificateKeeper(
        HangingClient(),
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
    assert keeper.stuck() == "the certificate keeper is stuck"
    task.cancel()


async def test_healthz_reports_what_is_stuck():
    problems = []
    hanging = SimpleNamespace(stuck=lambda: problems[0] if problems else None)
    fine = SimpleNamespace(stuck=lambda: None)
    runner = await serve(
        health_app(liveness([fine, None, hanging]), lambda: None), Address("127.0.0.1", 0)
    )
    host, port = runner.addresses[0][:2]
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{host}:{port}/healthz") as answer:
                assert (answer.status, await answer.text()) == (200, "ok\n")
            problems.append("it is stuck")
            async with session.get(f"http://{host}:{port}/healthz") as answer:
                assert (answer.status, await answer.text()) == (503, "it is stuck\n")
    finally:
        await runner.cleanup()
