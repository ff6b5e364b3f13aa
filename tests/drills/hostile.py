"""Hostile senders, in a process of their own: python -m tests.drills.hostile PORT KIND...

It runs ten senders of each kind until it is stopped, and prints each second what they have sent.
"""

import asyncio
import contextlib
import json
import ssl
import sys
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

SENDERS = 10
PAUSE = 0.01
PATIENCE = 3.0
"""Seconds until a sender gives up on an answer, like the API server."""

MIB = 2**20
LARGEST = 8 * MIB - 1024
OVER = 10 * MIB
KEPT = 60
"""Connections that a sender holds open."""

TLS = ssl.create_default_context()
TLS.check_hostname = False
TLS.verify_mode = ssl.CERT_NONE

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Send = Callable[[int, int], Awaitable[None]]
"""Sends to a port as the sender of this number."""

sent: Counter[str] = Counter()


def review(spec: bytes = b"") -> bytes:
    """Return a review that is allowed, with this in its spec."""
    body = {
        "apiVersion": "wazzup.dev/v1",
        "kind": "WazzupChannel",
        "metadata": {"name": "hostile", "namespace": "default", "uid": "1"},
        "spec": {"phoneNumber": "+79865784457"},
    }
    resource = {"group": "wazzup.dev", "version": "v1", "resource": "wazzupchannels"}
    whole = {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {"uid": "1", "resource": resource, "operation": "CREATE", "object": body},
    }
    return json.dumps(whole).encode().replace(b'"spec": {', b'"spec": {' + spec)


def padded(before: bytes, piece: bytes, after: bytes, size: int = LARGEST) -> bytes:
    """Return a review with a field that repeats `piece` until the review has this size."""
    count = (size - len(review())) // len(piece)
    return review(b'"x": ' + before + piece * count + after + b", ")


def request(body: bytes, *headers: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = ["POST /channel HTTP/1.1", "Host: x", *headers, f"Content-Length: {size}", "", ""]
    return "\r\n".join(lines).encode() + body


@contextlib.asynccontextmanager
async def connected(port: int, tls: ssl.SSLContext | None = TLS) -> AsyncIterator[Streams]:
    """Connect from a host of its own."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls, local_addr=("127.0.0.2", 0)
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def requests(kind: str, make: Callable[[], bytes]) -> Send:
    """Send a request and await its answer, again and again."""
    made: list[bytes] = []

    async def send(port: int, number: int) -> None:
        data = made[0] if made else made.append(request(make())) or made[0]
        async with connected(port) as (reader, writer):
            while True:
                writer.write(data)
                sent[kind] += 1
                async with asyncio.timeout(PATIENCE):
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = head.lower().partition(b"content-length:")[2].split()[0]
                    await reader.readexactly(int(length))
                if b"connection: close" in head.lower():
                    return
                await asyncio.sleep(PAUSE)

    return send


async def slow(port: int, number: int) -> None:
    """Send a head or a body bytewise, or stop within a large body."""
    body = review()
    head = request(b"", length=len(body))
    half = request(bytes(7 * MIB), length=LARGEST)
    at_once, bytewise = ((b"", head), (head, body), (half, b""))[number % 3]
    async with connected(port) as (reader, writer):
        ended = asyncio.create_task(reader.read())
        writer.write(at_once)
        sent["slow"] += 1
        for byte in bytewise:
            writer.write(bytes([byte]))
            await asyncio.wait({ended}, timeout=0.1)
            if ended.done():
                return
        await ended


async def many_connections(port: int, number: int) -> None:
    """Open connections, half of them with TLS, and hold the newest ones."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(KEPT):
            await stack.enter_async_context(connected(port, TLS if number % 2 else None))
            sent["many connections"] += 1


async def unread(port: int, number: int) -> None:
    """Send requests without reading an answer."""
    data = request(review() if number % 2 else b"") * 50
    async with connected(port) as (_, writer), asyncio.timeout(PATIENCE):
        while not writer.is_closing():
            writer.write(data)
            await writer.drain()
            sent["unread"] += 50
            await asyncio.sleep(PAUSE)


async def malformed(port: int, number: int) -> None:
    """Send a head without an end, a body in tiny chunks, or one that grows when decompressed."""
    chunked = b"POST /channel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    start, piece = (
        (b"POST /channel HTTP/1.1\r\nHost: x\r\n", b"a: b\r\n" * 10_000),
        (chunked, b"1\r\n1\r\n" * 10_000),
        (request(BOMB, "Content-Encoding: deflate"), b""),
    )[number % 3]
    async with connected(port) as (reader, writer), asyncio.timeout(PATIENCE):
        ended = asyncio.create_task(reader.read())
        writer.write(start)
        sent["malformed"] += 1
        while piece and not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(PAUSE)
        await ended


BOMB = zlib.compress(bytes(64 * MIB))

BODIES = {
    "huge": lambda: padded(b'"', b"x", b'"'),
    "larger than allowed": lambda: padded(b'"', b"\\u003c", b'"', OVER),
    "deep": lambda: padded(b"", b"[", b""),
    "many elements": lambda: padded(b"[", b"{},", b"{}]"),
    "honest-looking": review,
}
KINDS: dict[str, Send] = {
    **{kind: requests(kind, make) for kind, make in BODIES.items()},
    "slow": slow,
    "many connections": many_connections,
    "unread": unread,
    "malformed": malformed,
}


async def sender(port: int, kind: str, number: int) -> None:
    while True:
        with contextlib.suppress(OSError, EOFError):
            await KINDS[kind](port, number)
        await asyncio.sleep(PAUSE)


async def main(port: int, kinds: list[str]) -> None:
    async with asyncio.TaskGroup() as group:
        for kind in kinds:
            for number in range(SENDERS):
                group.create_task(sender(port, kind, number))
        while True:
            await asyncio.sleep(1)
            print(json.dumps(sent), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
