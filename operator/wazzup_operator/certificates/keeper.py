"""Keeps the webhook's certificate: the Secret that holds it, and the caBundle that trusts it."""

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
    Terms,
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
"""Between two passes, where nothing is due sooner: so long may a wiped caBundle stay wiped."""

ABSENT = 300.0
"""Seconds that the configuration may be missing before that counts as a mistake: an installation
makes it about when it makes the controller."""

SETTLE = timedelta(seconds=30)
"""How long a CA is in the configuration before anything is served from it: API servers follow
their webhook configurations by watches of their own."""

STUCK = 600.0
"""Seconds that a pass may take before the process counts as hung: each of its requests has a
timeout."""

_SOONEST = timedelta(seconds=1)
_MOST_STEPS = 12
# Without app.kubernetes.io/instance, by which GitOps tools take what is not in Git for theirs.
_LABELS = {
    "app.kubernetes.io/name": "wazzup-operator",
    "app.kubernetes.io/managed-by": "wazzup-operator",
}


class RightMissing(KubeError):
    """The API server forbids something that the keeper needs; the message says what to grant."""


class Unsteady(KubeError):
    """Somebody else goes on changing the same objects."""


@dataclass(frozen=True, slots=True)
class _Sight:
    """What one look at the API server saw; None is what is not there."""

    configuration: JSON | None
    secret: JSON | None

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
        return (self.secret or {}).get("data") or {}


