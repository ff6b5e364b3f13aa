"""The controller process: what runs in it, in which order it begins and ends."""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from importlib.metadata import version
from typing import Protocol, TypeVar

from wazzup_operator.certificates.keeper import CertificateKeeper
from wazzup_operator.controller.clock import SteadyClock
from wazzup_operator.controller.dependencies import Dependencies
from wazzup_operator.controller.reconciler import Reconciler
from wazzup_operator.controller.store import Store, Table
from wazzup_operator.kube.client import KubeClient, path
from wazzup_operator.kube.events import EventRecorder
from wazzup_operator.kube.informer import Informer
from wazzup_operator.kube.leader_election import LeaderElector
from wazzup_operator.kube.secrets import SecretReader
from wazzup_operator.kube.status import StatusWriter
from wazzup_operator.lifecycle import end, stop_on_signals, supervise, watch_over
from wazzup_operator.observability.collector import ReplicaCollector, StoreCollector
from wazzup_operator.observability.health import Check, health_app, metrics_app, serve
from wazzup_operator.observability.metrics import observe_rest, observe_wazzup, registry
from wazzup_operator.resources.account import WazzupAccount
from wazzup_operator.resources.base import API_VERSION, JSON, NamespacedName
from wazzup_operator.resources.channel import WazzupChannel
from wazzup_operator.resources.codec import ACCOUNTS, CHANNELS, Resource, Unreadable
from wazzup_operator.settings import ControllerSettings
from wazzup_operator.wazzup.client import WazzupClient

log = logging.getLogger(__name__)

T = TypeVar("T", WazzupChannel, WazzupAccount)
Informers = Mapping[tuple[str, str], Informer[WazzupChannel] | Informer[WazzupAccount]]
"""By resource and namespace, where an empty one is all of them."""


class Watchdog(Protocol):
    """Says whether what runs for as long as the process does is stuck."""

    def stuck(self) -> str | None:
        """Return what is stuck, in a sentence; None if nothing is."""


EVENTS_DRAIN = 2.0
"""Seconds that waiting Events get at the end."""

LAST_SCRAPE = 0.5
"""Seconds that an answer to a scraper or a probe gets at the end: no scraper that is stuck keeps a
process that leads no more."""


