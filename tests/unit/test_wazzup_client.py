"""WazzupClient against servers, proxies and certificates on loopback."""

import asyncio
import gzip
import json
import os
import ssl
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from wazzup_operator.certificates.issue import dump_bundle, make_authority, make_serving
from wazzup_operator.wazzup.client import MAX_REQUESTS, MAX_SLOW_REQUESTS, WazzupClient
from wazzup_operator.wazzup.errors import WazzupError
from wazzup_operator.wazzup.wire import read_listing

MIB = 2**20
KEY = "key-of-the-test"
LISTING = b'[{"channelId":"a","transport":"whatsapp","plainId":"79865784457","state":"active"}]'

Responder = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


class Server:
    """A server on loopback. `heads` are the heads of the requests it received."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.url = f"{scheme}://{'localhost' if scheme == 'https' else '127.0.0.1'}:{port}"
        self.heads: list[str] = []


@asynccontextmanager
async def serving(answer: Responder, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            server.heads.append(head.decode())
            await answer(head, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client gave up
        finally:
            writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    async with listener:
        server = Server(listener.sockets[0].getsockname()[1], "https" if tls else "http")
        yield server


def sending(*parts: bytes | Iterable[bytes]) -> Responder:
    async def answer(head: bytes, reader: object, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            for piece in [part] if isinstance(part, bytes) else part:
                writer.write(piece)
                await writer.drain()

    return answer


def ok(body: bytes = LISTING, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def listing(url: str) -> list[str]:
    """Return the listed channel ids."""
    client = WazzupClient(url, lambda operation, code, duration: None)
    try:
        return sorted((await client.list_channels(KEY)).channels)
    finally:
        await client.close()


async def error_of(answer: Responder) -> WazzupError:
    async with serving(answer) as server:
        with pytest.raises(WazzupError) as caught:
            await listing(server.url)
    assert caught.value.reason == "AccountUnreachable"
    assert str(caught.value).endswith(".")
    return caught.value


async def test_listing():
    async with serving(sending(ok())) as server:
        assert await listing(server.url) == ["a"]
    (head,) = server.heads
    assert head.startswith("GET /v3/channels HTTP/1.1\r\n")
    assert f"Authorization: Bearer {KEY}\r\n" in head


RAW_DEFLATE = zlib.compressobj(wbits=-15)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(LISTING)),
        ("gzip", gzip.compress(LISTING[:20]) + gzip.compress(LISTING[20:])),
        ("deflate", zlib.compress(LISTING)),
        ("deflate", RAW_DEFLATE.compress(LISTING) + RAW_DEFLATE.flush()),
    ],
    ids=["gzip", "gzip in two members", "deflate", "raw deflate"],
)
async def test_compressed_listing(encoding, body):
    async with serving(sending(ok(body, f"Content-Encoding: {encoding}"))) as server:
        assert await listing(server.url) == ["a"]


def bomb(encoding: str, mebibytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    space = b" " * MIB
    return b"".join([*(packer.compress(space) for _ in range(mebibytes)), packer.flush()])


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_decompression_bomb_takes_little_memory(encoding):
    body = bomb(encoding, 300)
    assert len(body) < MIB / 2
    tracemalloc.start()
    try:
        error = await error_of(sending(ok(body, f"Content-Encoding: {encoding}")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.code == "too-large"
    assert str(error) == "Wazzup's listing exceeds the operator's limit of 16 MiB."
    assert peak < 40 * MIB


@pytest.mark.parametrize(("spaces", "fits"), [(16 * MIB - 2, True), (16 * MIB - 1, False)])
@pytest.mark.parametrize("compressed", [False, True], ids=["", "gzip"])
async def test_size_limit_counts_decompressed_bytes(spaces, fits, compressed):
    body = b"[" + b" " * spaces + b"]"
    answer = ok(gzip.compress(body), "Content-Encoding: gzip") if compressed else ok(body)
    if not fits:
        assert (await error_of(sending(answer))).code == "too-large"
        return
    async with serving(sending(answer)) as server:
        assert await listing(server.url) == []


async def test_endless_answer():
    def endless() -> Iterator[bytes]:
        while True:
            yield b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await error_of(sending(chunked, endless()))).code == "too-large"


async def test_at_most_four_large_answers_are_read_at_once(monkeypatch):
    """Twelve answers of 15 MiB take the memory of four, and all are read."""
    # No parsing: the parser reserves memory that it never touches, but tracemalloc counts it.
    monkeypatch.setattr(
        "wazzup_operator.wazzup.client.read_listing", lambda body, previous: len(body)
    )
    body = [b"[", *([b" " * 65536] * 240), b"]"]
    size = sum(map(len, body))
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
    async with serving(sending(head, body)) as server:
        client = WazzupClient(server.url, lambda operation, code, duration: None)
        tracemalloc.start()
        try:
            found = await asyncio.gather(*(client.list_channels(KEY) for _ in range(12)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            await client.close()
    assert found == [size] * 12
    assert peak < 100 * MIB


async def hang(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@asynccontextmanager
async def many_hanging(count: int, *, slow: bool):
    """Yield a client and its server while so many requests hang or wait for a slot."""
    most = MAX_SLOW_REQUESTS if slow else MAX_REQUESTS
    all_hang = asyncio.Event()

    async def answer(head: bytes, *streams: Any) -> None:
        if len(server.heads) == most:
            all_hang.set()
        await (hang if b"hangs" in head else sending(ok()))(head, *streams)

    async with serving(answer) as server:
        client = WazzupClient(server.url, lambda operation, code, duration: None)
        hanging = [
            asyncio.create_task(client.list_channels("hangs", slow=slow)) for _ in range(count)
        ]
        async with asyncio.timeout(20):
            await all_hang.wait()
            yield client, server
        for each in hanging:
            each.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        await client.close()


async def test_accounts_that_hang_leave_slots_to_the_others():
    async with many_hanging(1000, slow=True) as (client, server):
        assert sorted((await client.list_channels(KEY)).channels) == ["a"]
        assert len(server.heads) == MAX_SLOW_REQUESTS + 1


async def test_the_requests_of_all_accounts_are_bounded(monkeypatch):
    async with many_hanging(MAX_REQUESTS, slow=False) as (client, server):
        observed = []
        monkeypatch.setattr("wazzup_operator.wazzup.client._SLOT_TIMEOUT", 0.1)
        monkeypatch.setattr(client, "_observe", lambda *request: observed.append(request))
        with pytest.raises(WazzupError, match="for those of other accounts") as caught:
            await client.list_channels(KEY)
        assert caught.value.code == "busy"
        assert len(server.heads) == MAX_REQUESTS
        assert observed == [("list_channels", "busy", 0.0)], "no request, no response time"


async def test_answer_times_out(monkeypatch):
    monkeypatch.setattr("wazzup_operator.wazzup.client._TOTAL_TIMEOUT", 0.2)
    error = await error_of(hang)
    assert error.code == "timeout"
    assert str(error) == "Wazzup did not answer within 0 s; the operator keeps retrying."


async def test_connection_times_out(monkeypatch):
    """The TLS handshake never finishes."""
    monkeypatch.setattr("wazzup_operator.wazzup.client._CONNECT_TIMEOUT", 0.2)
    async with serving(hang) as server:
        with pytest.raises(WazzupError) as caught:
            await listing(server.url.replace("http:", "https:"))
    assert caught.value.code == "timeout"
    assert str(caught.value) == (
        "Connecting to Wazzup timed out after 0 s; the operator keeps retrying. If this persists,"
        " check the network of the operator's pod."
    )


LARGE = b"[" + b" " * (2 * MIB) + b"]"


async def test_waiting_for_a_slot_does_not_count_as_response_time(monkeypatch):
    monkeypatch.setattr("wazzup_operator.wazzup.client._TOTAL_TIMEOUT", 1.0)
    durations = []
    async with serving(sending(ok(LARGE))) as server:
        client = WazzupClient(server.url, lambda *observed: durations.append(observed[1:]))
        async with AsyncExitStack() as others:
            for _ in range(4):
                await others.enter_async_context(client._large_bodies)
            waiting = asyncio.create_task(client.list_channels(KEY))
            await asyncio.sleep(1.5)
            assert not waiting.done()
        assert not (await waiting).channels
        await client.close()
    ((code, duration),) = durations
    assert code == "200"
    assert duration < 1


async def test_parsing_does_not_count_as_response_time(monkeypatch):
    durations, offset = [], 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + offset)
    monkeypatch.setattr("wazzup_operator.wazzup.client.time", clock)

    @asynccontextmanager
    async def lock_taking_an_hour():
        nonlocal offset
        offset += 3600
        yield

    async with serving(sending(ok(LARGE))) as server:
        client = WazzupClient(server.url, lambda *observed: durations.append(observed[2]))
        client._parsing = lock_taking_an_hour()
        assert not (await client.list_channels(KEY)).channels
        await client.close()
    assert offset == 3600
    assert durations[0] < 3600


async def test_waiting_for_a_slot_times_out(monkeypatch):
    monkeypatch.setattr("wazzup_operator.wazzup.client._SLOT_TIMEOUT", 0.1)
    async with serving(sending(ok(LARGE))) as server:
        client = WazzupClient(server.url, lambda operation, code, duration: None)
        async with AsyncExitStack() as others:
            for _ in range(4):
                await others.enter_async_context(client._large_bodies)
            with pytest.raises(WazzupError, match="for those of other accounts"):
                await client.list_channels(KEY)
        await client.close()


async def test_large_listings_do_not_block_the_event_loop(monkeypatch):
    """They are parsed in a thread, one at a time to save memory."""
    in_main_thread, parsing = [], []

    def read(body, previous):
        in_main_thread.append(threading.current_thread() is threading.main_thread())
        parsing.append(body)
        assert len(parsing) == 1
        time.sleep(0.05)
        parsing.clear()
        return read_listing(body, previous)

    monkeypatch.setattr("wazzup_operator.wazzup.client.read_listing", read)
    async with serving(sending(ok())) as server:
        await listing(server.url)
    async with serving(sending(ok(LARGE))) as server:
        client = WazzupClient(server.url, lambda operation, code, duration: None)
        await asyncio.gather(*(client.list_channels(KEY) for _ in range(4)))
        await client.close()
    assert in_main_thread == [True] + [False] * 4


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", id="invalid status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", id="invalid length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="negative length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000 + b"\r\n\r\n", id="long header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"A: a\r\n" * 10_000, id="many headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", id="NUL in a header"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="broken chunks"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]", id="truncated"),
        pytest.param(ok(LISTING, "Content-Encoding: gzip"), id="not gzip"),
        pytest.param(
            ok(gzip.compress(LISTING)[:-20], "Content-Encoding: gzip"), id="truncated gzip"
        ),
        pytest.param(ok(LISTING, "Content-Encoding: deflate"), id="not deflate"),
        pytest.param(
            ok(zlib.compress(LISTING)[:-20], "Content-Encoding: deflate"), id="truncated deflate"
        ),
        pytest.param(ok(LISTING, "Content-Encoding: br"), id="encoding not requested"),
        pytest.param(
            ok(gzip.compress(b"") * 100_000, "Content-Encoding: gzip"), id="gzip in 100,000 members"
        ),
        pytest.param(ok(b"[NaN]"), id="NaN"),
    ],
)
async def test_broken_answers_raise_wazzup_error(answer):
    error = await error_of(sending(answer))
    assert error.code in {"connection", "malformed"}
    assert "Traceback" not in str(error)


@pytest.mark.parametrize("length", [1, 20, 400, 4000])
async def test_retry_after_is_capped_at_an_hour(length):
    headers = f"Retry-After: {'9' * length}\r\nContent-Length: 0\r\n"
    error = await error_of(sending(f"HTTP/1.1 503 Away\r\n{headers}\r\n".encode()))
    assert error.retry_after == (9.0 if length == 1 else 3600.0)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(code):
    async with serving(sending(ok())) as other:
        to = f"HTTP/1.1 {code} Elsewhere\r\nLocation: {other.url}/v3/channels\r\n\r\n"
        error = await error_of(sending(to.encode()))
    assert error.code == str(code)
    assert "redirects to another address" in str(error)
    assert other.heads == []


async def test_a_wrong_url_is_named_as_the_cause():
    error = await error_of(sending(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
    assert (error.code, str(error)) == (
        "404",
        "There is no list of channels at this address (404). Check the operator's --wazzup-url.",
    )


async def test_cookies_are_not_kept():
    answer = ok(LISTING, "Set-Cookie: account=first; Path=/")
    async with serving(sending(answer)) as server:
        server.url = server.url.replace("127.0.0.1", "localhost")
        client = WazzupClient(server.url, lambda operation, code, duration: None)
        for key in ("key-one", "key-two"):
            await client.list_channels(key)
        await client.close()
    assert ["cookie" in head.lower() for head in server.heads] == [False, False]


async def test_netrc_is_ignored(tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with serving(sending(ok())) as server:
        assert await listing(server.url) == ["a"]
    assert f"Authorization: Bearer {KEY}\r\n" in server.heads[0]


# The remaining tests run the client in a process of its own, since it reads its environment once.

PROGRAM = f"""
import asyncio, json, sys
from wazzup_operator.wazzup.client import WazzupClient
from wazzup_operator.wazzup.errors import WazzupError

