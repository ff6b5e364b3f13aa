"""The webhook's TLS connections."""

import asyncio
import os
import socket
import ssl
from asyncio import sslproto
from contextlib import closing
from datetime import UTC, datetime, timedelta

from wazzup_operator.admission.connections import Connections
from wazzup_operator.certificates.issue import dump_bundle, make_authority, make_serving
from wazzup_operator.settings import Address


def serving_context(folder):
    now = datetime.now(UTC)
    pair = make_serving(make_authority(now), ["localhost"], now, timedelta(days=1))
    (folder / "tls.crt").write_bytes(dump_bundle([pair.certificate]))
    (folder / "tls.key").write_bytes(pair.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


async def never(connection, reader, writer):
    await asyncio.Event().wait()


async def test_no_closed_descriptor_is_watched_after_a_drop_as_the_handshake_ends(
    tmp_path, monkeypatch
):
    """It may be the next connection's descriptor, whose requests nobody would read."""
    connections, dropped = Connections(never), asyncio.Event()
    finish = sslproto.SSLProtocol._on_handshake_complete

    def finish_and_drop(protocol, error):
        finish(protocol, error)
        if protocol._server_side:
            assert connections._drop_oldest()
            dropped.set()

    monkeypatch.setattr(sslproto.SSLProtocol, "_on_handshake_complete", finish_and_drop)
    port = await connections.listen(Address("127.0.0.1", 0), serving_context(tmp_path))
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    silent = socket.create_connection(("127.0.0.1", port))
    with closing(await asyncio.to_thread(trusting.wrap_socket, silent)):
        await dropped.wait()
        await asyncio.gather(*connections._ending, return_exceptions=True)
        await asyncio.sleep(0)
        for key in asyncio.get_running_loop()._selector.get_map().values():
            os.fstat(key.fd)  # raises if it is closed
    await connections.close()
