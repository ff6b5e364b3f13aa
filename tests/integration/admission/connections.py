"""Connections to a webhook unlike the API server's."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from tests.integration.harness.webhook import PATIENCE, Webhook

API_SERVER_WAITS = 3.0
Start = Callable[..., Webhook]


def halves(body: bytes) -> tuple[bytes, bytes, bytes]:
    """Return a request's head and its body in two parts."""
    head = (
        b"POST /channel HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    return head, body[:100], body[100:]


def refuses_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


async def drop(writer: asyncio.StreamWriter) -> None:
    """Close a connection without TLS' closing handshake, and wait until it is closed."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
