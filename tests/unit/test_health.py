"""The servers for probes, metrics and reviews: timeouts, compression."""

import asyncio
import gzip

import pytest
from aiohttp import ClientSession, web

from wazzup_operator.observability import health
from wazzup_operator.observability.health import health_app, metrics_app, serve
from wazzup_operator.settings import Address


def test_idle_connections_outlive_those_of_go_clients():
    assert health.KEEP_ALIVE == 120  # Go's http.Transport closes after 90 s


@pytest.mark.parametrize("sent", [b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
async def test_a_connection_without_a_complete_request_head_is_closed(monkeypatch, sent):
    monkeypatch.setattr(health, "KEEP_ALIVE", 0.2)
    runner = await serve(health_app(lambda: None, lambda: None), Address("127.0.0.1", 0))
    try:
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(sent)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    finally:
        await runner.cleanup()


async def test_a_slow_request_is_answered(monkeypatch):
    monkeypatch.setattr(health, "KEEP_ALIVE", 0.05)

    async def slow(_):
        await asyncio.sleep(0.3)
        return web.Response(text="done")

    app = web.Application()
    app.router.add_get("/", slow)
    runner = await serve(app, Address("127.0.0.1", 0))
    try:
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await reader.read()).endswith(b"done")
        writer.close()
        await writer.wait_closed()
    finally:
        await runner.cleanup()


async def test_a_stuck_scraper_does_not_delay_shutdown():
    started = asyncio.Event()

    async def stuck(_):
        started.set()
        await asyncio.Event().wait()

    app = web.Application()
    app.router.add_get("/", stuck)
    runner = await serve(app, Address("127.0.0.1", 0), shutdown_timeout=0.1)
    _, writer = await asyncio.open_connection(*runner.addresses[0])
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(10):
        await started.wait()
        await runner.cleanup()
    writer.close()


async def test_metrics_are_compressed_for_scrapers_that_accept_it():
    runner = await serve(metrics_app(), Address("127.0.0.1", 0))
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
    try:
        async with ClientSession(auto_decompress=False) as session:
            for accepted in ("gzip", "deflate, GZIP;q=0.8"):
                async with session.get(url, headers={"Accept-Encoding": accepted}) as answer:
                    assert answer.headers["Content-Encoding"] == "gzip"
                    assert b"wazzup_operator_build_info" in gzip.decompress(await answer.read())
            async with session.get(url, headers={"Accept-Encoding": "identity"}) as answer:
                assert "Content-Encoding" not in answer.headers
                assert b"wazzup_operator_build_info" in await answer.read()
    finally:
        await runner.cleanup()
