"""The certificate keeper against the real API server, which calls the webhook."""

import asyncio
import base64
import contextlib
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509 import verification

from tests.integration.harness.api import Api, ApiError, eventually
from tests.integration.harness.release import rendered
from wazzup_operator.certificates.issue import load_bundle, load_pair
from wazzup_operator.certificates.keeper import (
    CertificateKeeper,
    PermissionMissing,
    SecretGone,
)
from wazzup_operator.kube.client import KubeClient
from wazzup_operator.resources.base import NamespacedName

CONFIGURATIONS = "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
RBAC = "apis/rbac.authorization.k8s.io/v1"
SECRET = "webhook-certificate"
USER = "certificate-keeper"
VALIDITY = timedelta(days=90)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


class Release:
    """A namespace with the chart's configuration and Secret, and a keeper's permissions."""

    def __init__(self, plane, name):
        self.api = Api(plane.kubeconfig, name)
        self.name = name
        objects = rendered(name, "webhook.failurePolicy=Fail", namespace=name)
        (self.configuration,) = (each for each in objects if each["kind"].startswith("Validating"))
        (self.empty,) = (each for each in objects if each["kind"] == "Secret")
        self.empty["metadata"]["name"] = SECRET
        self.secret_path = f"api/v1/namespaces/{name}/secrets/{SECRET}"
        self.configuration_path = f"{CONFIGURATIONS}/{name}"
        self.ahead = timedelta()
        """How far the keeper's monotonic clock is ahead of the machine's."""

    def install(self, grant=True):
        self.api.request("POST", "api/v1/namespaces", {"metadata": {"name": self.name}})
        self.api.request("POST", CONFIGURATIONS, self.configuration)
        self.api.create(self.empty)
        if grant:
            self.grant()

    def uninstall(self):
        with contextlib.suppress(ApiError):
            self.api.request("DELETE", self.configuration_path)

    def grant(self):
        """Grant exactly the permissions that the keeper documents."""
        rules = [
            {
                "apiGroups": [""],
                "resources": ["secrets"],
                "resourceNames": [SECRET],
                "verbs": ["get", "patch"],
            }
        ]
        self._bind("Role", f"{RBAC}/namespaces/{self.name}", rules)
        rules = [
            {
                "apiGroups": ["admissionregistration.k8s.io"],
                "resources": ["validatingwebhookconfigurations"],
                "resourceNames": [self.name],
                "verbs": ["get", "patch"],
            }
        ]
        self._bind("ClusterRole", RBAC, rules)
        eventually(self._may_read_both, "the API server's authorizer knows the permissions")

    def _may_read_both(self):
        of_secret = {"namespace": self.name, "resource": "secrets", "name": SECRET}
        of_configuration = {
            "group": "admissionregistration.k8s.io",
            "resource": "validatingwebhookconfigurations",
            "name": self.name,
        }
        return all(
            self.api.request(
                "POST",
                "apis/authorization.k8s.io/v1/subjectaccessreviews",
                {"spec": {"user": USER, "resourceAttributes": {"verb": "get", **attributes}}},
            )["status"]["allowed"]
            for attributes in (of_secret, of_configuration)
        )

    def _bind(self, kind, root, rules):
        body = {"metadata": {"name": self.name}, "rules": rules}
        self.api.request("POST", f"{root}/{kind.lower()}s", body)
        binding = {
            "metadata": {"name": self.name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": self.name},
            "subjects": [{"kind": "User", "name": USER, "apiGroup": "rbac.authorization.k8s.io"}],
        }
        self.api.request("POST", f"{root}/{kind.lower()}bindings", binding)

    def keeper(self, client, validity=VALIDITY):
        return CertificateKeeper(
            client,
            secret=NamespacedName(self.name, SECRET),
            configuration=self.name,
            service=f"{self.name}-webhook",
            validity=validity,
            monotonic=lambda: time.monotonic() + self.ahead.total_seconds(),
        )

    def secret(self):
        return self.api.request("GET", self.secret_path)

    def pems(self, *keys):
        data = self.secret().get("data", {})
        return [base64.b64decode(data.get(key, "")) for key in keys]

    def pair(self):
        return load_pair(*self.pems("tls.crt", "tls.key")).certificate

    def authority(self):
        return load_pair(*self.pems("ca.crt", "ca.key")).certificate

    def stored(self):
        return self.api.request("GET", self.configuration_path)

    def bundles(self):
        return [
            load_bundle(base64.b64decode(webhook["clientConfig"].get("caBundle", "")))
            for webhook in self.stored()["webhooks"]
        ]

    def versions(self):
        return [each["metadata"]["resourceVersion"] for each in (self.secret(), self.stored())]

    def assert_trusted(self, now=None):
        """Check the pair in the Secret against both caBundles with a strict verifier."""
        pair = self.pair()
        for bundle in self.bundles():
            store = verification.Store(bundle)
            policy = verification.PolicyBuilder().store(store).time(now or datetime.now(UTC))
            name = x509.DNSName(f"{self.name}-webhook.{self.name}.svc")
            policy.build_server_verifier(name).verify(pair, [])


@pytest.fixture
def release(plane, request):
    slug = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[5:30].strip("-")
    release = Release(plane, f"{slug}-{time.monotonic_ns() % 10**9:09d}")
    release.install()
    yield release
    release.uninstall()


@pytest.fixture
async def client(plane, monkeypatch):
    """A client with only the permissions that a release grants."""
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig_for(USER)))
    client = await KubeClient.connect(lambda *_: None)
    yield client
    await client.close()


