"""What WazzupClient makes of whatever answers: servers, proxies and certificates on loopback."""

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
from wazzup_operator.wazzup.client import WazzupClient
from wazzup_operator.wazzup.errors import WazzupError
from wazzup_operator.wazzup.wire import read_listing

MIB = 2**20
KEY = "key-of-the-test"
LISTING = b'[{"channelId":"a","transport":"whatsapp","plainId":"79865784457","state":"active"}]'

Answering = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


class Server:
    """A server on loopback; `heads` are the requests that it got."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.url = f"{scheme}://{'localhost' if scheme == 'https' else '127.0.0.1'}:{port}"
        self.heads: list[str] = []


@asynccontextmanager
async def serving(answer: Answering, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
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


def saying(*parts: bytes | Iterable[bytes]) -> Answering:
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
    """Return the ids that are listed there."""
    client = WazzupClient(url, lambda operation, code, duration: None)
    try:
        return sorted((await client.list_channels(KEY)).channels)
    finally:
        await client.close()


async def failing(answer: Answering) -> WazzupError:
    async with serving(answer) as server:
        with pytest.raises(WazzupError) as caught:
            await listing(server.url)
    assert caught.value.reason == "AccountUnreachable"
    assert str(caught.value).endswith(".")
    return caught.value


async def test_a_listing():
    async with serving(saying(ok())) as server:
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
    ids=["gzip", "gzip in two members", "deflate", "deflate without a header"],
)
async def test_a_compressed_listing(encoding, body):
    async with serving(saying(ok(body, f"Content-Encoding: {encoding}"))) as server:
        assert await listing(server.url) == ["a"]


def bomb(encoding: str, mebibytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    space = b" " * MIB
    return b"".join([*(packer.compress(space) for _ in range(mebibytes)), packer.flush()])


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_takes_little_memory(encoding):
    body = bomb(encoding, 300)
    assert len(body) < MIB / 2
    tracemalloc.start()
    try:
        error = await failing(saying(ok(body, f"Content-Encoding: {encoding}")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.code == "too-large"
    assert str(error) == "Wazzup's listing is larger than the 16 MiB that the operator reads."
    assert peak < 40 * MIB


@pytest.mark.parametrize(("spaces", "fits"), [(16 * MIB - 2, True), (16 * MIB - 1, False)])
@pytest.mark.parametrize("packed", [False, True], ids=["", "gzip"])
async def test_the_limit_is_of_decompressed_bytes(spaces, fits, packed):
    body = b"[" + b" " * spaces + b"]"
    answer = ok(gzip.compress(body), "Content-Encoding: gzip") if packed else ok(body)
    if not fits:
        assert (await failing(saying(answer))).code == "too-large"
        return
    async with serving(saying(answer)) as server:
        assert await listing(server.url) == []


async def test_an_endless_answer():
    def endless() -> Iterator[bytes]:
        while True:
            yield b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await failing(saying(chunked, endless()))).code == "too-large"


async def test_large_answers_take_turns(monkeypatch):
    """A dozen of 15 MiB at once hold no more than four of them, and all are read."""
    # The parser's own memory is reserved and not touched, which tracemalloc cannot tell.
    monkeypatch.setattr("wazzup_operator.wazzup.client.read_listing", len)
    body = [b"[", *([b" " * 65536] * 240), b"]"]
    size = sum(map(len, body))
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
    async with serving(saying(head, body)) as server:
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


async def test_accounts_that_hang_are_in_nobody_s_way():
    """150 of them, where a session has 100 connections by default."""
    all_hang = asyncio.Event()

    async def answer(head: bytes, *streams: Any) -> None:
        if len(server.heads) == 150:
            all_hang.set()
        await (hang if b"hangs" in head else saying(ok()))(head, *streams)

    async with serving(answer) as server:
        client = WazzupClient(server.url, lambda operation, code, duration: None)
        hanging = [asyncio.create_task(client.list_channels("hangs")) for _ in range(150)]
        async with asyncio.timeout(20):
            await all_hang.wait()
            assert sorted((await client.list_channels(KEY)).channels) == ["a"]
        for each in hanging:
            each.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        await client.close()


async def test_no_answer(monkeypatch):
    monkeypatch.setattr("wazzup_operator.wazzup.client._TOTAL", 0.2)
    error = await failing(hang)
    assert error.code == "timeout"
    assert str(error) == "Wazzup did not answer within 0 s; the operator goes on trying."


async def test_no_connection(monkeypatch):
    """Here TLS never comes about."""
    monkeypatch.setattr("wazzup_operator.wazzup.client._CONNECT", 0.2)
    async with serving(hang) as server:
        with pytest.raises(WazzupError) as caught:
            await listing(server.url.replace("http:", "https:"))
    assert caught.value.code == "timeout"
    assert str(caught.value) == (
        "No connection to Wazzup came about within 0 s; the operator goes on trying. If this stays,"
        " check the network from the operator's pod."
    )


LARGE = b"[" + b" " * (2 * MIB) + b"]"


async def test_the_turn_of_a_large_answer_is_not_wazzup_s_time(monkeypatch):
    monkeypatch.setattr("wazzup_operator.wazzup.client._TOTAL", 1.0)
    durations = []
    async with serving(saying(ok(LARGE))) as server:
        client = WazzupClient(server.url, lambda *told: durations.append(told[1:]))
        async with AsyncExitStack() as others:
            for _ in range(4):
                await others.enter_async_context(client._large)
            waiting = asyncio.create_task(client.list_channels(KEY))
            await asyncio.sleep(1.5)
            assert not waiting.done()
        assert not (await waiting).channels
        await client.close()
    ((code, duration),) = durations
    assert code == "200"
    assert duration < 1


async def test_what_reading_a_large_answer_takes_is_not_wazzup_s_time(monkeypatch):
    durations, ahead = [], 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead)
    monkeypatch.setattr("wazzup_operator.wazzup.client.time", clock)

    @asynccontextmanager
    async def an_hour():
        nonlocal ahead
        ahead += 3600
        yield

    async with serving(saying(ok(LARGE))) as server:
        client = WazzupClient(server.url, lambda *told: durations.append(told[2]))
        client._parsing = an_hour()
        assert not (await client.list_channels(KEY)).channels
        await client.close()
    assert ahead == 3600
    assert durations[0] < 3600


async def test_a_turn_that_does_not_come(monkeypatch):
    monkeypatch.setattr("wazzup_operator.wazzup.client._SLOT_TIMEOUT", 0.1)
    async with serving(saying(ok(LARGE))) as server:
        client = WazzupClient(server.url, lambda operation, code, duration: None)
        async with AsyncExitStack() as others:
            for _ in range(4):
                await others.enter_async_context(client._large)
            with pytest.raises(WazzupError, match="Other listings of more than 1 MiB took so long"):
                await client.list_channels(KEY)
        await client.close()


async def test_a_large_listing_holds_up_nothing_else(monkeypatch):
    """It is read in a thread, and none besides it, for the sake of memory."""
    here, reading = [], []

    def read(body):
        here.append(threading.current_thread() is threading.main_thread())
        reading.append(body)
        assert len(reading) == 1
        time.sleep(0.05)
        reading.clear()
        return read_listing(body)

    monkeypatch.setattr("wazzup_operator.wazzup.client.read_listing", read)
    async with serving(saying(ok())) as server:
        await listing(server.url)
    async with serving(saying(ok(LARGE))) as server:
        client = WazzupClient(server.url, lambda operation, code, duration: None)
        await asyncio.gather(*(client.list_channels(KEY) for _ in range(4)))
        await client.close()
    assert here == [True] + [False] * 4


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", id="no length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="a negative length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000 + b"\r\n\r\n", id="a long header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"A: a\r\n" * 10_000, id="many headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", id="NUL in a header"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="broken chunks"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]", id="cut"),
        pytest.param(ok(LISTING, "Content-Encoding: gzip"), id="not gzip"),
        pytest.param(ok(gzip.compress(LISTING)[:-20], "Content-Encoding: gzip"), id="half a gzip"),
        pytest.param(ok(LISTING, "Content-Encoding: deflate"), id="not deflate"),
        pytest.param(
            ok(zlib.compress(LISTING)[:-20], "Content-Encoding: deflate"), id="half a deflate"
        ),
        pytest.param(ok(LISTING, "Content-Encoding: br"), id="an encoding nobody asked for"),
        pytest.param(
            ok(gzip.compress(b"") * 100_000, "Content-Encoding: gzip"), id="100,000 members"
        ),
        pytest.param(ok(b"[NaN]"), id="NaN"),
    ],
)
async def test_what_is_no_answer(answer):
    """Whatever it is, there is one sentence, and no other error."""
    error = await failing(saying(answer))
    assert error.code in {"connection", "malformed"}
    assert "Traceback" not in str(error)


@pytest.mark.parametrize("length", [1, 20, 400, 4000])
async def test_an_endless_retry_after(length):
    headers = f"Retry-After: {'9' * length}\r\nContent-Length: 0\r\n"
    error = await failing(saying(f"HTTP/1.1 503 Away\r\n{headers}\r\n".encode()))
    assert error.retry_after == (9.0 if length == 1 else 3600.0)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_takes_the_key_nowhere(code):
    async with serving(saying(ok())) as other:
        to = f"HTTP/1.1 {code} Elsewhere\r\nLocation: {other.url}/v3/channels\r\n\r\n"
        error = await failing(saying(to.encode()))
    assert error.code == str(code)
    assert "redirects to another address" in str(error)
    assert other.heads == []


async def test_cookies_are_not_kept():
    answer = ok(LISTING, "Set-Cookie: account=first; Path=/")
    async with serving(saying(answer)) as server:
        server.url = server.url.replace("127.0.0.1", "localhost")
        client = WazzupClient(server.url, lambda operation, code, duration: None)
        for key in ("key-one", "key-two"):
            await client.list_channels(key)
        await client.close()
    assert ["cookie" in head.lower() for head in server.heads] == [False, False]


async def test_a_netrc_is_not_read(tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with serving(saying(ok())) as server:
        assert await listing(server.url) == ["a"]
    assert f"Authorization: Bearer {KEY}\r\n" in server.heads[0]


# From here on the client is a process of its own, as its environment is read at the start.

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


async def listed_by_a_process(url: str, **environment: str) -> list[str] | str:
    """Return the ids that are listed there, or the error's sentence."""
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
    """Do what a proxy does with CONNECT, whoever the host is: there is only loopback."""
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
    """The server side of a private CA, for localhost and wazzup.example."""
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
async def test_a_proxy_for_http(variable, form):
    async with serving(saying(ok())) as proxy:
        address = form.format(proxy.address)
        found = await listed_by_a_process("http://wazzup.example", **{variable: address})
        assert found == ["a"]
    (head,) = proxy.heads
    assert head.startswith("GET http://wazzup.example/v3/channels HTTP/1.1\r\n")
    assert ("Proxy-Authorization: Basic bWU6c2VjcmV0" in head) == ("secret" in form)


