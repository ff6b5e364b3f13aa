"""Reconciles the webhook's certificate: the Secret that holds it, the caBundle that trusts it."""

import asyncio
import base64
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509

from wazzup_operator.certificates.content import Content, differences, read
from wazzup_operator.certificates.issue import load_bundle, service_names
from wazzup_operator.certificates.rotation import (
    ServingRequirements,
    WriteBundle,
    WriteSecret,
    next_due,
    next_step,
)
from wazzup_operator.kube.client import KubeClient, path
from wazzup_operator.kube.errors import KubeError, Refused
from wazzup_operator.resources.base import JSON, NamespacedName

log = logging.getLogger(__name__)

RESYNC_INTERVAL = timedelta(seconds=60)
"""Maximum time between two attempts; a wiped caBundle is restored within it."""

MISSING_GRACE = 300.0
"""Seconds that the configuration may be missing before a warning: an installation creates it at
about the same time as the controller."""

PROPAGATION = timedelta(seconds=30)
"""How long a CA is in the configuration before a pair that it signed is served: each API server
watches the configuration on its own."""

STUCK = 600.0
"""Seconds until an attempt counts as stuck, although each of its requests has a timeout."""

_MIN_WAIT = timedelta(seconds=1)
_MAX_STEPS = 12


class PermissionMissing(KubeError):
    """The API server forbids a request; the message says what to grant."""


class SecretGone(KubeError):
    """The Secret does not exist; the message says who recreates it."""


class Contended(KubeError):
    """Somebody else keeps changing the same objects."""


@dataclass(frozen=True, slots=True)
class _Observed:
    """Both objects as read from the API server. The configuration may not exist."""

    configuration: JSON | None
    secret: JSON

    @property
    def bundles(self) -> tuple[bytes, ...]:
        return tuple(map(_bundle, self.webhooks))

    @property
    def webhooks(self) -> list[JSON]:
        return (self.configuration or {}).get("webhooks") or []

    @property
    def content(self) -> Content:
        return read(self.data)

    @property
    def data(self) -> JSON:
        return self.secret.get("data") or {}