async def settled(release, keeper):
    """Reconcile, then check that doing it again writes nothing."""
    await keeper.reconcile(datetime.now(UTC))
    versions = release.versions()
    await keeper.reconcile(datetime.now(UTC))
    assert release.versions() == versions
    release.assert_trusted()


async def run_through(release, keeper, now):
    """Reconcile three times, one minute apart."""
    for minute in range(3):
        await keeper.reconcile(now + timedelta(minutes=minute))
        release.ahead += timedelta(minutes=1)
    release.assert_trusted(now + timedelta(minutes=2))


async def test_both_objects_are_filled_with_the_documented_permissions(release, client):
    await settled(release, release.keeper(client))
    assert release.bundles() == [(release.authority(),)] * 2


async def test_an_upgrade_keeps_the_bundle_and_the_keeper_owns_nothing_else(release, client):
    """Applies as helm 4, Flux and Argo CD do: server-side, without force."""

    def apply(**query):
        return release.api.request(
            "PATCH",
            release.configuration_path,
            release.configuration,
            "application/apply-patch+yaml",
            fieldManager="helm",
            **query,
        )

    release.api.request("DELETE", release.configuration_path)
    assert apply(dryRun="All")["webhooks"][0]["name"] == "channel.wazzup.dev"
    apply()
    await settled(release, release.keeper(client))
    before = release.stored()
    release.configuration["webhooks"][0]["timeoutSeconds"] = 7
    apply()
    after = release.stored()
    assert after["webhooks"][0]["timeoutSeconds"] == 7
    assert [each["clientConfig"]["caBundle"] for each in after["webhooks"]] == [
        each["clientConfig"]["caBundle"] for each in before["webhooks"]
    ]
    (own,) = [each for each in after["metadata"]["managedFields"] if each["manager"] != "helm"]
    assert own["manager"] == "wazzup-operator"
    assert str(own["fieldsV1"]).count("f:caBundle") == 2
    assert re.findall(r"f:\w+", str(own["fieldsV1"])).count("f:service") == 0
    assert "f:rules" not in str(own["fieldsV1"])


async def test_a_short_lived_pair_is_renewed_repeatedly(release, client):
    task = asyncio.create_task(release.keeper(client, timedelta(seconds=6)).run())
    seen = set()

    def look():
        with contextlib.suppress(ApiError, AttributeError, verification.VerificationError):
            release.assert_trusted()
            seen.add(release.pair())
        return len(seen) >= 3

    try:
        await asyncio.to_thread(eventually, look, "three pairs", 30)
    finally:
        task.cancel()
    assert release.bundles() == [(release.authority(),)] * 2


async def test_a_deleted_secret_is_reported_until_it_is_back(release, client):
    keeper = release.keeper(client)
    await settled(release, keeper)
    before = release.bundles()
    release.api.delete("secret", SECRET)
    with pytest.raises(SecretGone, match=f'Secret "{release.name}/{SECRET}" does not exist; apply'):
        await keeper.reconcile(datetime.now(UTC))
    assert release.bundles() == before
    release.api.create(release.empty)
    await run_through(release, keeper, datetime.now(UTC))
    assert release.bundles()[0][1:] == before[0]


async def test_concurrent_keepers_create_one_ca(release, client):
    keepers = [release.keeper(client) for _ in range(5)]
    for _ in range(3):
        now = datetime.now(UTC)
        await asyncio.gather(*(keeper.reconcile(now) for keeper in keepers))
        await run_through(release, keepers[0], now)
        release.api.patch("secret", SECRET, {"data": None})
    await run_through(release, keepers[0], now)
    for bundle in release.bundles():
        assert len(bundle) == 4


async def test_missing_permissions_are_named(plane, client):
    release = Release(plane, f"no-rights-{time.monotonic_ns() % 10**9:09d}")
    release.install(grant=False)
    try:
        with pytest.raises(PermissionMissing) as info:
            await release.keeper(client).reconcile(datetime.now(UTC))
        assert str(info.value).startswith(
            f'the operator may not get ValidatingWebhookConfiguration "{release.name}": the API'
            " server refused (403); grant its service account get on it"
        )
    finally:
        release.uninstall()
