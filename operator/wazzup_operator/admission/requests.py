"""Reads requests from the webhook's connections and writes the answers.

Supports the parts of HTTP/1.1 that API servers use, and limits requests: the size of a head, the
size and time of a body, and the bytes of all bodies together.
"""

import asyncio
import itertools
import mmap
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from wazzup_operator.admission.connections import Connection
from wazzup_operator.observability.health import KEEP_ALIVE

MAX_BODY = 8 * 2**20
"""Bytes: fits two versions of an object of 3 MiB, the API server's limit for a request."""

MAX_BYTES = 32 * 2**20
"""Bytes of all bodies over SMALL that are being received and reviewed."""

SMALL = 64 * 2**10
"""Bytes of a body that is always received: large bodies do not displace ordinary reviews."""

READ_TIMEOUT = 10.0
"""Maximum seconds for receiving a body; the API server sends it at once."""

WRITE_TIMEOUT = 10.0

LINGER = 1.0
"""Seconds until a connection is closed whose client is still sending what nobody reads. A client
that has not read the answer by then would lose it."""

_BEGINNING = 4 * 2**10
"""Bytes received of a body that is too large."""

_PIECE = 64 * 2**10

_IN_A_ROW = 16
"""Requests that a client may send without awaiting answers before others get their turn."""

_HEAD = re.compile(
    rb"([A-Z]+) (/[!-~]*) HTTP/1\.([01])\r\n"
    rb"((?:[!-9;-~]+:[^\r\n\0]*\r\n)*)\r\n"
)
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,15})[ \t]*\r$", re.IGNORECASE | re.MULTILINE)
_LENGTHS = re.compile(rb"^content-length:", re.IGNORECASE | re.MULTILINE)
_CHUNKED = re.compile(rb"^transfer-encoding:", re.IGNORECASE | re.MULTILINE)
_CLOSE = re.compile(rb"^connection:[^\r]*\bclose\b", re.IGNORECASE | re.MULTILINE)


Buffer = bytes | mmap.mmap
"""A body. A mapping takes memory as bytes arrive, and gives all of it back at once."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and a body, JSON if the status is 200."""

    status: int
    body: bytes

    @classmethod
    def failure(cls, status: int, sentence: str) -> "Answer":
        """Return an HTTP error, after which the API server applies the failurePolicy."""
        return cls(status, f"{sentence}\n".encode())

    def encoded(self, *, with_body: bool, close: bool) -> bytes:
        """Return the answer as sent."""
        body = self.body if with_body else b""
        kind = "application/json" if self.status == 200 else "text/plain; charset=utf-8"
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            *(["Connection: close"] if close else []),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True, slots=True)
class Request:
    """A request; `fault` is set if its body was not received completely."""

    method: str
    target: str
    body: Buffer
    started: float
    """When its head had arrived, by the event loop's clock."""
    fault: Answer | None = None


Respond = Callable[[Request], Awaitable[Answer]]


class Requests:
    """Answers the requests of all connections with one function."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self._bytes = 0
        self.draining = False
        """Whether to close each connection after its next answer."""

    async def serve(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer a connection's requests one after the other until it should be closed."""
        try:
            for number in itertools.count(1):
                if not await self._exchange(connection, reader, writer):
                    break
                if number % _IN_A_ROW == 0:
                    await asyncio.sleep(0)
        except asyncio.IncompleteReadError:
            return  # the client has disconnected
        writer.close()
        await writer.wait_closed()

    async def _exchange(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer a request; return whether another may follow."""
        head = await _read_head(reader)
        if isinstance(head, Answer):
            await _send(writer, head.encoded(with_body=True, close=True))
            return False
        started = asyncio.get_running_loop().time()
        body = _Body(self, reader, head.length)
        try:
            fault = await body.receive()
            request = Request(head.method, head.target, body.data, started, fault)
            with connection.request():
                answer = await self._respond(request)
        finally:
            body.release()
        close = head.close or self.draining or fault is not None
        await _send(writer, answer.encoded(with_body=head.method != "HEAD", close=close))
        if fault:
            await asyncio.sleep(LINGER)
        return not close

    def reserve(self, size: int) -> bool:
        """Count bytes of bodies; return False if there would be too many."""
        if size > 0 and self._bytes + size > MAX_BYTES:
            return False
        self._bytes += size
        return True


@dataclass(frozen=True, slots=True)
class _Head:
    method: str
    target: str
    length: int
    close: bool


async def _read_head(reader: asyncio.StreamReader) -> _Head | Answer:
    """Return the next request's head, or the answer to an invalid one."""
    try:
        async with asyncio.timeout(KEEP_ALIVE):
            data = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return Answer.failure(431, "The request's head is too large.")
    found = _HEAD.fullmatch(data)
    if not found:
        return Answer.failure(400, "The request is not HTTP/1.1.")
    method, target, minor, headers = found.groups()
    if _CHUNKED.search(headers):
        return Answer.failure(411, "Send the review with a Content-Length.")
    lengths = _LENGTH.findall(headers)
    if len(lengths) > 1 or len(lengths) != len(_LENGTHS.findall(headers)):
        return Answer.failure(400, "The request's Content-Length is invalid.")
    close = minor == b"0" or bool(_CLOSE.search(headers))
    return _Head(method.decode(), target.decode(), int(lengths[0]) if lengths else 0, close)


class _Body:
    """A request's body, whose bytes are counted."""

    def __init__(self, requests: Requests, reader: asyncio.StreamReader, length: int) -> None:
        self._requests = requests
        self._reader = reader
        self._length = length
        self._counted = 0
        self.data: Buffer = b""

    async def receive(self) -> Answer | None:
        """Receive the body; return the failure if it was not received completely."""
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                if self._length <= SMALL:
                    self.data = await self._reader.readexactly(self._length)
                    return None
                if self._length > MAX_BODY:
                    self.data = await self._reader.readexactly(_BEGINNING)
                    return Answer.failure(413, "The review is too large.")
                return await self._receive_large()
        except TimeoutError:
            return Answer.failure(408, "Timed out while receiving the review.")

    async def _receive_large(self) -> Answer | None:
        data = mmap.mmap(-1, self._length)
        while left := self._length - data.tell():
            piece = await self._reader.read(min(left, _PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            if not self._requests.reserve(len(piece)):
                return Answer.failure(503, "Too many large reviews are in progress.")
            self._counted += len(piece)
            data.write(piece)
        self.data = data
        return None

    def release(self) -> None:
        """Stop counting its bytes."""
        self._requests.reserve(-self._counted)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    async with asyncio.timeout(WRITE_TIMEOUT):
        await writer.drain()
