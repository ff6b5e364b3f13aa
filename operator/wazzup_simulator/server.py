"""HTTP server of the API and the control interface."""

import asyncio
import signal
from collections.abc import Callable

from aiohttp import web

from wazzup_simulator.api import Api
from wazzup_simulator.control import Control
from wazzup_simulator.faults import Faults
from wazzup_simulator.record import Record
from wazzup_simulator.state import Service

MAX_BODY = 64 * 1024 * 1024
SHUTDOWN_SECONDS = 0.5


def application(service: Service) -> web.Application:
    """Return the application with all routes."""
    faults, record = Faults(), Record()
    app = web.Application(client_max_size=MAX_BODY)
    Api(service, faults, record).add_to(app)
    app.add_subapp("/_sim", Control(service, faults, record).app())

    async def release_hanging_requests(app: web.Application) -> None:
        faults.clear()

    app.on_shutdown.append(release_hanging_requests)
    return app


async def serve(service: Service, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. Announce the address once the port is open."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # handler_cancellation: a hanging request ends when its client disconnects.
    runner = web.AppRunner(
        application(service),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        shown = f"[{host}]" if ":" in host else host
        announce(f"listening on http://{shown}:{runner.addresses[0][1]}")
        await stop.wait()
    finally:
        await runner.cleanup()
