"""The certificate keeper against the real API server, which calls the webhook."""

import asyncio
import base64
import contextlib
import re
import time
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.x509 import verification

from tests.integration.harness.api import Api, ApiError, channel, eventually
from tests.integration.harness.release import rendered
from wazzup_operator.certificates.issue import Unusable, load_bundle, load_pair
from wazzup_operator.certificates.keeper import CertificateKeeper, PermissionMissing
from wazzup_operator.certificates.loader import CertificateLoader
from wazzup_operator.kube.client import KubeClient
from wazzup_operator.resources.base import NamespacedName

CONFIGURATIONS = "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
RBAC = "apis/rbac.authorization.k8s.io/v1"
SECRET = "webhook-certificate"
USER = "certificate-keeper"
VALIDITY = timedelta(days=90)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


class Release:
    """A namespace with the chart's configuration and a keeper's permissions."""

    def __init__(self, plane, name):
        self.api = Api(plane.kubeconfig, name)
        self.name = name
        objects = rendered(name, "webhook.failurePolicy=Fail", namespace=name)
        (self.configuration,) = (each for each in objects if each["kind"].startswith("Validating"))
        self.secret_path = f"api/v1/namespaces/{name}/secrets/{SECRET}"
        self.configuration_path = f"{CONFIGURATIONS}/{name}"
        self.ahead = timedelta()
        """How far the keeper's monotonic clock is ahead of the machine's."""

    def install(self, grant=True):
        self.api.request("POST", "api/v1/namespaces", {"metadata": {"name": self.name}})
        self.api.request("POST", CONFIGURATIONS, self.configuration)
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
            },
            # RBAC cannot restrict create to a name.
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
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
        data = self.secret()["data"]
        return [base64.b64decode(data[key]) for key in keys]

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
    """Run a pass, then check that another writes nothing."""
    await keeper.reconcile(datetime.now(UTC))
    versions = release.versions()
    await keeper.reconcile(datetime.now(UTC))
    assert release.versions() == versions
    release.assert_trusted()


async def run_through(release, keeper, now):
    """Run three passes, one minute apart."""
    for minute in range(3):
        await keeper.reconcile(now + timedelta(minutes=minute))
        release.ahead += timedelta(minutes=1)
    release.assert_trusted(now + timedelta(minutes=2))


async def test_everything_is_created_with_the_documented_permissions(release, client):
    await settled(release, release.keeper(client))
    assert release.secret()["type"] == "kubernetes.io/tls"
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
    assert str(own["fieldsV1"]).count("f:caBundle") == 2
    assert re.findall(r"f:\w+", str(own["fieldsV1"])).count("f:service") == 0
    assert "f:rules" not in str(own["fieldsV1"])


async def test_a_short_lived_pair_is_renewed_repeatedly(release, client):
    task = asyncio.create_task(release.keeper(client, timedelta(seconds=6)).run())
    seen = set()

    def look():
        with contextlib.suppress(ApiError, Unusable, verification.VerificationError):
            release.assert_trusted()
            seen.add(release.pair())
        return len(seen) >= 3

    try:
        await asyncio.to_thread(eventually, look, "three pairs", 30)
    finally:
        task.cancel()
    assert release.bundles() == [(release.authority(),)] * 2


async def test_concurrent_keepers_create_one_ca(release, client):
    keepers = [release.keeper(client) for _ in range(5)]
    for _ in range(3):
        now = datetime.now(UTC)
        await asyncio.gather(*(keeper.reconcile(now) for keeper in keepers))
        await run_through(release, keepers[0], now)
        release.api.delete("secret", SECRET)
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
            " server refused (403): validatingwebhookconfigurations"
        )
    finally:
        release.uninstall()


