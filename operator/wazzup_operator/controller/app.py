"""The controller process: tasks, servers, startup and shutdown."""

import asyncio
import logging
import os
import socket
import uuid
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
from wazzup_operator.kube.errors import APPLY_CRDS
from wazzup_operator.kube.events import EventRecorder
from wazzup_operator.kube.informer import Informer
from wazzup_operator.kube.leader_election import LeaderElector
from wazzup_operator.kube.secrets import SecretReader
from wazzup_operator.kube.status import StatusWriter
from wazzup_operator.lifecycle import (
    cancel_all,
    collect_garbage,
    raise_descriptor_limit,
    stop_on_signals,
    supervise,
    wait_for_stop,
)
from wazzup_operator.observability.collector import KeeperCollector, ReplicaCollector
from wazzup_operator.observability.exposition import expose
from wazzup_operator.observability.fleet import FleetMetrics
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
"""Informers by plural and namespace; an empty namespace means all."""


class Watchdog(Protocol):
    """Reports whether a long-running task is stuck."""

    def stuck(self) -> str | None:
        """Return a sentence with what is stuck, or None."""


EVENTS_DRAIN = 2.0
"""Seconds that queued Events get at shutdown."""

SHUTDOWN_TIMEOUT = 0.5
"""Seconds that scrapes and probes in flight get at shutdown; a stuck scraper must not delay it."""


async def run(settings: ControllerSettings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises ConfigurationMissing if access to the API server is not configured, OSError if an address
    is in use, LeadershipLost if this replica lost its Lease, EtcdRestored if etcd was restored.
    """
    raise_descriptor_limit()
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with AsyncExitStack() as stack:
        kube = await KubeClient.connect(observe_rest, watches=2 * max(1, len(settings.namespaces)))
        stack.push_async_callback(kube.close)
        wazzup = WazzupClient(settings.wazzup_url, observe_wazzup)
        stack.push_async_callback(wazzup.close)
        identity = identity_of(os.environ)
        events = EventRecorder(kube, identity)
        elector = None
        leading = kube
        if settings.election:
            # Separate connections: requests that hang must not delay renewals.
            lease_client = await KubeClient.connect(observe_rest)
            stack.push_async_callback(lease_client.close)
            elector = LeaderElector(lease_client, settings.election, identity, events)
            leading = kube.within(elector.lead_time_left)
        reconciler = Reconciler()
        store = Store(reconciler.wake)
        informers = _informers(kube, store, settings)
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
            asyncio.create_task(collect_garbage()),
            asyncio.create_task(supervise("the event recorder", events.run)),
            *(asyncio.create_task(supervise(str(each), each.run)) for each in informers.values()),
        }
        log.info("wazzup-operator %s started", version("wazzup-operator"))
        try:
            await wait_for_stop(acting | tasks, stop)
            log.info("stopping")
        finally:
            await hand_over(acting, reconciler, elector)
            await events.drain(EVENTS_DRAIN)
            await cancel_all(tasks)


async def hand_over(
    acting: set[asyncio.Task[None]], reconciler: Reconciler, elector: LeaderElector | None
) -> None:
    """Stop everything that only the leader does, renewals too, then give up the Lease."""
    await cancel_all(acting)
    await reconciler.stop()
    if elector:
        await elector.release()


async def _wait_for_sync(informers: Informers) -> None:
    for informer in informers.values():
        await informer.synced.wait()


async def _elect(informers: Informers, elector: LeaderElector) -> None:
    """Compete for the Lease once synced; before, another replica can act earlier."""
    await _wait_for_sync(informers)
    await elector.run()


async def _act(
    informers: Informers,
    elector: LeaderElector | None,
    keeper: CertificateKeeper | None,
    reconciler: Reconciler,
    deps: Dependencies,
) -> None:
    """Run the leader's tasks once this replica is synced and leads."""
    await _wait_for_sync(informers)
    log.info(
        "synced: %d channels, %d accounts in %s",
        len(deps.store.channels.objects),
        len(deps.store.accounts.objects),
        ", ".join(deps.settings.namespaces) or "all namespaces",
    )
    if elector:
        await elector.held.wait()
    # Only on the leader: series of standbys would be counted twice.
    limit, labels = deps.settings.channel_series_limit, deps.settings.metric_labels
    expose(FleetMetrics(deps.store, reconciler.memory, limit, labels))
    reconciler.start(deps)
    if keeper:
        registry.register(KeeperCollector(keeper))
        await supervise("the certificate keeper", keeper.run)


def identity_of(environment: Mapping[str, str]) -> str:
    """Return a name for the Lease that no other replica has, and that a restarted container keeps.

    Names are used again: a Pod's by a StatefulSet, a host's and a process id's by containers.
    """
    name = environment.get("POD_NAME") or socket.gethostname()
    return f"{name}_{environment.get('POD_UID') or uuid.uuid4()}"


def _informers(kube: KubeClient, store: Store, settings: ControllerSettings) -> Informers:
    def informer(resource: Resource[T], table: Table[T], namespace: str | None) -> Informer[T]:
        def decode(body: JSON) -> T | None:
            try:
                return resource.decode(body, settings.metric_labels)
            except Unreadable as error:
                log.warning(
                    "Skipped %s %s: %s; %s",
                    resource.kind,
                    NamespacedName.of(body["metadata"]),
                    error,
                    APPLY_CRDS,
                )
                return None

        return Informer(
            kube, path(API_VERSION, resource.plural, namespace), decode, table.scope(namespace)
        )

    followed: dict[tuple[str, str], Informer[WazzupChannel] | Informer[WazzupAccount]] = {}
    for scope in settings.namespaces or (None,):
        where = scope or ""
        followed[ACCOUNTS.plural, where] = informer(ACCOUNTS, store.accounts, scope)
        followed[CHANNELS.plural, where] = informer(CHANNELS, store.channels, scope)
    return followed


def liveness(watchdogs: Sequence[Watchdog | None]) -> Check:
    """Return the check of /healthz: whether any of these is stuck."""
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
                return informer.problem or "the first list is in progress"
        return None

    for app, address in (
        (health_app(liveness(watchdogs), ready), settings.health_address),
        (metrics_app(), settings.metrics_address),
    ):
        runner = await serve(app, address, shutdown_timeout=SHUTDOWN_TIMEOUT)
        stack.push_async_callback(runner.cleanup)
