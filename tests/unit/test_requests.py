"""The webhook's HTTP front: connections, requests, and what each may take."""

import asyncio
import json
import logging
import socket

import pytest

from tests.unit.listening import listening
from wazzup_operator.admission import connections as connections_module
from wazzup_operator.admission import requests as requests_module
from wazzup_operator.admission.requests import MAX_BODY, SMALL, Answer

DEADLINE = 30


class Responder:
    """Answers requests, those on /wait once `released`."""

    def __init__(self):
        self.requests = []
        self.released = asyncio.Event()

    async def __call__(self, request):
        self.requests.append(request)
        if request.target == "/wait":
            await self.released.wait()
        return request.fault or Answer(200, json.dumps(len(request.body)).encode())


@pytest.fixture
async def responder():
    return Responder()


@pytest.fixture
async def client(responder):
    async with listening(responder) as client:
        yield client
        responder.released.set()


def head(length, path="/", *headers):
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", *headers]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


async def ended(reader):
    """Return what the server sent until it closed the connection."""
    async with asyncio.timeout(DEADLINE):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def until(look):
    async with asyncio.timeout(DEADLINE):
        while not look():  # noqa: ASYNC110 - what it looks at sets no event
            await asyncio.sleep(0.01)


async def test_requests_on_one_connection_are_answered_in_order(client, responder):
    reader, _ = await client.connect((head(2) + b"{}") * 3 + head(3) + b"[1]")
    for length in (b"2", b"2", b"2", b"3"):
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(1) == length
    assert [bytes(each.body) for each in responder.requests] == [b"{}"] * 3 + [b"[1]"]


async def test_a_client_that_pipelines_requests_delays_nobody(client, responder):
    _, writer = await client.connect()
    writer.write((head(2) + b"{}") * 2000)
    await until(lambda: responder.requests)
    assert (await client.post("/", data=b"mine")).status == 200
    assert len(responder.requests) < 2000


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"phone +79865784457\r\n\r\n", 400),
        (b"POST * HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (head("-1"), 400),
        (head("1, 2"), 400),
        (head("9" * 100), 400),
        (head("x"), 400),
        (head(1, "/", "Content-Length: 2"), 400),
        (head(2, "/", f"A: {'x' * 40_000}"), 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 10_000, 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", 411),
    ],
    ids=[
        "words",
        "no path",
        "HTTP/2",
        "no colon",
        "folded line",
        "negative length",
        "list of lengths",
        "long length",
        "no length",
        "two lengths",
        "long line",
        "long head",
        "chunks",
    ],
)
async def test_what_the_api_server_never_sends(client, sent, status):
    reader, _ = await client.connect(sent)
    assert (await ended(reader)).startswith(b"HTTP/1.1 %d " % status)
    assert (await client.post("/", data=b"{}")).status == 200


@pytest.mark.parametrize(
    ("sent", "closes"),
    [
        (b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}", True),
        (b"POST / HTTP/1.1\r\nHost: x\r\nCONNECTION: Close\r\ncontent-length:2\r\n\r\n{}", True),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nContent-Length: 2 \r\n\r\n{}",
            False,
        ),
        (
            b"GET /?a=b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nExpect: 100-continue\r\n\r\n",
            False,
        ),
    ],
    ids=["HTTP/1.0", "close", "keep-alive", "no body"],
)
async def test_spellings_of_a_head(client, responder, sent, closes):
    reader, writer = await client.connect(sent)
    await answered(reader)
    if closes:
        assert await ended(reader) == b""
    else:
        writer.write(head(2) + b"{}")
        await answered(reader)
    assert bytes(responder.requests[-1].body) == b"{}"


async def test_an_answer_to_head_has_no_body(client):
    reader, _ = await client.connect(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await ended(reader)).endswith(b"Content-Length: 0\r\nConnection: close\r\n\r\n")


async def test_a_compressed_body_is_not_decompressed(client, responder):
    answer = await client.post("/", data=b"{}" * 1000, compress="gzip", chunked=False)
    assert answer.status in {200, 411}
    assert all(len(each.body) < 2000 for each in responder.requests)


