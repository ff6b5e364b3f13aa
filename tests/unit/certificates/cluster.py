"""A fake cluster with the webhook's certificate, and mishaps that can hit it."""

import asyncio
import base64

from tests.unit.certificates.pairs import (
    MINUTE,
    NAMES,
    NOW,
    VALIDITY,
    trusted,
    with_invalid_version,
)
from tests.unit.fake_api import FakeApi, FakeClient
from wazzup_operator.certificates.content import read
from wazzup_operator.certificates.issue import (
    load_bundle,
    make_authority,
    renewal,
    serving_problem,
)
from wazzup_operator.certificates.keeper import CertificateKeeper
from wazzup_operator.kube.errors import Refused
from wazzup_operator.resources.base import NamespacedName

SECRET = "/api/v1/namespaces/wz/secrets/pair"
CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/wz"


class Killed(BaseException):
    """The process was killed (kill -9)."""


class Cluster(FakeClient):
    """Holds the Secret and the configuration; after each write, served pairs must be trusted."""

    def __init__(self):
        super().__init__(FakeApi())
        self.writes = []
        self.now = NOW
        self.stepped = None
        self.kill_at = None
        """Writes until the process dies; x.5: it dies once the last is stored, but unanswered."""
        self.forbidden = set()
        self.served = []
        """Every serving certificate the Secret has ever held."""
        self.before_write = lambda: None
        self.checked = True

    @property
    def elapsed(self):
        """The monotonic time; follows `now` until it is set."""
        return (self.now - NOW).total_seconds() if self.stepped is None else self.stepped

    @elapsed.setter
    def elapsed(self, seconds):
        self.stepped = seconds

    def install(self, bundle=None):
        """Install both objects as helm does: a Secret without data, no caBundle unless given."""
        if not self.api.find(SECRET):
            self.empty()
        trust = {"caBundle": base64.b64encode(bundle).decode()} if bundle else {}
        service = {"service": {"name": "hook"}}
        webhooks = [
            {
                "name": f"{kind}.wazzup.dev",
                "timeoutSeconds": 3,
                "clientConfig": service | trust,
            }
            for kind in ("channel", "account")
        ]
        self.api.put(CONFIGURATION, {"webhooks": webhooks})

    def empty(self):
        """Replace the Secret with an empty one, as helm does after it was deleted."""
        self.api.put(SECRET, {"type": "Opaque"})

    async def before(self, verb, path, body):
        await asyncio.sleep(0)
        if verb != "get":
            self.before_write()
        if (verb, path) in self.forbidden:
            raise Refused(403, "exceeded quota: secrets")
        if verb != "get" and self.kill_at is not None and self.kill_at <= 0:
            raise Killed
        self._version = self.api.version

    async def after(self, verb, path, stored):
        assert self.api.version > self._version, "a write that changes nothing"
        self.writes.append((verb, path))
        if self.pair() and self.pair().certificate not in self.served:
            self.served.append(self.pair().certificate)
        if self.checked:
            self.assert_trusted()
        if self.kill_at is not None:
            self.kill_at -= 1
            if self.kill_at == -0.5:
                raise Killed

    @property
    def data(self):
        return (self.api.find(SECRET) or {}).get("data") or {}

    def content(self):
        return read(self.data)

    def pair(self):
        return self.content().serving

    def bundles(self):
        configuration = self.api.find(CONFIGURATION) or {"webhooks": []}
        return [
            load_bundle(base64.b64decode(webhook["clientConfig"].get("caBundle", "")))
            for webhook in configuration["webhooks"]
        ]

    def assert_trusted(self):
        """Check that every pair a pod may serve now, perhaps from an older Secret, is trusted."""
        for bundle in self.bundles():
            for certificate in self.served:
                begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
                if begin <= self.now < end:
                    assert trusted(certificate, bundle, self.now), "served but not trusted"

    def steady(self):
        authority = self.content().authority
        pair = self.pair()
        return (
            pair is not None
            and serving_problem(pair, authority.certificate, NAMES, self.now) is None
            and all(authority.certificate in bundle for bundle in self.bundles())
        )


def make_keeper(cluster, validity=VALIDITY):
    return CertificateKeeper(
        cluster,
        secret=NamespacedName("wz", "pair"),
        configuration="wz",
        service="hook",
        validity=validity,
        monotonic=lambda: cluster.elapsed,
    )


async def settle(cluster, keeper=None, attempts=3):
    """Reconcile once a minute, then check that once more writes nothing."""
    keeper = keeper or make_keeper(cluster)
    for _ in range(attempts):
        await keeper.reconcile(cluster.now)
        cluster.now += MINUTE
    before = len(cluster.writes)
    await keeper.reconcile(cluster.now)
    assert len(cluster.writes) == before, "a write in steady state"
    assert cluster.steady()
    cluster.assert_trusted()
    return keeper


async def lose(cluster):
    cluster.api.delete(SECRET)
    cluster.empty()


async def empty(cluster):
    cluster.api.edit(SECRET, {"data": None})


async def age_authority(cluster):
    cluster.now = renewal(cluster.content().authority.certificate)
    cluster.served.clear()


async def age_pair(cluster):
    cluster.now = renewal(cluster.pair().certificate)


async def damage_authority(cluster):
    cluster.api.edit(SECRET, {"data": DAMAGES["no CA key"]})


async def damage_pair(cluster):
    cluster.api.edit(SECRET, {"data": DAMAGES["no pair"]})


async def end_overlap(cluster):
    cluster.empty()
    await settle(cluster)
    cluster.now += VALIDITY + MINUTE


async def nothing(cluster):
    cluster.api.objects.clear()
    cluster.served.clear()
    cluster.install()


MISHAPS = [
    lose,
    empty,
    age_authority,
    age_pair,
    damage_authority,
    damage_pair,
    end_overlap,
    nothing,
]


DAMAGES = {
    "no pair": {"tls.crt": "", "tls.key": ""},
    "no serving key": {"tls.key": base64.b64encode(b"junk").decode()},
    "another's serving key": {"tls.key": base64.b64encode(make_authority(NOW).key_pem).decode()},
    "no CA key": {"ca.key": ""},
    "no CA": {"ca.crt": "", "ca.key": ""},
    "another's CA key": {"ca.key": base64.b64encode(make_authority(NOW).key_pem).decode()},
    "nothing": {"tls.crt": "", "tls.key": "", "ca.crt": "", "ca.key": ""},
    "not base64 of PEM": dict.fromkeys(("tls.crt", "tls.key", "ca.crt", "ca.key"), "AAAA"),
    **{
        f"invalid version of {key}": {
            key: base64.b64encode(with_invalid_version(make_authority(NOW))).decode()
        }
        for key in ("tls.crt", "ca.crt", "former-ca.crt")
    },
}
