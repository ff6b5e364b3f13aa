"""Reading Secrets that the API server does not answer for: what else is under way goes on."""

import asyncio
import os
import socket
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from wazzup_operator.kube.errors import ConnectionFailed
from wazzup_operator.kube.secrets import AT_ONCE, SECRET_TIMEOUT, SecretReader
from wazzup_operator.resources.account import SecretKeyRef

ACCOUNTS = 80


class Hanging:
    """A client whose requests are not answered; `asked` counts those under way."""

    def __init__(self):
        self.asked = 0

    async def get(self, path):
        self.asked += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.asked -= 1


@pytest.mark.looptime
async def test_so_many_at_once_and_no_more():
    client = Hanging()
    reader = SecretReader(client)
    reads = [
        asyncio.create_task(reader.read_api_key("shop", SecretKeyRef(name="wazzup")))
        for _ in range(ACCOUNTS)
    ]
    await asyncio.sleep(SECRET_TIMEOUT - 1)
    assert client.asked == AT_ONCE
    assert not any(each.done() for each in reads)
    await asyncio.sleep(2)
    failed = [each for each in reads if each.done()]
    assert len(failed) == ACCOUNTS - AT_ONCE
    assert {type(each.exception()) for each in failed} == {ConnectionFailed}
    for each in reads:
        each.cancel()
    await asyncio.gather(*reads, return_exceptions=True)
    assert client.asked == 0


class Server:
    """An API server that answers everything but Secrets; 80 accounts name one each."""

    def __init__(self):
        self.lease = None
        self.renewals = 0
        self.hanging = self.most = 0
        self.connections = Counter()
        self.version = 1

    def _stored(self, body):
        self.version += 1
        metadata = {"namespace": "system", "name": "lease", "uid": "1"}
        self.lease = {**body, "metadata": {**metadata, "resourceVersion": str(self.version)}}
        return web.json_response(self.lease)

    async def answer(self, request):
        kind = request.path.split("/")[3 if request.path.startswith("/api/") else 4]
        is_lease = "/leases" in request.path
        port = request.transport.get_extra_info("peername")[1]
        self.connections[port, is_lease] += 1
        if is_lease:
            if request.method == "GET":
                missing = {"kind": "Status", "message": "not found"}
                return web.json_response(self.lease or missing, status=200 if self.lease else 404)
            body = await request.json()
            self.renewals += 1
            return self._stored({**(self.lease or {}), **body})
        if "/secrets/" in request.path:
            self.hanging += 1
            self.most = max(self.most, self.hanging)
            try:
                await asyncio.Event().wait()
            finally:
                self.hanging -= 1
        if "watch" in request.query:
            answer = web.StreamResponse()
            await answer.prepare(request)
            await asyncio.Event().wait()
        accounts = [self.account(n) for n in range(ACCOUNTS)] if kind == "wazzupaccounts" else []
        return web.json_response(
            {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": accounts}
        )

    @staticmethod
    def account(number):
        metadata = {
            "namespace": "shop",
            "name": f"account-{number}",
            "uid": f"uid-{number}",
            "resourceVersion": "1",
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        spec = {"apiKeySecretRef": {"name": "wazzup", "key": "apiKey"}, "pollInterval": "60s"}
        return {"metadata": metadata, "spec": spec, "status": {"observedGeneration": -1}}


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
            while (server.most < AT_ONCE or server.renewals < 12) and time.monotonic() < end:
                assert process.returncode is None
                await asyncio.sleep(0.05)
            assert server.renewals >= 12
            assert server.most == AT_ONCE
            of_the_lease = {port for port, is_lease in server.connections if is_lease}
            others = {port for port, is_lease in server.connections if not is_lease}
            assert not of_the_lease & others
        finally:
            if process.returncode is None:
                process.terminate()
            _, told = await process.communicate()
        assert b"is given back" in told