@pytest.mark.parametrize("form", ["http://{}", "{}", "http://me:secret@{}"])
async def test_a_proxy_for_https(tls, ca_file, form):
    """The proxy sees where it goes, and neither the key nor the listing."""
    async with serving(saying(ok()), tls) as server, serving(relay) as proxy:
        found = await listed_by_a_process(
            f"https://wazzup.example:{server.port}",
            HTTPS_PROXY=form.format(proxy.address),
            SSL_CERT_FILE=ca_file,
        )
        assert found == ["a"]
    (asked,), (head,) = proxy.heads, server.heads
    assert asked.startswith(f"CONNECT wazzup.example:{server.port} HTTP/1.1\r\n")
    assert KEY not in asked
    assert ("Proxy-Authorization: Basic bWU6c2VjcmV0" in asked) == ("secret" in form)
    assert KEY in head
    assert "Proxy-Authorization" not in head


@pytest.mark.parametrize("exempt", ["127.0.0.1", "example.org,127.0.0.1", "*"])
async def test_no_proxy(exempt):
    async with serving(saying(ok())) as server, serving(saying(ok(b"[]"))) as proxy:
        url = f"http://{proxy.address}"
        assert await listed_by_a_process(server.url, HTTP_PROXY=url) == []
        assert await listed_by_a_process(server.url, HTTP_PROXY=url, NO_PROXY=exempt) == ["a"]
    assert len(proxy.heads) == len(server.heads) == 1