async def main():
    client = WazzupClient(sys.argv[1], lambda operation, code, duration: None)
    try:
        return sorted((await client.list_channels("{KEY}")).channels)
    except WazzupError as error:
        return str(error)
    finally:
        await client.close()

print(json.dumps(asyncio.run(main())))
"""


async def list_in_process(url: str, **environment: str) -> list[str] | str:
    """Return the listed channel ids, or the error's message."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        url,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert err == b""
    return json.loads(out)


async def relay(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Act as a CONNECT proxy that always connects to loopback."""
    port = int(head.split()[1].rsplit(b":", 1)[1])
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(65536):
            sink.write(piece)
        sink.close()

    await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))


@pytest.fixture
def authority():
    return make_authority(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def tls(authority, tmp_path) -> ssl.SSLContext:
    """Server context with a private CA's certificate for localhost and wazzup.example."""
    now = datetime.now(UTC).replace(microsecond=0)
    names = ["localhost", "wazzup.example"]
    pair = make_serving(authority, names, now, timedelta(days=30))
    (tmp_path / "tls.crt").write_bytes(dump_bundle([pair.certificate]))
    (tmp_path / "tls.key").write_bytes(pair.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    return context


@pytest.fixture
def ca_file(authority, tmp_path) -> str:
    (tmp_path / "ca.crt").write_bytes(dump_bundle([authority.certificate]))
    return str(tmp_path / "ca.crt")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
@pytest.mark.parametrize("form", ["http://{}", "{}", "http://me:secret@{}"])
async def test_http_proxy(variable, form):
    async with serving(sending(ok())) as proxy:
        address = form.format(proxy.address)
        found = await list_in_process("http://wazzup.example", **{variable: address})
        assert found == ["a"]
    (head,) = proxy.heads
    assert head.startswith("GET http://wazzup.example/v3/channels HTTP/1.1\r\n")
    assert ("Proxy-Authorization: Basic bWU6c2VjcmV0" in head) == ("secret" in form)


@pytest.mark.parametrize("form", ["http://{}", "{}", "http://me:secret@{}"])
async def test_https_proxy(tls, ca_file, form):
    """The proxy sees the destination, but neither the API key nor the listing."""
    async with serving(sending(ok()), tls) as server, serving(relay) as proxy:
        found = await list_in_process(
            f"https://wazzup.example:{server.port}",
            HTTPS_PROXY=form.format(proxy.address),
            SSL_CERT_FILE=ca_file,
        )
        assert found == ["a"]
    (connect,), (head,) = proxy.heads, server.heads
    assert connect.startswith(f"CONNECT wazzup.example:{server.port} HTTP/1.1\r\n")
    assert KEY not in connect
    assert ("Proxy-Authorization: Basic bWU6c2VjcmV0" in connect) == ("secret" in form)
    assert KEY in head
    assert "Proxy-Authorization" not in head


@pytest.mark.parametrize("exempt", ["127.0.0.1", "example.org,127.0.0.1", "*"])
async def test_no_proxy(exempt):
    async with serving(sending(ok())) as server, serving(sending(ok(b"[]"))) as proxy:
        url = f"http://{proxy.address}"
        assert await list_in_process(server.url, HTTP_PROXY=url) == []
        assert await list_in_process(server.url, HTTP_PROXY=url, NO_PROXY=exempt) == ["a"]
    assert len(proxy.heads) == len(server.heads) == 1


@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:1", "socks5://127.0.0.1:1", "http://", "http://a b:1", "x:y:z"]
)
async def test_unusable_proxy(proxy):
    message = await list_in_process("http://wazzup.example", HTTP_PROXY=proxy)
    assert isinstance(message, str)
    assert message.startswith("The connection to Wazzup failed (")


async def test_proxy_refuses(tls):
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    async with serving(sending(refusal)) as proxy:
        message = await list_in_process("https://wazzup.example", HTTPS_PROXY=proxy.address)
    assert isinstance(message, str)
    assert message.startswith("The connection to Wazzup failed (ClientHttpProxyError)")


NOT_TRUSTED = (
    "TLS with Wazzup failed, or its certificate is not trusted. If a proxy intercepts TLS, add its"
    " CA to the file that SSL_CERT_FILE names in the operator's pod."
)


async def test_unknown_authority(tls, ca_file):
    async with serving(sending(ok()), tls) as server:
        assert await list_in_process(server.url) == NOT_TRUSTED
        assert server.heads == []
        assert await list_in_process(server.url, SSL_CERT_FILE=ca_file) == ["a"]


async def test_certificate_for_another_name(tls, ca_file):
    async with serving(sending(ok()), tls) as server:
        url = server.url.replace("localhost", "127.0.0.1")
        assert await list_in_process(url, SSL_CERT_FILE=ca_file) == NOT_TRUSTED
    assert server.heads == []


async def test_unknown_authority_behind_a_proxy(tls):
    async with serving(sending(ok()), tls) as server, serving(relay) as proxy:
        message = await list_in_process(
            f"https://wazzup.example:{server.port}", HTTPS_PROXY=proxy.address
        )
    assert message == NOT_TRUSTED
    assert server.heads == []


async def test_server_without_tls():
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        assert await list_in_process(f"https://127.0.0.1:{port}") == NOT_TRUSTED