class CertificateKeeper:
    """Keeps one Secret and the caBundles of one ValidatingWebhookConfiguration.

    `secret` is namespace and name; `service` is a Service in that namespace. Needs get, create and
    patch on the Secret, get and patch on the configuration. Several keepers at once do no harm:
    every write carries the resourceVersion that it was decided on.
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
        self._secret_name = secret.name
        self._secrets = path("v1", "secrets", secret.namespace)
        self._secret = path("v1", "secrets", *secret)
        self._configuration = path(
            "admissionregistration.k8s.io/v1",
            "validatingwebhookconfigurations",
            None,
            configuration,
        )
        self._the_secret = f'the Secret "{secret}"'
        self._the_configuration = f'the ValidatingWebhookConfiguration "{configuration}"'
        self._terms = Terms(service_names(service, secret.namespace), validity)
        self._bundled: tuple[x509.Certificate, float] | None = None
        self._said: set[str] = set()
        self._absent: float | None = None
        self._absence_logged = False
        self._pass_started: float | None = None

    async def run(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Have a pass now and whenever one is due, until cancelled."""
        failures = 0
        while True:
            self._pass_started = time.monotonic()
            try:
                wait = await self.keep(clock())
            except Exception as error:
                self._log_once(error)
                failures += 1
                wait = min(RESYNC_INTERVAL, _SOONEST * 2.0 ** min(failures, 10))
            else:
                failures = 0
            self._pass_started = None
            await asyncio.sleep(random.uniform(0.9, 1.0) * wait.total_seconds())

    def stuck(self) -> str | None:
        """Return in a sentence that a pass has not ended for too long."""
        if self._pass_started is not None and time.monotonic() - self._pass_started > STUCK:
            return "the certificate keeper's pass does not end"
        return None

    async def keep(self, now: datetime) -> timedelta:
        """Put right what is not, step by step; return how long to wait until the next pass.

        `now` is UTC. Raises KubeError, RightMissing among them: the next pass goes on from there.
        """
        now = now.replace(microsecond=0)
        for _ in range(_MOST_STEPS):
            sight = await self._look()
            content = sight.content
            step = next_step(content, sight.bundles, now, self._terms, settled=self._settled(sight))
            if step is None:
                self._said.clear()
                return self._wait(content, now)
            if await self._take(step, sight):
                log.info("%s", step.why)
        raise Unsteady(
            f"{self._the_secret} or {self._the_configuration} is changed by somebody else again and"
            " again; only one operator, and not cert-manager besides, may keep them"
        )

    async def _look(self) -> _Sight:
        # In this order: what the configuration trusts and the later Secret does not know cannot be
        # another keeper's news.
        configuration = await self._get(self._configuration, self._the_configuration)
        self._miss(configuration is None)
        return _Sight(configuration, await self._get(self._secret, self._the_secret))

    def _miss(self, absent: bool) -> None:
        """Say once that the configuration is not there, and once more when it should be."""
        if not absent:
            self._absent, self._absence_logged = None, False
        elif self._absent is None:
            self._absent = self._monotonic()
            log.info("%s is not there (yet); it is looked for again", self._the_configuration)
        elif not self._absence_logged and self._monotonic() - self._absent >= ABSENT:
            self._absence_logged = True
            log.warning(
                "%s has not been there for %g minutes, so no API server asks the webhook: install"
                " it, or correct --webhook-configuration to the name that it has",
                self._the_configuration,
                ABSENT / 60,
            )

    async def _get(self, target: str, what: str) -> JSON | None:
        try:
            with _right("get", what):
                return await self._client.get(target)
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise

    def _settled(self, sight: _Sight) -> bool:
        """Return whether every webhook has trusted the present CA for long enough."""
        authority = sight.content.authority
        trusted = [load_bundle(bundle) for bundle in sight.bundles]
        if authority is None or not all(authority.certificate in each for each in trusted):
            self._bundled = None
            return False
        if self._bundled is None or self._bundled[0] != authority.certificate:
            self._bundled = (authority.certificate, self._monotonic())
        return self._trusted_for(self._bundled[1]) >= SETTLE

    def _trusted_for(self, since: float) -> timedelta:
        # Not by the wall clock, whose step would be taken for the time that has to pass.
        return timedelta(seconds=self._monotonic() - since)

    def _wait(self, content: Content, now: datetime) -> timedelta:
        due = next_due(content)
        # What is overdue waits for the CA to settle.
        times = [RESYNC_INTERVAL, *([due - now] if due and due > now else [])]
        if self._bundled and (trusted := self._trusted_for(self._bundled[1])) < SETTLE:
            times.append(SETTLE - trusted)
        return max(_SOONEST, min(times))

    async def _take(self, step: WriteSecret | WriteBundle, sight: _Sight) -> bool:
        """Write; return whether it was stored, which it is not over anything newer."""
        try:
            if isinstance(step, WriteBundle):
                await self._trust(step.bundle, sight)
            elif sight.secret is None:
                await self._create(step.content)
            else:
                await self._store(step.content, sight.secret, sight.data)
        except Refused as refusal:
            if refusal.status == 409 or (refusal.status == 404 and not _creates(step, sight)):
                return False
            raise
        return True

    async def _trust(self, bundle: bytes, sight: _Sight) -> None:
        assert sight.configuration
        encoded = base64.b64encode(bundle).decode()
        # A merge patch replaces the list as a whole, which the resourceVersion makes harmless.
        webhooks = [
            webhook | {"clientConfig": webhook["clientConfig"] | {"caBundle": encoded}}
            for webhook in sight.webhooks
        ]
        body = {"metadata": _precondition(sight.configuration), "webhooks": webhooks}
        with _right("patch", self._the_configuration):
            await self._client.merge_patch(self._configuration, body)

    async def _create(self, content: Content) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self._secret_name, "labels": _LABELS},
            "type": "kubernetes.io/tls",
            "data": differences(content, {}),
        }
        with _right("create", self._the_secret):
            await self._client.create(self._secrets, body)

    async def _store(self, content: Content, secret: JSON, data: JSON) -> None:
        body = {"metadata": _precondition(secret), "data": differences(content, data)}
        with _right("patch", self._the_secret):
            await self._client.merge_patch(self._secret, body)

    def _log_once(self, error: Exception) -> None:
        """Say what went wrong, each sentence once until all is well again."""
        if not isinstance(error, KubeError):
            # A surprise must not end the controller.
            log.error("The webhook's certificate could not be looked after", exc_info=error)
            return
        sentence = f"The webhook's certificate is not looked after: {error}"
        if sentence not in self._said:
            self._said.add(sentence)
            log.warning("%s; trying again", sentence)


def _creates(step: WriteSecret | WriteBundle, sight: _Sight) -> bool:
    return isinstance(step, WriteSecret) and sight.secret is None


def _precondition(object_: JSON) -> JSON:
    return {"resourceVersion": object_["metadata"]["resourceVersion"]}


def _bundle(webhook: JSON) -> bytes:
    try:
        return base64.b64decode(webhook["clientConfig"].get("caBundle") or "")
    except ValueError:
        return b""


@contextmanager
def _right(verb: str, what: str) -> Iterator[None]:
    try:
        yield
    except Refused as refusal:
        if refusal.status != 403:
            raise
        raise RightMissing(
            f"the operator may not {verb} {what}; grant its service account {verb} on it, unless"
            f" another reason is given: {refusal}"
        ) from refusal