async def test_a_body_over_the_limit_is_answered_before_it_has_arrived(
    client, responder, monkeypatch
):
    monkeypatch.setattr(requests_module, "LINGER", 0.1)
    reader, _ = await client.connect(head(MAX_BODY + 1) + b"x" * 4096)
    answer = await ended(reader)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in answer
    assert bytes(responder.requests[0].body) == b"x" * 4096


async def test_large_bodies_over_the_common_limit_get_503(client, responder, monkeypatch):
    monkeypatch.setattr(requests_module, "MAX_BYTES", 2 * SMALL)
    size = SMALL + 1000
    reader, _ = await client.connect(head(size, "/wait") + b"x" * size)
    await until(lambda: responder.requests)

    answer = await client.post("/", data=b"x" * size)
    assert answer.status == 503
    assert "Retry-After" not in answer.headers
    assert (await client.post("/", data=b"x" * SMALL)).status == 200

    responder.released.set()
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    assert (await client.post("/", data=b"x" * size)).status == 200


async def test_bytes_of_a_client_that_disconnects_count_no_longer(client):
    _, writer = await client.connect(head(MAX_BODY) + b"x" * 90_000)
    await until(lambda: client.requests._bytes == 90_000)
    writer.close()
    await until(lambda: client.requests._bytes == 0)


async def answered(reader):
    """Await an answer and its body, one digit."""
    async with asyncio.timeout(DEADLINE):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(1)
    assert head.startswith(b"HTTP/1.1 200 ")


async def test_the_oldest_connection_without_a_whole_request_makes_room(
    client, responder, monkeypatch, caplog
):
    monkeypatch.setattr(connections_module, "MAX_CONNECTIONS", 4)
    caplog.set_level(logging.WARNING)
    busy, _ = await client.connect(head(2, "/wait") + b"{}")
    await until(lambda: responder.requests)
    kept, writer = await client.connect(head(2) + b"{}")
    await answered(kept)
    half, _ = await client.connect(head(2) + b"{")
    idle, _ = await client.connect()

    last, _ = await client.connect()
    assert await ended(half) == b""
    await client.connect()
    assert await ended(idle) == b""
    writer.write(head(5) + b"again")
    await answered(kept)
    responder.released.set()
    await answered(busy)
    assert not last.at_eof()
    assert caplog.text.count("connections are in use") == 1


async def test_used_connections_make_room_where_they_are_more(client, monkeypatch):
    monkeypatch.setattr(connections_module, "MAX_CONNECTIONS", 3)
    used = []
    for _ in range(3):
        reader, _ = await client.connect(head(2) + b"{}")
        await answered(reader)
        used.append(reader)
    reader, _ = await client.connect(head(2) + b"{}")
    assert await ended(used[0]) == b""
    await answered(reader)
    assert not used[1].at_eof()


async def test_a_connection_is_dropped_at_once_while_all_have_a_request(
    client, responder, monkeypatch
):
    monkeypatch.setattr(connections_module, "MAX_CONNECTIONS", 2)
    waiting = [(await client.connect(head(2, "/wait") + b"{}"))[0] for _ in range(2)]
    await until(lambda: len(responder.requests) == 2)
    late, _ = await client.connect()
    assert await ended(late) == b""
    responder.released.set()
    for reader in waiting:
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


async def test_accepting_continues_once_descriptors_are_free_again(client, monkeypatch, caplog):
    monkeypatch.setattr(connections_module, "_PAUSE", 0.05)
    accept, failing = socket.socket.accept, [OSError(24, "Too many open files")]

    def exhausted(listener):
        if failing:
            raise failing.pop()
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", exhausted)
    assert (await client.post("/", data=b"{}")).status == 200
    assert "Cannot accept connections: Too many open files" in caplog.text


async def test_closing_waits_for_answers_and_drops_the_others(responder):
    async with listening(responder) as client:
        waiting, _ = await client.connect(head(2, "/wait") + b"{}")
        idle, _ = await client.connect()
        half, _ = await client.connect(head(9)[:20])
        await until(lambda: responder.requests)
        client.requests.draining = True
        asyncio.get_running_loop().call_later(0.1, responder.released.set)
    answer = await ended(waiting)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in answer
    assert await ended(idle) == await ended(half) == b""