class CertificateKeeper:
    """Reconciles one Secret and the caBundles of one ValidatingWebhookConfiguration.

    `service` is in the Secret's namespace. Needs get and patch on both. Whoever installs the
    operator creates both; an empty Secret is filled. Several keepers may run at once: every write
    carries the resourceVersion that it is based on.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        secret: NamespacedName,
        configuration: str,
        service: str,
        validity: timedelta,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._monotonic = monotonic
        self._secret = path("v1", "secrets", *secret)
        self._configuration = path(
            "admissionregistration.k8s.io/v1",
            "validatingwebhookconfigurations",
            None,
            configuration,
        )
        self._secret_label = f'Secret "{secret}"'
        self._configuration_label = f'ValidatingWebhookConfiguration "{configuration}"'
        self._requirements = ServingRequirements(service_names(service, secret.namespace), validity)
        self._trusted_since: tuple[x509.Certificate, float] | None = None
        self._logged: set[str] = set()
        self._missing_since: float | None = None
        self._missing_logged = False
        self._attempt_started: float | None = None
        self.maintained: bool | None = None
        """Whether the last attempt succeeded; None before the first."""

    async def run(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Reconcile now and whenever it is due, until cancelled."""
        failures = 0
        while True:
            self._attempt_started = time.monotonic()
            try:
                wait = await self.reconcile(clock())
            except Exception as error:
                self.maintained = False
                self._log_once(error)
                failures += 1
                wait = min(RESYNC_INTERVAL, _MIN_WAIT * 2.0 ** min(failures, 10))
            else:
                self.maintained = True
                failures = 0
            self._attempt_started = None
            await asyncio.sleep(random.uniform(0.9, 1.0) * wait.total_seconds())

    def stuck(self) -> str | None:
        """Return a sentence if an attempt takes too long."""
        if self._attempt_started is not None and time.monotonic() - self._attempt_started > STUCK:
            return "the certificate keeper is stuck"
        return None

    async def reconcile(self, now: datetime) -> timedelta:
        """Write until nothing is due. Return how long to wait until the next attempt.

        `now` is UTC. Raises KubeError, for example SecretGone; the next attempt continues.
        """
        now = now.replace(microsecond=0)
        for _ in range(_MAX_STEPS):
            observed = await self._observe()
            content = observed.content
            propagated = self._propagated(observed)
            step = next_step(
                content, observed.bundles, now, self._requirements, propagated=propagated
            )
            if step is None:
                self._logged.clear()
                return self._wait(content, now)
            if await self._apply(step, observed):
                log.info("%s", step.message)
        raise Contended(
            f"somebody else keeps changing {self._secret_label} or {self._configuration_label}; let"
            " only one operator manage them, and not cert-manager"
        )

    async def _observe(self) -> _Observed:
        # The Secret last: keepers add a CA to the Secret before the configuration, so that a CA
        # that is only in the configuration was not added by a keeper.
        configuration = await self._get(self._configuration, self._configuration_label)
        self._log_if_missing(configuration is None)
        secret = await self._get(self._secret, self._secret_label)
        if secret is None:
            raise SecretGone(
                f"{self._secret_label} does not exist; apply the release again (helm upgrade,"
                " GitOps sync or kubectl apply), which creates it empty"
            )
        return _Observed(configuration, secret)

    def _log_if_missing(self, missing: bool) -> None:
        """Log once that the configuration is missing, and warn once if it stays missing."""
        if not missing:
            self._missing_since, self._missing_logged = None, False
        elif self._missing_since is None:
            self._missing_since = self._monotonic()
            log.info("%s does not exist yet; retrying", self._configuration_label)
        elif not self._missing_logged and self._monotonic() - self._missing_since >= MISSING_GRACE:
            self._missing_logged = True
            log.warning(
                "%s has been missing for %g minutes, so no API server calls the webhook: install"
                " it, or set --webhook-configuration to its name",
                self._configuration_label,
                MISSING_GRACE / 60,
            )

    async def _get(self, target: str, label: str) -> JSON | None:
        try:
            with _permission_named("get", label):
                return await self._client.get(target)
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise

    def _propagated(self, observed: _Observed) -> bool:
        """Return whether every webhook has trusted the current CA for long enough."""
        authority = observed.content.authority
        trusted = [load_bundle(bundle) for bundle in observed.bundles]
        if authority is None or not all(authority.certificate in each for each in trusted):
            self._trusted_since = None
            return False
        if self._trusted_since is None or self._trusted_since[0] != authority.certificate:
            self._trusted_since = (authority.certificate, self._monotonic())
        return self._age(self._trusted_since[1]) >= PROPAGATION

    def _age(self, since: float) -> timedelta:
        # Monotonic, so that a step of the wall clock does not count.
        return timedelta(seconds=self._monotonic() - since)

    def _wait(self, content: Content, now: datetime) -> timedelta:
        due = next_due(content)
        # An overdue write waits until the CA has propagated.
        times = [RESYNC_INTERVAL, *([due - now] if due and due > now else [])]
        if self._trusted_since and (age := self._age(self._trusted_since[1])) < PROPAGATION:
            times.append(PROPAGATION - age)
        return max(_MIN_WAIT, min(times))

    async def _apply(self, step: WriteSecret | WriteBundle, observed: _Observed) -> bool:
        """Write; return False if somebody else has changed the object since it was read."""
        try:
            if isinstance(step, WriteBundle):
                await self._patch_configuration(step.bundle, observed)
            else:
                await self._patch_secret(step.content, observed)
        except Refused as refusal:
            if refusal.status in (404, 409):
                return False
            raise
        return True

    async def _patch_configuration(self, bundle: bytes, observed: _Observed) -> None:
        assert observed.configuration
        encoded = base64.b64encode(bundle).decode()
        # A merge patch replaces the whole list; the resourceVersion makes that safe.
        webhooks = [
            webhook | {"clientConfig": webhook["clientConfig"] | {"caBundle": encoded}}
            for webhook in observed.webhooks
        ]
        body = {"metadata": _precondition(observed.configuration), "webhooks": webhooks}
        with _permission_named("patch", self._configuration_label):
            await self._client.merge_patch(self._configuration, body)

    async def _patch_secret(self, content: Content, observed: _Observed) -> None:
        data = differences(content, observed.data)
        body = {"metadata": _precondition(observed.secret), "data": data}
        with _permission_named("patch", self._secret_label):
            await self._client.merge_patch(self._secret, body)

    def _log_once(self, error: Exception) -> None:
        """Log the error, each message once until an attempt succeeds."""
        if not isinstance(error, KubeError):
            log.error("Cannot maintain the webhook's certificate: unexpected error", exc_info=error)
            return
        message = f"Cannot maintain the webhook's certificate: {error}"
        if message not in self._logged:
            self._logged.add(message)
            log.warning("%s; retrying", message)


def _precondition(object_: JSON) -> JSON:
    return {"resourceVersion": object_["metadata"]["resourceVersion"]}


def _bundle(webhook: JSON) -> bytes:
    try:
        return base64.b64decode(webhook["clientConfig"].get("caBundle") or "")
    except ValueError:
        return b""


@contextmanager
def _permission_named(verb: str, label: str) -> Iterator[None]:
    """Turn a 403 into a sentence that names the missing permission."""
    try:
        yield
    except Refused as refusal:
        if refusal.status != 403:
            raise
        raise PermissionMissing(
            f"the operator may not {verb} {label}: {refusal}; grant its service account {verb} on"
            " it, or find the quota or admission rule that refuses it"
        ) from refusal