async def run(settings: ControllerSettings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises ConfigurationMissing without a way to the API server, OSError if an address is taken,
    LeadershipLost if this replica led and may not any more.
    """
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with AsyncExitStack() as stack:
        kube = await KubeClient.connect(observe_rest, watches=2 * max(1, len(settings.namespaces)))
        stack.push_async_callback(kube.close)
        wazzup = WazzupClient(settings.wazzup_url, observe_wazzup)
        stack.push_async_callback(wazzup.close)
        events = EventRecorder(kube, _identity())
        elector = None
        leading = kube
        if settings.election:
            # Whatever hangs on the other connections, the Lease is renewed.
            own = await KubeClient.connect(observe_rest)
            stack.push_async_callback(own.close)
            elector = LeaderElector(own, settings.election, _identity(), events)
            leading = kube.within(elector.allowance)
        reconciler = Reconciler()
        store = Store(reconciler.wake)
        informers = _informers(kube, store, settings.namespaces)
        certificate = settings.certificate
        keeper = CertificateKeeper(leading, **asdict(certificate)) if certificate else None
        writer = StatusWriter(leading)
        registry.register(ReplicaCollector(informers, writer, events, elector))
        secrets = SecretReader(leading)
        deps = Dependencies(settings, store, secrets, wazzup, writer, events, SteadyClock())
        watchdogs: list[Watchdog | None] = [
            *informers.values(),
            reconciler,
            writer,
            elector,
            keeper,
        ]
        await _start_servers(stack, settings, informers, watchdogs)
        acting = {asyncio.create_task(_act(informers, elector, keeper, reconciler, deps))}
        if elector:
            acting.add(asyncio.create_task(_elect(informers, elector)))
        tasks = {
            asyncio.create_task(supervise("the posting of Events", events.run)),
            *(asyncio.create_task(supervise(str(each), each.run)) for each in informers.values()),
        }
        log.info("wazzup-operator %s has started", version("wazzup-operator"))
        try:
            await watch_over(acting | tasks, stop)
            log.info("stopping")
        finally:
            await hand_over(acting, reconciler, elector)
            await events.drain(EVENTS_DRAIN)
            await end(tasks)


async def hand_over(
    acting: set[asyncio.Task[None]], reconciler: Reconciler, elector: LeaderElector | None
) -> None:
    """End what only the leader does, its renewals too, and then let another replica begin."""
    await end(acting)
    await reconciler.stop()
    if elector:
        await elector.release()


async def _wait_for_sync(informers: Informers) -> None:
    for informer in informers.values():
        await informer.synced.wait()


async def _elect(informers: Informers, elector: LeaderElector) -> None:
    """Compete for the Lease, but not while another replica knows more."""
    await _wait_for_sync(informers)
    await elector.run()


async def _act(
    informers: Informers,
    elector: LeaderElector | None,
    keeper: CertificateKeeper | None,
    reconciler: Reconciler,
    deps: Dependencies,
) -> None:
    """Do what only the leader does, as soon as this replica leads."""
    await _wait_for_sync(informers)
    log.info(
        "synced: %d channels, %d accounts",
        len(deps.store.channels.objects),
        len(deps.store.accounts.objects),
    )
    if elector:
        await elector.held.wait()
    # What a standby tells of channels would be counted twice.
    limit = deps.settings.channel_series_limit
    registry.register(StoreCollector(deps.store, reconciler.memory, limit))
    reconciler.start(deps)
    if keeper:
        await supervise("the certificate keeper", keeper.run)


def _identity() -> str:
    """Return this replica's name: the pod's, else one that no other process has."""
    return os.environ.get("POD_NAME") or f"{socket.gethostname()}_{os.getpid()}"


def _informers(kube: KubeClient, store: Store, namespaces: Sequence[str]) -> Informers:
    def informer(resource: Resource[T], table: Table[T], namespace: str | None) -> Informer[T]:
        def decode(body: JSON) -> T | None:
            try:
                return resource.decode(body)
            except Unreadable as error:
                log.warning(
                    "%s %s is passed over, as its CRD is not the operator's: %s",
                    resource.kind,
                    NamespacedName.of(body["metadata"]),
                    error,
                )
                return None

        return Informer(
            kube, path(API_VERSION, resource.plural, namespace), decode, table.scope(namespace)
        )

    followed: dict[tuple[str, str], Informer[WazzupChannel] | Informer[WazzupAccount]] = {}
    for scope in namespaces or (None,):
        where = scope or ""
        followed[ACCOUNTS.plural, where] = informer(ACCOUNTS, store.accounts, scope)
        followed[CHANNELS.plural, where] = informer(CHANNELS, store.channels, scope)
    return followed


def liveness(watchdogs: Sequence[Watchdog | None]) -> Check:
    """Return what /healthz asks: whether any of these hangs."""
    return lambda: next(filter(None, (each.stuck() for each in watchdogs if each)), None)


async def _start_servers(
    stack: AsyncExitStack,
    settings: ControllerSettings,
    informers: Informers,
    watchdogs: Sequence[Watchdog | None],
) -> None:
    def ready() -> str | None:
        for informer in informers.values():
            if not informer.synced.is_set():
                return informer.problem or "the first listing is under way"
        return None

    for app, address in (
        (health_app(liveness(watchdogs), ready), settings.health_address),
        (metrics_app(), settings.metrics_address),
    ):
        runner = await serve(app, address, shutdown_timeout=LAST_SCRAPE)
        stack.push_async_callback(runner.cleanup)
