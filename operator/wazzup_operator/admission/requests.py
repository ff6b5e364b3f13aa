"""Reads requests from the webhook's connections and writes the answers.

h11 speaks HTTP/1.1. This module limits requests: the size of a head, the size and time of a body,
and the bytes of all bodies together.
"""

import asyncio
import itertools
import mmap
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

import h11

from wazzup_operator.admission.connections import Connection
from wazzup_operator.observability.health import KEEP_ALIVE

MAX_BODY = 8 * 2**20
"""Bytes: fits two versions of an object of 3 MiB, the API server's limit for a request."""

MAX_BYTES = 16 * 2**20
"""Bytes of all bodies over SMALL that are being received and reviewed."""

SMALL = 64 * 2**10
"""Bytes of a body that is always received: large bodies do not displace ordinary reviews."""

READ_TIMEOUT = 10.0
"""Maximum seconds for receiving a body; the API server sends it at once."""

WRITE_TIMEOUT = 10.0

LINGER = 1.0
"""Seconds until a connection is closed whose client is still sending what nobody reads. A client
that has not read the answer by then would lose it."""

_MAX_HEAD = 16 * 2**10
"""Bytes of a request's head."""

_BEGINNING = 4 * 2**10
"""Bytes received of a body that is too large."""

_PIECE = 16 * 2**10

_IN_A_ROW = 16
"""Requests that a client may send without awaiting answers before others get their turn."""


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
        http = _Http(reader, writer)
        for number in itertools.count(1):
            try:
                reusable = await self._exchange(connection, http)
            except h11.RemoteProtocolError as error:
                fault = f"The request is not valid HTTP/1.1: {error}."
                await http.send(Answer.failure(error.error_status_hint, fault), close=True)
                reusable = False
            if not reusable or not http.next_request():
                break
            if number % _IN_A_ROW == 0:
                await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()

    async def _exchange(self, connection: Connection, http: "_Http") -> bool:
        """Answer a request; return whether another may follow."""
        async with asyncio.timeout(KEEP_ALIVE):
            head = await http.event()
        if not isinstance(head, h11.Request):
            return False  # the client has disconnected
        started = asyncio.get_running_loop().time()
        body = _Body(self, http, head)
        try:
            fault = await body.receive()
            target = head.target.decode("ascii")
            request = Request(head.method.decode("ascii"), target, body.data, started, fault)
            with connection.request():
                answer = await self._respond(request)
        finally:
            body.release()
        close = self.draining or fault is not None
        await http.send(answer, close=close, with_body=head.method != b"HEAD")
        if fault:
            await asyncio.sleep(LINGER)
        return not close

    def reserve(self, size: int) -> bool:
        """Count bytes of bodies; return False if there would be too many."""
        if size > 0 and self._bytes + size > MAX_BYTES:
            return False
        self._bytes += size
        return True


class _Http:
    """HTTP/1.1 over a connection's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)

    async def event(self) -> object:
        """Return the next event. Raises h11.RemoteProtocolError."""
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self._reader.read(_PIECE))
        return event

    async def body(self) -> AsyncIterator[bytes]:
        """Yield a request's body in pieces."""
        while isinstance(event := await self.event(), h11.Data):
            yield bytes(event.data)

    async def send(self, answer: Answer, *, close: bool, with_body: bool = True) -> None:
        """Send an answer; do nothing if one has been sent already."""
        if self._h11.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        body = answer.body if with_body else b""
        kind = "application/json" if answer.status == 200 else "text/plain; charset=utf-8"
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        response = h11.Response(
            status_code=answer.status,
            reason=HTTPStatus(answer.status).phrase,
            headers=[*headers, ("Connection", "close")] if close else headers,
        )
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self._writer.write(self._h11.send(event) or b"")
        async with asyncio.timeout(WRITE_TIMEOUT):
            await self._writer.drain()

    def next_request(self) -> bool:
        """Prepare for another request; return False if the connection must be closed."""
        if (self._h11.our_state, self._h11.their_state) != (h11.DONE, h11.DONE):
            return False
        self._h11.start_next_cycle()
        return True


class _Body:
    """A request's body, whose bytes are counted."""

    def __init__(self, requests: Requests, http: _Http, head: h11.Request) -> None:
        self._requests = requests
        self._http = http
        self._headers = dict(head.headers)
        self._length = int(self._headers.get(b"content-length", 0))
        self._counted = 0
        self.data: Buffer = b""

    async def receive(self) -> Answer | None:
        """Receive the body; return the failure if it was not received completely."""
        if b"transfer-encoding" in self._headers:
            return Answer.failure(411, "Send the review with a Content-Length.")
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                if self._length > MAX_BODY:
                    self.data = await self._receive_beginning()
                    return Answer.failure(413, "The review is too large.")
                if self._length > SMALL:
                    return await self._receive_large()
                self.data = b"".join([piece async for piece in self._http.body()])
                return None
        except TimeoutError:
            return Answer.failure(408, "Timed out while receiving the review.")

    async def _receive_beginning(self) -> bytes:
        data = b""
        async for piece in self._http.body():
            data += piece
            if len(data) >= _BEGINNING:
                break
        return data[:_BEGINNING]

    async def _receive_large(self) -> Answer | None:
        data = mmap.mmap(-1, self._length)
        async for piece in self._http.body():
            if not self._requests.reserve(len(piece)):
                return Answer.failure(503, "Too many large reviews are in progress.")
            self._counted += len(piece)
            data.write(piece)
        self.data = data
        return None

    def release(self) -> None:
        """Stop counting its bytes."""
        self._requests.reserve(-self._counted)
