"""HTTP servers for probes and metrics."""

import asyncio
import ssl
from collections.abc import Callable

from aiohttp import web

from wazzup_operator.observability.exposition import scrape
from wazzup_operator.observability.metrics import tasks
from wazzup_operator.settings import Address

Check = Callable[[], str | None]
"""Returns a sentence with the problem, or None."""

KEEP_ALIVE = 120.0
"""Seconds until a connection without a complete request head is closed. Go clients close idle
connections after 90 s, so they never send a request on one that is just being closed here."""


async def serve(
    app: web.Application,
    address: Address,
    tls: ssl.SSLContext | None = None,
    shutdown_timeout: float = 60.0,
) -> web.AppRunner:
    """Serve until the runner is cleaned up. Raises OSError if the address is not available.

    `shutdown_timeout` is how many seconds requests in flight get at shutdown.
    """
    runner = web.AppRunner(
        app, access_log=None, keepalive_timeout=KEEP_ALIVE, shutdown_timeout=shutdown_timeout
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, address.host or None, address.port, ssl_context=tls)
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise unavailable(address, error) from error
    return runner


def unavailable(address: Address, error: OSError) -> OSError:
    """Return the error for an address that cannot be listened on."""
    return OSError(
        f"Cannot listen on {address.host}:{address.port} ({error.strerror}); set another address"
    )


def health_app(alive: Check, ready: Check) -> web.Application:
    """Return an app with /healthz and /readyz: 200 "ok", or 503 with the problem."""

    def answer(check: Check) -> web.Response:
        problem = check()
        return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)

    async def healthz(_: web.Request) -> web.Response:
        return answer(alive)

    async def readyz(_: web.Request) -> web.Response:
        return answer(ready)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app


def metrics_app() -> web.Application:
    """Return an app with /metrics."""

    async def metrics(request: web.Request) -> web.Response:
        tasks.set(len(asyncio.all_tasks()))
        accept = request.headers.get("Accept", ""), request.headers.get("Accept-Encoding", "")
        # With thousands of objects, this takes long enough to block the event loop.
        body, headers = await asyncio.to_thread(scrape, *accept)
        return web.Response(body=body, headers=headers)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics)])
    return app
