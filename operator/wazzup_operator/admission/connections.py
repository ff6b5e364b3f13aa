"""The webhook's TLS connections. At the limit, a new one replaces an old one without a request."""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from asyncio import sslproto
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, cast

from wazzup_operator.observability.health import unavailable
from wazzup_operator.settings import Address

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 128
"""Each takes up to 300 KiB. It exceeds MAX_REVIEWS, so that some are always without a request."""

HANDSHAKE_TIMEOUT = 10.0
"""Maximum seconds for TLS' handshake; the API server starts it at once."""

_SHUTDOWN_TIMEOUT = 1.0

_BUFFER = 16 * 2**10
"""Bytes that a connection reads ahead; asyncio pauses it at twice as many."""

_READ_AHEAD = 64 * 2**10
"""Bytes that are received from a client before something reads them."""

_BACKLOG = 128

_ACCEPTED_AT_ONCE = 16
"""Connections accepted before the event loop serves the others again."""

_PAUSE = 1.0
"""Seconds without accepting once file descriptors or memory have run out."""

_QUIET = 60.0
"""Minimum seconds between two log lines about dropped connections."""


# For each TLS connection, asyncio allocates as much, by default 256 KiB, and decrypts it at once.
sslproto.SSLProtocol.max_size = _READ_AHEAD


class Connection:
    """A client's connection, from its acceptance on."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.since = time.monotonic()
        """When it was accepted, or when its last request was answered."""
        self.served = False
        self.busy = False
        """Whether it has sent a whole request and waits for the answer."""

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Protect the connection from being dropped while its request is answered."""
        self.busy = True
        try:
            yield
        finally:
            self.busy, self.served, self.since = False, True, time.monotonic()


Serve = Callable[[Connection, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Answers a connection's requests until it should be closed."""


class Connections:
    """Accepts connections and has each served by a task of its own."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._tasks: dict[Connection, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._listeners: list[socket.socket] = []
        self._tls: ssl.SSLContext | None = None
        self._logged = float("-inf")

    async def listen(self, address: Address, tls: ssl.SSLContext | None) -> int:
        """Accept connections; return the port. Raises OSError if the address is not available."""
        loop = asyncio.get_running_loop()
        self._tls = tls
        try:
            bound = await loop.create_server(
                asyncio.Protocol, address.host or None, address.port, start_serving=False
            )
        except OSError as error:
            raise unavailable(address, error) from error
        self._listeners = [each.dup() for each in bound.sockets]
        bound.close()
        for listener in self._listeners:
            listener.listen(_BACKLOG)
            loop.add_reader(listener, self._accept, listener)
        port: int = self._listeners[0].getsockname()[1]
        return port

    def stop_listening(self) -> None:
        """Accept no more connections; serve the open ones."""
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
            self._accept(listener)
            listener.close()
        self._listeners.clear()

    async def close(self) -> None:
        """Close the connections; wait for the answers of those with a request."""
        self.stop_listening()
        for connection in list(self._tasks):
            if not connection.busy:
                self._drop(connection)
        await asyncio.gather(*self._tasks.values(), *self._ending, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(listener, error)
                return
            accepted.setblocking(False)
            if len(self._tasks) >= MAX_CONNECTIONS and not self._drop_oldest():
                accepted.close()
                continue
            connection = Connection(address[0])
            task = asyncio.create_task(self._run(connection, accepted))
            self._tasks[connection] = task
            # A task that is cancelled before it starts would leave its socket open.
            task.add_done_callback(partial(_close, accepted))

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        """Accept nothing for a moment; otherwise the loop would call `_accept` without a pause."""
        log.error("Cannot accept connections: %s; retrying in %g s", error.strerror, _PAUSE)
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(_PAUSE, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _drop_oldest(self) -> bool:
        """Drop a connection without a request; return False if each has one.

        The host with the most loses one. Of hosts behind one address, a client that opens many gets
        at most half of them at the expense of the API server, which keeps its own open between
        reviews.
        """
        idle = [each for each in self._tasks if not each.busy]
        if not idle:
            return False
        ((host, _),) = Counter(each.host for each in idle).most_common(1)
        idle = [each for each in idle if each.host == host]
        kept = [each for each in idle if each.served]
        unused = [each for each in idle if not each.served]
        more = kept if len(kept) > len(unused) else unused
        self._drop(min(more, key=lambda each: each.since))
        if time.monotonic() - self._logged > _QUIET:
            self._logged = time.monotonic()
            log.warning(
                "All %d connections are in use; dropping the oldest ones without a request",
                MAX_CONNECTIONS,
            )
        return True

    def _drop(self, connection: Connection) -> None:
        task = self._tasks.pop(connection)
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _run(self, connection: Connection, accepted: socket.socket) -> None:
        try:
            await self._handshake_and_serve(connection, accepted)
        except OSError:
            pass  # also a TLS error or a timeout; the client's concern
        except Exception:
            log.exception("Cannot serve a connection")
        finally:
            self._tasks.pop(connection, None)

    async def _handshake_and_serve(self, connection: Connection, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_BUFFER)
        protocol = _Protocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT if self._tls else None,
                ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT if self._tls else None,
            )
            if self._tls:
                cast(Any, transport).set_read_buffer_limits(_READ_AHEAD)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            await self._serve(connection, reader, writer)
        finally:
            protocol.abort()


class _Protocol(asyncio.StreamReaderProtocol):
    """Ends its transport even if the task is cancelled just as the handshake is done.

    asyncio then shuts TLS down in its own time, on a socket that is closed by then: it would watch
    a descriptor that belongs to another connection, which nobody would read any more.
    """

    _made: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made = transport
        super().connection_made(transport)

    def abort(self) -> None:
        if self._made:
            cast(asyncio.WriteTransport, self._made).abort()


def _close(accepted: socket.socket, _: asyncio.Task[None]) -> None:
    accepted.close()
