"""Leader election with a Lease, with the semantics of client-go's leaderelection (KEP-589).

A Lease's age counts from when this process saw it change, on its monotonic clock: clocks of two
machines are never compared.
"""

import asyncio
import logging
import math
import random
from datetime import UTC, datetime

from wazzup_operator.kube.client import NO_API_SERVER, KubeClient, path
from wazzup_operator.kube.errors import (
    ConnectionFailed,
    EtcdRestored,
    KubeError,
    LeadershipLost,
    Refused,
)
from wazzup_operator.kube.events import EventRecorder
from wazzup_operator.resources.base import JSON
from wazzup_operator.settings import ElectionSettings

log = logging.getLogger(__name__)

_API = "coordination.k8s.io/v1"
_NOT_LEADING = float("-inf")
_MIN_REQUEST_TIME = 0.05
"""Seconds; a renewal with less time left cannot succeed."""


class LeaderElector:
    """Competes for a Lease; `identity` is this replica's name, unique among the replicas."""

    def __init__(
        self, client: KubeClient, settings: ElectionSettings, identity: str, events: EventRecorder
    ) -> None:
        self._client = client
        self._settings = settings
        self._identity = identity
        self._events = events
        self._deadline = settings.renew_deadline.total_seconds()
        self._period = settings.retry_period.total_seconds()
        self._leases = path(_API, "leases", settings.lease.namespace)
        self._path = path(_API, "leases", *settings.lease)
        self._spec: JSON = {}
        self._changed_at = 0.0
        self._missing_since: float | None = None
        self._version = ""
        self._reference: JSON = {}
        self._leads_until = _NOT_LEADING
        self._problem: str | None = None
        self.held = asyncio.Event()
        """Set when this replica becomes the leader."""

    @property
    def name(self) -> str:
        """The Lease's name."""
        return self._settings.lease.name

    @property
    def leads(self) -> bool:
        """Whether this replica is the leader."""
        return self.held.is_set() and self._leads_until > _NOT_LEADING

    def lead_time_left(self) -> float:
        """Return the seconds this replica may still act as leader; 0 or less if none.

        They count from before the last renewal was sent. As renewDeadline is shorter than
        leaseDuration, they end before a standby can take over.
        """
        return self._leads_until - _now()

    def stuck(self) -> str | None:
        """Return a sentence if the Lease is overdue and the process has not exited."""
        overdue = self._settings.lease_duration.total_seconds()
        if self.held.is_set() and _NOT_LEADING < self.lead_time_left() < -overdue:
            return f"the renewal of {self} is stuck"
        return None

    async def run(self) -> None:
        """Acquire the Lease, then renew it.

        Raises LeadershipLost if a renewal is late or another replica holds the Lease, EtcdRestored
        if the Lease is older than before.
        """
        while True:
            if await self._try_acquire(self._deadline / 2):
                break
            # Twice as often as the leader renews, to take over quickly after a release.
            await asyncio.sleep(self._jittered_period() / 2)
        self._start_leading()
        while True:
            await asyncio.sleep(min(self._jittered_period(), self.lead_time_left()))
            if self.lead_time_left() > _MIN_REQUEST_TIME:
                # Half, so that a request that hangs leaves time for another.
                await self._try_acquire(min(self._deadline / 2, self.lead_time_left()))
            if self._holder not in {"", self._identity}:
                self._leads_until = _NOT_LEADING
                raise LeadershipLost(f"{self._holder} holds {self} now; exiting")
            if self.lead_time_left() <= _MIN_REQUEST_TIME:
                self._leads_until = _NOT_LEADING
                raise LeadershipLost(
                    f"{self} was not renewed within {self._deadline:g} s"
                    f" ({self._problem or 'the process was suspended'}); exiting"
                )

    async def release(self) -> None:
        """Give up the Lease, so that a standby takes over at once.

        Stop `run` before, or it acquires the Lease again.
        """
        if self.lead_time_left() <= 0:
            return
        self._leads_until = _NOT_LEADING
        try:
            async with asyncio.timeout(self._period):
                await self._give_up()
        except (KubeError, EtcdRestored, TimeoutError) as error:
            log.warning("Cannot give up %s, it will expire: %s", self, _describe(error))

    async def _give_up(self) -> None:
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _timestamp()}
        while self._holder == self._identity:
            try:
                self._observe(await self._patch(spec))
                log.info("gave up %s", self)
            except Refused as refusal:
                if refusal.status != 409:
                    raise
                # A renewal was in flight when `run` was cancelled, and has been stored.
                lease = await self._get()
                if lease is None:
                    return
                self._observe(lease)

    def __str__(self) -> str:
        return f"the Lease {self._settings.lease}"

    @property
    def _holder(self) -> str:
        return self._spec.get("holderIdentity") or ""

    def _jittered_period(self) -> float:
        # Jitter only shortens the period.
        return self._period * random.uniform(0.8, 1.0)

    def _start_leading(self) -> None:
        log.info("%s (this replica) is the leader, holding %s", self._identity, self)
        self._events.record(
            self._reference, "Normal", "LeaderElection", f"{self._identity} became leader"
        )
        self.held.set()

    async def _try_acquire(self, timeout: float) -> bool:
        """Acquire or renew the Lease within `timeout` seconds. Returns whether it is held now."""
        started = _now()
        try:
            async with asyncio.timeout(timeout):
                held = await self._acquire_or_renew()
        except (KubeError, TimeoutError) as error:
            self._missing_since = None  # it may have existed meanwhile
            self._log_problem(_describe(error))
            return False
        self._problem = None
        if held:
            self._leads_until = started + self._deadline
        return held

    async def _acquire_or_renew(self) -> bool:
        lease = await self._get()
        if lease is not None:
            self._observe(lease)
        elif self._missing_since is None:
            self._missing_since = _now()
        if not self._may_acquire():
            return False
        try:
            stored = await (self._create() if lease is None else self._patch(self._renewed()))
        except Refused as refusal:
            if refusal.status == 409:  # another replica was faster
                return False
            raise
        self._observe(stored)
        return True

    async def _get(self) -> JSON | None:
        try:
            lease = await self._client.get(self._path)
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise
        if lease["kind"] != "Lease" or "resourceVersion" not in lease.get("metadata", {}):
            raise ConnectionFailed(NO_API_SERVER)
        return lease

    async def _create(self) -> JSON:
        body = {
            "apiVersion": _API,
            "kind": "Lease",
            "metadata": {"name": self._settings.lease.name},
            "spec": self._spec | self._renewed(),
        }
        return await self._client.create(self._leases, body)

    async def _patch(self, spec: JSON) -> JSON:
        body = {"metadata": {"resourceVersion": self._version}, "spec": spec}
        return await self._client.merge_patch(self._path, body)

    def _renewed(self) -> JSON:
        """Return the Lease's spec with this replica as the holder from now on."""
        now = _timestamp()
        spec: JSON = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": math.ceil(self._settings.lease_duration.total_seconds()),
            "renewTime": now,
        }
        if self._holder != self._identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = self._spec.get("leaseTransitions", -1) + 1
        return spec

    def _observe(self, lease: JSON) -> None:
        spec, metadata = lease.get("spec") or {}, lease["metadata"]
        if int(metadata["resourceVersion"]) < int(self._version or 0):
            # What the informers know may be gone, and an old holder may come back.
            self._leads_until = _NOT_LEADING
            raise EtcdRestored(
                f"The Lease {self._settings.lease} went back to an older version: etcd was"
                " restored. Exiting, to list all objects again."
            )
        before = self._holder
        if spec != self._spec:
            self._spec, self._changed_at = spec, _now()
        self._missing_since = None
        self._version = metadata["resourceVersion"]
        self._reference = {
            "apiVersion": _API,
            "kind": "Lease",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        if self._holder not in {"", before, self._identity}:
            log.info("%s is the leader, holding %s; this replica is a standby", self._holder, self)

    def _may_acquire(self) -> bool:
        if self._holder == self._identity:
            return True
        if self._missing_since is not None and self._version:
            # The leader recreates a deleted Lease with its next renewal. The current leader may be
            # a replica this one has not seen yet. A replica that never saw the Lease need not wait.
            return _now() >= self._missing_since + self._settings.lease_duration.total_seconds()
        return not self._holder or self._expired()

    def _expired(self) -> bool:
        """Return whether the holder has not renewed the Lease for its whole duration."""
        duration: int = self._spec.get("leaseDurationSeconds", 0)
        return _now() >= self._changed_at + duration

    def _log_problem(self, problem: str) -> None:
        if problem != self._problem:
            log.warning("Cannot acquire or renew %s: %s; retrying", self, problem)
        self._problem = problem


def _describe(error: Exception) -> str:
    if isinstance(error, Refused) and error.status == 403:
        return f"{error}; grant the operator get, create and patch on leases in that namespace"
    return str(error) or "the API server did not answer in time"


def _timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _now() -> float:
    return asyncio.get_running_loop().time()
