"""The controller process: what runs in it, in which order it begins and ends."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from importlib.metadata import version
from typing import TypeVar

from wazzup_operator.certificates.keeper import CertificateKeeper
from wazzup_operator.controller.account_loop import Surroundings
from wazzup_operator.controller.reconciler import Reconciler
from wazzup_operator.controller.store import Store, Table
from wazzup_operator.kube.client import JSON, KubeClient, path
from wazzup_operator.kube.events import EventRecorder
from wazzup_operator.kube.informer import SILENCE, Informer
from wazzup_operator.kube.status import StatusWriter
from wazzup_operator.lifecycle import end, stop_on_signals, watch_over
from wazzup_operator.observability.collector import StoreCollector
from wazzup_operator.observability.health import health_app, metrics_app, serve
from wazzup_operator.observability.metrics import observe_rest, observe_wazzup, registry
from wazzup_operator.resources.account import WazzupAccount
from wazzup_operator.resources.base import API_VERSION
from wazzup_operator.resources.channel import WazzupChannel
from wazzup_operator.resources.codec import ACCOUNTS, CHANNELS, Resource, Unreadable
from wazzup_operator.settings import ControllerSettings
from wazzup_operator.wazzup.client import WazzupClient

log = logging.getLogger(__name__)

T = TypeVar("T", WazzupChannel, WazzupAccount)
Informers = Sequence[Informer[WazzupChannel] | Informer[WazzupAccount]]

DRAIN = 2.0
"""Seconds that waiting Events get at the end."""


async def run(settings: ControllerSettings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises ConfigurationMissing without a way to the API server, OSError if an address is taken.
    """
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with AsyncExitStack() as stack:
        kube = await KubeClient.connect(observe_rest, watches=2 * max(1, len(settings.namespaces)))
        stack.push_async_callback(kube.close)
        wazzup = WazzupClient(settings.wazzup_url, observe_wazzup)
        stack.push_async_callback(wazzup.close)
        reconciler = Reconciler()
        store = Store(reconciler.wake)
        informers = _informers(kube, store, settings.namespaces)
        registry.register(StoreCollector(store))
        await _serve(stack, settings, informers, reconciler)
        events = EventRecorder(kube)
        around = Surroundings(settings, store, kube, wazzup, StatusWriter(kube), events)
        tasks = {
            asyncio.create_task(_start_when_synced(informers, reconciler, around)),
            asyncio.create_task(events.run()),
            *(asyncio.create_task(keeper.run()) for keeper in _keepers(kube, settings)),
            *(asyncio.create_task(informer.run()) for informer in informers),
        }
        log.info("wazzup-operator %s has started", version("wazzup-operator"))
        try:
            await watch_over(tasks, stop)
            log.info("stopping")
        finally:
            await reconciler.stop()
            await events.drain(DRAIN)
            await end(tasks)


async def _start_when_synced(
    informers: Informers, reconciler: Reconciler, around: Surroundings
) -> None:
    for informer in informers:
        await informer.synced.wait()
    log.info(
        "synced: %d channels, %d accounts",
        len(around.store.channels.objects),
        len(around.store.accounts.objects),
    )
    reconciler.start(around)


def _keepers(kube: KubeClient, settings: ControllerSettings) -> list[CertificateKeeper]:
    if settings.certificate is None:
        return []
    return [CertificateKeeper(kube, **asdict(settings.certificate))]


def _informers(kube: KubeClient, store: Store, namespaces: Sequence[str]) -> Informers:
    def informer(resource: Resource[T], table: Table[T], namespace: str | None) -> Informer[T]:
        def decode(body: JSON) -> T | None:
            try:
                return resource.decode(body)
            except Unreadable as error:
                metadata = body["metadata"]
                log.warning(
                    "%s %s/%s is passed over, as its CRD is not the operator's: %s",
                    resource.kind,
                    metadata["namespace"],
                    metadata["name"],
                    error,
                )
                return None

        return Informer(
            kube, path(API_VERSION, resource.plural, namespace), decode, table.scope(namespace)
        )

    scopes: Sequence[str | None] = namespaces or (None,)
    return [
        *(informer(ACCOUNTS, store.accounts, scope) for scope in scopes),
        *(informer(CHANNELS, store.channels, scope) for scope in scopes),
    ]


async def _serve(
    stack: AsyncExitStack,
    settings: ControllerSettings,
    informers: Informers,
    reconciler: Reconciler,
) -> None:
    def alive() -> str | None:
        for informer in informers:
            if time.monotonic() - informer.last_turn > 2 * SILENCE:
                return "an informer has not turned for too long"
        return reconciler.stuck()

    def ready() -> str | None:
        for informer in informers:
            if not informer.synced.is_set():
                return informer.trouble or "the first listing is under way"
        return None

    for app, address in (
        (health_app(alive, ready), settings.health_address),
        (metrics_app(registry), settings.metrics_address),
    ):
        runner = await serve(app, address)
        stack.push_async_callback(runner.cleanup)