@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:1", "socks5://127.0.0.1:1", "http://", "http://a b:1", "x:y:z"]
)
async def test_a_proxy_that_is_none(proxy):
    said = await listed_by_a_process("http://wazzup.example", HTTP_PROXY=proxy)
    assert isinstance(said, str)
    assert said.startswith("The connection to Wazzup failed (")


async def test_a_proxy_that_refuses(tls):
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    async with serving(saying(refusal)) as proxy:
        said = await listed_by_a_process("https://wazzup.example", HTTPS_PROXY=proxy.address)
    assert isinstance(said, str)
    assert said.startswith("The connection to Wazzup failed (ClientHttpProxyError)")


NOT_TRUSTED = (
    "The certificate of Wazzup's server is not trusted, or TLS failed with it; if a proxy of yours"
    " stands in for it, put that proxy's CA into the file that SSL_CERT_FILE names in the"
    " operator's pod."
)


async def test_a_certificate_of_nobody_known(tls, ca_file):
    async with serving(saying(ok()), tls) as server:
        assert await listed_by_a_process(server.url) == NOT_TRUSTED
        assert server.heads == []
        assert await listed_by_a_process(server.url, SSL_CERT_FILE=ca_file) == ["a"]


async def test_a_certificate_for_another_name(tls, ca_file):
    async with serving(saying(ok()), tls) as server:
        url = server.url.replace("localhost", "127.0.0.1")
        assert await listed_by_a_process(url, SSL_CERT_FILE=ca_file) == NOT_TRUSTED
    assert server.heads == []


async def test_a_stranger_behind_the_proxy(tls):
    async with serving(saying(ok()), tls) as server, serving(relay) as proxy:
        said = await listed_by_a_process(
            f"https://wazzup.example:{server.port}", HTTPS_PROXY=proxy.address
        )
    assert said == NOT_TRUSTED
    assert server.heads == []


async def test_https_with_a_server_that_has_no_tls():
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        assert await listed_by_a_process(f"https://127.0.0.1:{port}") == NOT_TRUSTED
