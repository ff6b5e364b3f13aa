"""The webhook's port under garbage, slow senders and many connections."""

import asyncio
import contextlib
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from dev.controlplane.plane import ControlPlane
from tests.integration.admission.connections import API_SERVER_WAITS, drop, halves
from tests.integration.harness.load import Load, creation, renumbering, started
from tests.integration.harness.webhook import (
    PATIENCE,
    Authority,
    Webhook,
    trusting,
)


@pytest.fixture(scope="module")
def sturdy(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    """One webhook for all tests of this file."""
    with started(plane, tmp_path_factory.mktemp("sturdy"), Authority()) as webhook:
        yield webhook


def quick(webhook: Webhook) -> None:
    """Check that the webhook answers within the API server's timeout."""
    assert webhook.runs
    started = time.monotonic()
    assert not webhook.review(renumbering())["allowed"]
    assert time.monotonic() - started < API_SERVER_WAITS
    assert webhook.probe("/healthz")[0] == 200


GARBAGE = {
    "plain HTTP": b"POST /channel HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
    "words": b"phone +79865784457\r\n\r\n",
    "noise": bytes(range(256)) * 64,
    "half a TLS ClientHello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "nothing": b"",
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_instead_of_tls_is_dropped(sturdy: Webhook, garbage: str) -> None:
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", sturdy.port), timeout=PATIENCE) as connection:
            connection.sendall(GARBAGE[garbage])
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while connection.recv(4096):
                    pass
    quick(sturdy)


@pytest.mark.parametrize(
    "garbage",
    [
        b"+79865784457 +79865784457 +79865784457\r\n\r\n",
        b"POST /channel HTTP/9.9\r\n\r\n",
        b"POST /+79865784457 HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST /channel HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"7" * 100_000 + b"\r\n\r\n",
        b"POST /channel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        bytes(range(256)) + b"\r\n\r\n",
    ],
    ids=["words", "HTTP 9", "no length", "a large head", "broken chunks", "noise"],
)
def test_garbage_instead_of_http_is_refused(sturdy: Webhook, garbage: bytes) -> None:
    for _ in range(20):
        with tls(sturdy) as connection, contextlib.suppress(OSError):
            connection.sendall(garbage)
            answer = connection.recv(4096)
            assert not answer or re.match(rb"HTTP/1.1 4\d\d ", answer), answer
    quick(sturdy)


@contextlib.contextmanager
def tls(webhook: Webhook) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", webhook.port), timeout=PATIENCE) as connection,
        trusting(webhook.trusted).wrap_socket(connection, server_hostname="localhost") as wrapped,
    ):
        yield wrapped


async def test_bodies_of_10_mib_are_refused_without_leaking_memory(sturdy: Webhook) -> None:
    quick(sturdy)
    head, first, second = halves(b'{"x": "' + b"7" * 10 * 2**20 + b'"}')

    async def send() -> bytes:
        """Return the status line; like the API server, read while sending."""
        reader, writer = await asyncio.open_connection(
            "localhost", sturdy.port, ssl=trusting(sturdy.trusted)
        )
        try:
            writer.write(head + first + second)
            async with asyncio.timeout(PATIENCE):
                return await reader.readline()
        finally:
            await drop(writer)

    statuses = {await send() for _ in range(3)}
    before = sturdy.resident()
    statuses |= {await send() for _ in range(20)}
    await asyncio.to_thread(quick, sturdy)
    assert sturdy.resident() < before + 20 * 1024
    assert {each.split()[1] for each in statuses} == {b"413"}


async def test_slow_senders_do_not_delay_others(sturdy: Webhook) -> None:
    head, first, second = halves(json.dumps(creation()).encode())
    context = trusting(sturdy.trusted)

    async def drip(at_once: bytes, bytewise: bytes) -> bytes:
        """Send a byte every 0.1 s until the answer arrives."""
        reader, writer = await asyncio.open_connection("localhost", sturdy.port, ssl=context)
        answer = asyncio.create_task(reader.read())
        try:
            writer.write(at_once)
            for byte in bytewise:
                writer.write(bytes([byte]))
                await asyncio.wait({answer}, timeout=0.1)
                if answer.done():
                    return answer.result()
            return b"no answer"
        finally:
            answer.cancel()
            await drop(writer)

    heads = [asyncio.create_task(drip(b"", head)) for _ in range(25)]
    bodies = [asyncio.create_task(drip(head, first + second)) for _ in range(25)]
    while not all(each.done() for each in bodies):
        await asyncio.to_thread(quick, sturdy)
        await asyncio.wait(bodies, timeout=1)
    for body in bodies:
        assert body.result().startswith(b"HTTP/1.1 408 ")
    for each in heads:
        each.cancel()
    await asyncio.gather(*heads, return_exceptions=True)


@pytest.mark.parametrize("handshake", [False, True], ids=["before TLS", "after TLS"])
async def test_a_thousand_connections_without_a_request(sturdy: Webhook, handshake: bool) -> None:
    """The oldest make room for new ones, and a connection that the API server keeps stays."""
    context = trusting(sturdy.trusted) if handshake else None
    kept = http.client.HTTPSConnection(
        "localhost", sturdy.port, timeout=PATIENCE, context=trusting(sturdy.trusted)
    )

    def used() -> int:
        kept.request("POST", "/channel", json.dumps(renumbering()))
        answer = kept.getresponse()
        answer.read()
        return answer.status

    async with contextlib.AsyncExitStack() as stack:
        stack.callback(kept.close)

        async def connect() -> None:
            with contextlib.suppress(OSError):  # it may be dropped within its handshake
                _, writer = await asyncio.open_connection("localhost", sturdy.port, ssl=context)
                stack.push_async_callback(drop, writer)

        assert await asyncio.to_thread(used) == 200
        for _ in range(20):
            await asyncio.gather(*(connect() for _ in range(50)))
        assert await asyncio.to_thread(used) == 200
        load = Load(sturdy, sturdy.trusted)
        await load.run(10, 200)
        assert load.failures == []
        assert load.slowest < API_SERVER_WAITS
        await asyncio.to_thread(quick, sturdy)
