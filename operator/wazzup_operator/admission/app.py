"""The webhook process: startup, tasks, shutdown."""

import asyncio
import gc
import logging
from contextlib import AsyncExitStack
from importlib.metadata import version

import kopf

from wazzup_operator.admission.connections import Connections
from wazzup_operator.admission.handlers import PATHS, Handlers
from wazzup_operator.admission.lookups import Lookups
from wazzup_operator.admission.requests import Requests
from wazzup_operator.admission.server import ReviewServer
from wazzup_operator.certificates.loader import CertificateLoader
from wazzup_operator.kube.client import KubeClient
from wazzup_operator.kube.errors import APPLY_CRDS, KubeError, Refused
from wazzup_operator.lifecycle import cancel_all, stop_on_signals, supervise, wait_for_stop
from wazzup_operator.observability.collector import CertificateCollector
from wazzup_operator.observability.health import health_app, metrics_app, serve
from wazzup_operator.observability.metrics import observe_certificate, observe_rest, registry
from wazzup_operator.resources import account, channel
from wazzup_operator.resources.base import API_VERSION, GROUP
from wazzup_operator.settings import WebhookSettings

log = logging.getLogger(__name__)

DRAIN = 3.0
"""Seconds to keep serving after SIGTERM: Services may still route new reviews here."""

GRACE = 1.0
"""Seconds after DRAIN, with the port closed, to answer reviews on connections made just before."""


async def run(settings: WebhookSettings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises ConfigurationMissing if it cannot configure access to the API server, OSError if it
    cannot listen on an address.
    """
    stop = asyncio.Event()
    stop_on_signals(stop)  # first: PID 1 ignores signals that it does not handle
    _quieten_kopf()
    async with AsyncExitStack() as stack:
        kube = await KubeClient.connect(observe_rest)
        stack.push_async_callback(kube.close)
        loader = CertificateLoader(settings.cert_dir, observe_certificate)
        server = ReviewServer(PATHS)
        handlers = Handlers(kube, Lookups(kube), settings.min_poll_interval.total_seconds())

        registry.register(CertificateCollector(loader))

        def ready() -> str | None:
            if stop.is_set():
                return "stopping"
            if not loader.loaded:
                return (
                    f"no certificate has been loaded from {settings.cert_dir}; the log of whoever"
                    " maintains it (the leading controller, by default) says why"
                )
            return None if server.ready else "the handlers are not ready yet"

        for app, address in (
            (health_app(server.stuck, ready), settings.health_address),
            (metrics_app(), settings.metrics_address),
        ):
            stack.push_async_callback((await serve(app, address)).cleanup)
        tasks = {
            asyncio.create_task(supervise("the certificate loader", loader.run)),
            asyncio.create_task(_free_buffers()),
            asyncio.create_task(supervise("kopf", lambda: _run_kopf(kube, handlers, server, stop))),
        }
        stack.push_async_callback(cancel_all, tasks)
        # Last in, first out: it finishes its reviews while kopf still runs.
        requests = Requests(server.answer)
        connections = Connections(requests.serve)
        await connections.listen(settings.webhook_address, loader.context)
        stack.push_async_callback(connections.close)
        log.info("wazzup-operator %s has started its webhook", version("wazzup-operator"))
        await wait_for_stop(tasks, stop)
        log.info("stopping: serving for another %g s", DRAIN)
        requests.draining = True
        await asyncio.sleep(DRAIN)
        connections.stop_listening()
        await asyncio.sleep(GRACE)


async def _free_buffers() -> None:
    """Free the buffers of ended connections every second; they are in reference cycles.

    Left alone, Python collects them so rarely that a flood of connections fills the memory.
    """
    gc.freeze()  # a collection skips what was created at the start
    while True:
        await asyncio.sleep(1.0)
        gc.collect()


async def _run_kopf(
    kube: KubeClient, handlers: Handlers, server: ReviewServer, stop: asyncio.Event
) -> None:
    """Run kopf until it ends, as it does when its discovery of the kinds fails."""
    await _wait_for_crds(kube)
    tasks = await kopf.spawn_tasks(
        registry=handlers.registry(), settings=_kopf_settings(server), clusterwide=True
    )
    stop_on_signals(stop)  # kopf has replaced the signal handlers
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        log.warning("kopf ended: %s", _first_error(done))
    finally:
        await cancel_all(set(tasks))


def _first_error(done: set[asyncio.Task[object]]) -> str:
    for task in done:
        if not task.cancelled() and task.exception():
            return type(task.exception()).__name__
    return "no error"


NOT_SERVED = f"the API server does not serve both kinds; {APPLY_CRDS}"


async def _wait_for_crds(kube: KubeClient) -> None:
    """Wait until both kinds are served: kopf discovers kinds only once, at its start."""
    logged = False
    while True:
        try:
            # kopf starts its discovery at the list of groups, which may lag behind.
            groups = {each["name"] for each in (await kube.get("/apis"))["groups"]}
            served = {
                each["name"] for each in (await kube.get(f"/apis/{API_VERSION}"))["resources"]
            }
            if GROUP in groups and {channel.PLURAL, account.PLURAL} <= served:
                return
            problem = NOT_SERVED
        except KubeError as error:
            missing = isinstance(error, Refused) and error.status == 404
            problem = NOT_SERVED if missing else str(error)
        if not logged:
            log.warning("Cannot answer reviews yet: %s; retrying", problem)
        logged = True
        await asyncio.sleep(1.0)


def _quieten_kopf() -> None:
    """Keep kopf's errors for refusals out of the log."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("kopf.objects").setLevel(logging.CRITICAL)


def _kopf_settings(server: ReviewServer) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.admission.server = server
    settings.admission.managed = None  # the chart installs the configuration
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None  # else kopf kills the process 10 minutes later
    return settings
