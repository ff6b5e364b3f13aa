"""Leader election by a Lease, with the semantics of client-go's leaderelection (KEP-589).

How old a Lease is counts from when this process saw it change, by its monotonic clock: the clocks
of two machines are never compared.
"""

import asyncio
import logging
import math
import random
from datetime import UTC, datetime

from wazzup_operator.kube.client import NO_API_SERVER, KubeClient, path
from wazzup_operator.kube.errors import ConnectionFailed, KubeError, LeadershipLost, Refused
from wazzup_operator.kube.events import EventRecorder
from wazzup_operator.resources.base import JSON
from wazzup_operator.settings import ElectionSettings

log = logging.getLogger(__name__)

_API = "coordination.k8s.io/v1"
_OVER = float("-inf")
_INSTANT = 0.05
"""Seconds in which no request comes through any more."""


class LeaderElector:
    """One replica's share in a Lease; `identity` is its name, unique among the replicas."""

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
        self._seen_at = 0.0
        self._gone_at: float | None = None
        self._version = ""
        self._reference: JSON = {}
        self._until = _OVER
        self._trouble: str | None = None
        self.held = asyncio.Event()
        """Set once this replica leads."""

    @property
    def name(self) -> str:
        """The Lease's name."""
        return self._settings.lease.name

    @property
    def leads(self) -> bool:
        """Whether this replica may act."""
        return self.held.is_set() and self._until > _OVER

    def allowance(self) -> float:
        """Return for how many seconds from now this replica may act; none unless positive.

        Counted from before the last renewal was sent, and renewDeadline is less than
        leaseDuration, so it is over before another replica can take the Lease.
        """
        return self._until - _now()

    def stuck(self) -> str | None:
        """Return in a sentence that the Lease should have been renewed, or the process ended."""
        overdue = self._settings.lease_duration.total_seconds()
        if self.held.is_set() and _OVER < self.allowance() < -overdue:
            return f"{self} is neither renewed nor given up"
        return None

    async def run(self) -> None:
        """Take the Lease as soon as nobody else has it, and keep it.

        Raises LeadershipLost when it could not be renewed in time, or somebody else took it.
        """
        while True:
            if await self._attempt(self._deadline / 2):
                break
            # Twice as often as it is renewed, so that a hand-over takes little time.
            await asyncio.sleep(self._pause() / 2)
        self._lead()
        while True:
            await asyncio.sleep(min(self._pause(), self.allowance()))
            if self.allowance() > _INSTANT:
                # A request that hangs must leave time for another.
                await self._attempt(min(self._deadline / 2, self.allowance()))
            if self._holder not in {"", self._identity}:
                self._until = _OVER
                raise LeadershipLost(f"{self} is {self._holder}'s now; this replica ends")
            if self.allowance() <= _INSTANT:
                self._until = _OVER
                raise LeadershipLost(
                    f"{self} was not renewed within {self._deadline:g} s"
                    f" ({self._trouble or 'the process stood still'}); this replica ends"
                )

    async def release(self) -> None:
        """Let another replica begin at once. This one may send nothing any more.

        What runs must have been ended before, or it would take the Lease again.
        """
        if self.allowance() <= 0:
            return
        self._until = _OVER
        try:
            async with asyncio.timeout(self._period):
                await self._give_back()
        except (KubeError, TimeoutError) as error:
            log.warning("%s could not be given back and runs out: %s", self, _describe(error))

    async def _give_back(self) -> None:
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _timestamp()}
        while self._holder == self._identity:
            try:
                self._see(await self._patch(spec))
                log.info("%s is given back", self)
            except Refused as refusal:
                if refusal.status != 409:
                    raise
                # A renewal was under way when what runs was ended, and has arrived.
                lease = await self._get()
                if lease is None:
                    return
                self._see(lease)

    def __str__(self) -> str:
        return f"the Lease {self._settings.lease}"

    @property
    def _holder(self) -> str:
        return self._spec.get("holderIdentity") or ""

    def _pause(self) -> float:
        # Shorter by chance, never longer.
        return self._period * random.uniform(0.8, 1.0)

    def _lead(self) -> None:
        log.info("this replica, %s, leads by %s", self._identity, self)
        self._events.record(
            self._reference, "Normal", "LeaderElection", f"{self._identity} became leader"
        )
        self.held.set()

    async def _attempt(self, timeout: float) -> bool:
        """Take or renew the Lease, within so many seconds. Returns whether it is held now."""
        started = _now()
        try:
            async with asyncio.timeout(timeout):
                taken = await self._take_or_renew()
        except (KubeError, TimeoutError) as error:
            self._gone_at = None  # meanwhile it may have been there
            self._log_trouble(_describe(error))
            return False
        self._trouble = None
        if taken:
            self._until = started + self._deadline
        return taken

    async def _take_or_renew(self) -> bool:
        lease = await self._get()
        if lease is not None:
            self._see(lease)
        elif self._gone_at is None:
            self._gone_at = _now()
        if not self._may_take():
            return False
        try:
            stored = await (self._create() if lease is None else self._patch(self._renewed()))
        except Refused as refusal:
            if refusal.status == 409:  # somebody was quicker
                return False
            raise
        self._see(stored)
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
        """Return the Lease's spec as this replica's, from now on."""
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

    def _see(self, lease: JSON) -> None:
        spec, metadata = lease.get("spec") or {}, lease["metadata"]
        before = self._holder
        if spec != self._spec:
            self._spec, self._seen_at = spec, _now()
        self._gone_at = None
        self._version = metadata["resourceVersion"]
        self._reference = {
            "apiVersion": _API,
            "kind": "Lease",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        if self._holder not in {"", before, self._identity}:
            log.info("%s leads by %s; this replica stands by", self._holder, self)

    def _may_take(self) -> bool:
        if self._holder == self._identity:
            return True
        if self._gone_at is not None and self._version:
            # A Lease that was deleted is still its holder's, who makes it anew with the next
            # renewal, and the holder may be another one than was seen last. Who has never seen
            # the Lease cannot know that somebody leads.
            return _now() >= self._gone_at + self._settings.lease_duration.total_seconds()
        return not self._holder or self._run_out()

    def _run_out(self) -> bool:
        """Return whether a Lease of another replica has not changed for as long as it lasts."""
        lasts: int = self._spec.get("leaseDurationSeconds", 0)
        return _now() >= self._seen_at + lasts

    def _log_trouble(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("%s can be neither taken nor renewed: %s; trying again", self, trouble)
        self._trouble = trouble


def _describe(error: Exception) -> str:
    return str(error) or "the API server did not answer in time"


def _timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _now() -> float:
    return asyncio.get_running_loop().time()