class Webhook:
    """An HTTPS server with the mounted pair; records reviews and allows everything."""

    def __init__(self, directory):
        self.directory = directory
        self.loader = CertificateLoader(directory)
        self.reviews = []
        self._runner = None

    async def start(self):
        app = web.Application()
        app.router.add_post("/{kind}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.loader.context)
        await site.start()
        return self._runner.addresses[0][1]

    async def stop(self):
        await self._runner.cleanup()

    async def _answer(self, request):
        review = (await request.json())["request"]
        self.reviews.append((request.path, review["operation"], review["name"]))
        response = web.json_response(
            {
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "response": {"uid": review["uid"], "allowed": True},
            }
        )
        response.force_close()  # so that every review needs a handshake
        return response

    def mount(self, release):
        """Write the pair to the directory, as the kubelet does, and load it."""
        keys = ("tls.crt", "tls.key")
        for key, pem in zip(keys, release.pems(*keys), strict=True):
            (self.directory / key).write_bytes(pem)
        self.loader.load()


@pytest.fixture
async def webhook(release, client, tmp_path):
    """A webhook that the API server calls by its Service's name, for one namespace."""
    webhook = Webhook(tmp_path)
    port = await webhook.start()
    for each in release.configuration["webhooks"]:
        each["clientConfig"]["service"]["port"] = port
        each["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": release.name}}
    release.api.request("DELETE", release.configuration_path)
    release.api.request("POST", CONFIGURATIONS, release.configuration)
    service = {
        "metadata": {"name": f"{release.name}-webhook"},
        "spec": {"type": "ExternalName", "externalName": "127.0.0.1"},
    }
    release.api.request("POST", f"api/v1/namespaces/{release.name}/services", service)
    await release.keeper(client, HOUR).reconcile(datetime.now(UTC))
    webhook.mount(release)
    body = channel("probe", "+79865784457")

    def served():
        with contextlib.suppress(ApiError):
            release.api.request("POST", release.api.path("wazzupchannel"), body, dryRun="All")
        return bool(webhook.reviews)

    await asyncio.to_thread(eventually, served, "the API server calls the webhook")
    webhook.reviews.clear()
    yield webhook
    release.uninstall()
    await webhook.stop()


async def test_no_review_fails_across_a_renewal_a_rotation_and_a_lost_secret(
    release, client, webhook
):
    user = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=release.api.tls))
    target = f"https://{release.api.address}/{release.api.path('wazzupchannel')}?dryRun=All"
    done = 0
    stop = asyncio.Event()

    async def create():
        nonlocal done
        while not stop.is_set():
            async with user.post(target, json=channel("probe", "+79865784457")) as answer:
                assert answer.status == 201, await answer.text()
            done += 1

    creators = [asyncio.create_task(create()) for _ in range(50)]

    async def busy():
        enough = done + 150
        while done < enough:
            await asyncio.sleep(0.01)
            assert not any(creator.done() for creator in creators), "a review failed"

    async def passes(*minutes):
        for minute in minutes:
            release.ahead = timedelta(minutes=minute)
            await keeper.reconcile(started + release.ahead)
            await busy()
            webhook.mount(release)
            pairs.add(webhook.loader.expires)
            await busy()

    keeper = release.keeper(client, HOUR)
    pairs, started = {webhook.loader.expires}, datetime.now(UTC)
    try:
        await busy()
        await passes(41)
        assert len(pairs) == 2, "the pair was not renewed"
        release.api.patch("secret", SECRET, {"data": {"ca.key": ""}})
        await passes(42, 43)
        assert len(pairs) == 3, "no pair signed by the new CA is served"
        release.api.delete("secret", SECRET)
        await passes(44, 45)
        assert len(pairs) == 4, "no pair signed by the third CA is served"
    finally:
        stop.set()
        await asyncio.gather(*creators)
        await user.close()


async def test_only_a_changed_spec_is_reviewed(release, client, webhook):
    api = release.api

    def changes():
        webhook.reviews.clear()
        api.create(channel("one", "+79865784457"))
        assert webhook.reviews == [("/channel", "CREATE", "one")]
        webhook.reviews.clear()
        api.patch(
            "wazzupchannel", "one", {"metadata": {"annotations": {"wazzup.dev/replaces": "x"}}}
        )
        api.patch("wazzupchannel", "one", {"metadata": {"finalizers": ["example.com/held"]}})
        api.patch("wazzupchannel", "one", {"status": {"state": "Active"}}, "status")
        assert webhook.reviews == []
        api.patch("wazzupchannel", "one", {"spec": {"active": False}})
        assert webhook.reviews == [("/channel", "UPDATE", "one")]
        webhook.reviews.clear()
        api.delete("wazzupchannel", "one")
        api.patch("wazzupchannel", "one", {"spec": {"displayName": "while it is being deleted"}})
        api.patch("wazzupchannel", "one", {"metadata": {"finalizers": None}})
        assert webhook.reviews == []
        assert not api.exists("wazzupchannel", "one")

    await asyncio.to_thread(changes)
