"""A proxy in front of the API server for one replica, which can break in many ways."""

import asyncio
import base64
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import aiohttp
import yaml
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from dev.controlplane.plane import ControlPlane
from dev.processes.port import Port

T = TypeVar("T")

PATIENCE = 10.0
HOP_BY_HOP = {
    "connection",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
"""Reasons of apimachinery, by code."""


class Seen(NamedTuple):
    """A request; status 0: not answered."""

    time: float
    method: str
    path: str
    status: int


@dataclass(eq=False)
class Rule:
    """An answer by the gate itself, and the requests that get it."""

    status: int
    left: int | None
    method: str | None
    path: str | None
    watch: bool | None
    headers: Mapping[str, str]
    message: str
    hits: int = 0

    def fits(self, method: str, path: str, *, watch: bool) -> bool:
        return (
            self.left != 0
            and self.method in (None, method)
            and (self.path is None or self.path in path)
            and self.watch in (None, watch)
        )

    def answer(self) -> web.Response:
        self.hits += 1
        if self.left is not None:
            self.left -= 1
        return web.Response(
            status=self.status,
            body=json.dumps(status_body(self.status, self.message)),
            content_type="application/json",
            headers=self.headers,
        )


def status_body(code: int, message: str = "") -> dict[str, Any]:
    """Return a Status of the API server, also for ERROR events of watches."""
    reason = REASONS.get(code, "Unknown")
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message or f"{reason} (from the gate)",
        "reason": reason,
        "code": code,
    }


@dataclass
class _Request:
    time: float
    method: str
    path: str
    status: int = 0


@dataclass(eq=False)
class _Watch:
    request: web.BaseRequest
    response: web.StreamResponse
    silent: bool = False


