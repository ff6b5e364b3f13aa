"""Reads of Secrets that hang do not block anything else."""

import asyncio
import os
import socket
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from tests.unit.build import account, body, path_of
from tests.unit.fake_api import FakeApi, FakeClient
from wazzup_operator.kube.errors import ConnectionFailed, Refused
from wazzup_operator.kube.secrets import MAX_IN_FLIGHT, SECRET_TIMEOUT, SecretReader
from wazzup_operator.resources.account import SecretKeyRef

ACCOUNTS = 80


class Server(FakeClient):
    """An API server that answers everything but Secrets; 80 accounts name one each."""

    def __init__(self):
        super().__init__(FakeApi())
        self.hanging = self.most = 0
        self.connections = set()
        for number in range(ACCOUNTS):
            each = account(f"account-{number}")
            self.api.put(path_of(each), body(each))

    @property
    def renewals(self):
        return len(self.api.changes["leases"])

    async def before(self, verb, path, body):
        if "/secrets/" not in path:
            return
        self.hanging += 1
        self.most = max(self.most, self.hanging)
        try:
            await asyncio.Event().wait()
        finally:
            self.hanging -= 1

    async def answer(self, request):
        """Answer over HTTP."""
        port = request.transport.get_extra_info("peername")[1]
        self.connections.add((port, "/leases" in request.path))
        if "watch" in request.query:
            answer = web.StreamResponse()
            await answer.prepare(request)
            await asyncio.Event().wait()
        try:
            if request.method == "GET":
                found = await self.get(request.path, dict(request.query) or None)
            else:
                act = self.create if request.method == "POST" else self.merge_patch
                found = await act(request.path, await request.json())
        except Refused as refusal:
            status = {"kind": "Status", "message": str(refusal)}
            return web.json_response(status, status=refusal.status)
        return web.json_response({"kind": "Any", **found})


@pytest.mark.looptime
async def test_concurrent_reads_are_limited():
    client = Server()
    reader = SecretReader(client)
    reads = [
        asyncio.create_task(reader.read_api_key("shop", SecretKeyRef(name="wazzup")))
        for _ in range(ACCOUNTS)
    ]
    await asyncio.sleep(SECRET_TIMEOUT - 1)
    assert client.hanging == MAX_IN_FLIGHT
    assert not any(each.done() for each in reads)
    await asyncio.sleep(2)
    failed = [each for each in reads if each.done()]
    assert len(failed) == ACCOUNTS - MAX_IN_FLIGHT
    assert {type(each.exception()) for each in failed} == {ConnectionFailed}
    for each in reads:
        each.cancel()
    await asyncio.gather(*reads, return_exceptions=True)
    assert client.hanging == 0


@asynccontextmanager
async def serving(tmp_path):
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}
        ],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(kubeconfig))
    try:
        yield server
    finally:
        await runner.cleanup()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


async def test_a_leader_keeps_its_lease_while_all_its_secrets_hang(tmp_path):
    """The real process and real connections."""
    async with serving(tmp_path) as server:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("wazzup-operator")),
            "controller",
            "--leader-elect-resource-namespace=system",
            "--leader-elect-lease-duration=4s",
            "--leader-elect-renew-deadline=2s",
            "--leader-elect-retry-period=500ms",
            f"--health-address=127.0.0.1:{free_port()}",
            f"--metrics-address=127.0.0.1:{free_port()}",
            env={**os.environ, "KUBECONFIG": str(tmp_path / "config")},
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            end = time.monotonic() + 60
            while (server.most < MAX_IN_FLIGHT or server.renewals < 12) and time.monotonic() < end:
                assert process.returncode is None
                await asyncio.sleep(0.05)
            assert server.renewals >= 12
            assert server.most == MAX_IN_FLIGHT
            of_the_lease = {port for port, is_lease in server.connections if is_lease}
            others = {port for port, is_lease in server.connections if not is_lease}
            assert not of_the_lease & others
        finally:
            if process.returncode is None:
                process.terminate()
            _, log = await process.communicate()
        assert b"gave up the Lease" in log