@dataclass(eq=False)
class Gate:
    """Forwards requests from a port of 127.0.0.1 to the API server, as the user of a kubeconfig.

    Clients need no credentials. It runs in its own thread; its methods may be called from any other
    thread, and have taken effect when they return.
    """

    upstream: Path
    """The kubeconfig that requests are forwarded with."""

    kubeconfig: Path
    """The kubeconfig file for clients of the gate."""

    _port: Port = field(default_factory=Port)
    _rules: list[Rule] = field(default_factory=list)
    _requests: list[_Request] = field(default_factory=list)
    _watches: set[_Watch] = field(default_factory=set)
    _closed: bool = False

    @classmethod
    @contextmanager
    def launch(
        cls,
        plane: ControlPlane,
        directory: Path,
        user: str,
        groups: tuple[str, ...] = (),
    ) -> Iterator[Self]:
        """Open a gate for this user, with its kubeconfig in the directory."""
        port = Port()
        gate = cls(
            plane.kubeconfig_for(user, groups), directory / f"gate-{port.number}", _port=port
        )
        gate.start()
        try:
            yield gate
        finally:
            gate.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port.number}"

    def start(self) -> None:
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started)), name="gate", daemon=True
        )
        self._thread.start()
        started.result(PATIENCE)
        self._write_kubeconfig()

    def stop(self) -> None:
        """Drop all connections and stop."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the gate does not end"
        self._port.release()

    def close(self) -> None:
        """Drop all connections and refuse new ones."""
        self._call(self._close())

    def open(self) -> None:
        """Accept connections again after `close`."""
        self._call(self._open())

    def freeze(self) -> None:
        """Keep connections open, but forward nothing in either direction."""
        self._call(self._set_frozen(True))

    def thaw(self) -> None:
        """Forward again after `freeze`, including pending requests."""
        self._call(self._set_frozen(False))

    def cut_watches(self) -> int:
        """Abort the open watches; return their number."""
        return self._call(self._cut_watches())

    def silence_watches(self) -> int:
        """Forward nothing on the open watches, not even their end; return their number."""
        return self._call(self._silence_watches())

    def inject(self, event: Mapping[str, Any]) -> int:
        """Send an event on every open watch that is not silent; return their number."""
        return self._call(self._inject(json.dumps(event).encode() + b"\n"))

    def answer(
        self,
        status: int,
        *,
        times: int | None = None,
        method: str | None = None,
        path: str | None = None,
        watch: bool | None = None,
        headers: Mapping[str, str] | None = None,
        message: str = "",
    ) -> Rule:
        """Answer requests with a Status instead of forwarding them.

        `path` is a part of the path and query. Without `times` the rule lasts until `clear`. The
        oldest matching rule applies; its `hits` count the answers.
        """
        rule = Rule(status, times, method, path, watch, dict(headers or {}), message)
        self._call(self._add(rule))
        return rule

    def clear(self) -> None:
        """Remove all rules."""
        self._call(self._clear())

    @property
    def watches(self) -> int:
        """Number of open watches, including silent ones."""
        return len(self._watches)

    @property
    def requests(self) -> list[Seen]:
        """All requests so far, forwarded or not."""
        return [Seen(each.time, each.method, each.path, each.status) for each in [*self._requests]]

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _serve(self, started: "Future[None]") -> None:
        self._loop = asyncio.get_running_loop()
        self._ended, self._thawed = asyncio.Event(), asyncio.Event()
        self._thawed.set()
        try:
            self._address, tls = _identity(self.upstream)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls, limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            )
            # Cancel the request to the API server when the client disconnects.
            self._server = web.Server(self._handle, handler_cancellation=True, access_log=None)
            await self._open()
        except BaseException as error:
            started.set_exception(error)
            raise
        started.set_result(None)
        await self._ended.wait()
        await self._close()
        await self._server.shutdown(PATIENCE)
        await self._session.close()

    async def _open(self) -> None:
        self._closed = False
        self._listener = await self._loop.create_server(
            self._server, "127.0.0.1", self._port.number, reuse_port=True
        )

    async def _close(self) -> None:
        self._closed = True
        self._listener.close()
        for connection in self._server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def _set_frozen(self, frozen: bool) -> None:
        if frozen:
            self._thawed.clear()
        else:
            self._thawed.set()

    async def _cut_watches(self) -> int:
        watches = [*self._watches]
        self._watches.clear()
        for watch in watches:
            _break(watch.request)
        return len(watches)

    async def _silence_watches(self) -> int:
        for watch in self._watches:
            watch.silent = True
        return len(self._watches)

    async def _inject(self, line: bytes) -> int:
        if not self._thawed.is_set():
            return 0
        watches = [watch for watch in self._watches if not watch.silent]
        for watch in watches:
            await watch.response.write(line)
        return len(watches)

    async def _add(self, rule: Rule) -> None:
        self._rules.append(rule)

    async def _clear(self) -> None:
        self._rules.clear()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._closed:  # accepted while the gate closed
            return _break(request)
        noted = _Request(time.time(), request.method, request.raw_path)
        self._requests.append(noted)
        watch = request.query.get("watch") in {"1", "true"}
        body = await request.read()
        await self._thawed.wait()
        for rule in self._rules:
            if rule.fits(request.method, request.raw_path, watch=watch):
                noted.status = rule.status
                return rule.answer()
        try:
            async with self._session.request(
                request.method,
                URL(self._address + request.raw_path, encoded=True),
                headers=_end_to_end(request.headers),
                data=body or None,
                allow_redirects=False,
            ) as answer:
                await self._thawed.wait()
                noted.status = answer.status
                return await self._pass_on(request, answer, watch=watch and answer.status == 200)
        except (aiohttp.ClientError, OSError):
            return _break(request)

    async def _pass_on(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, *, watch: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=_end_to_end(answer.headers))
        await response.prepare(request)
        if watch:
            await self._follow(_Watch(request, response), answer.content)
        else:
            async for chunk in answer.content.iter_any():
                await self._thawed.wait()
                await response.write(chunk)
        await response.write_eof()
        return response

    async def _follow(self, watch: _Watch, events: aiohttp.StreamReader) -> None:
        self._watches.add(watch)
        try:
            try:
                await self._forward_lines(watch, events)
            except (aiohttp.ClientError, OSError):
                if not watch.silent:
                    raise
            if watch.silent:  # until the client disconnects
                await self._loop.create_future()
        finally:
            self._watches.discard(watch)

    async def _forward_lines(self, watch: _Watch, events: aiohttp.StreamReader) -> None:
        """Forward whole lines, so that others can be sent between them."""
        rest = b""
        async for chunk in events.iter_any():
            lines, end, rest = (rest + chunk).rpartition(b"\n")
            await self._thawed.wait()
            if end and not watch.silent:
                await watch.response.write(lines + end)
        await self._thawed.wait()

    def _write_kubeconfig(self) -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "gate",
            "contexts": [{"name": "gate", "context": {"cluster": "gate", "user": "gate"}}],
            "clusters": [{"name": "gate", "cluster": {"server": self.url}}],
            "users": [{"name": "gate", "user": {}}],
        }
        self.kubeconfig.write_text(json.dumps(config))


def _break(request: web.BaseRequest) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP
    )


def _identity(kubeconfig: Path) -> tuple[str, ssl.SSLContext]:
    """Return the API server's address and a TLS context with the client certificate."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    tls = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as pair:
        for part in ("client-certificate-data", "client-key-data"):
            pair.write(base64.b64decode(user[part]))
        pair.flush()
        tls.load_cert_chain(pair.name)
    return str(cluster["server"]), tls
