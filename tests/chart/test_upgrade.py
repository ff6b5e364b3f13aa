"""Upgrade, rollback and uninstallation with the real helm on a real API server.

Without a controller manager no Pod is created, nothing is garbage-collected, and a deleted
namespace stays in Terminating. So helm does not wait; test_processes.py covers the processes.
"""

import base64
import contextlib
import io
import os
import shlex
import shutil
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from dev.controlplane.binaries import kubectl_path
from dev.controlplane.plane import ControlPlane
from tests.chart.cluster import Cluster
from tests.chart.rendered import CHART
from tests.docs.pages import commands
from tests.integration.harness.api import Api, ApiError, account, channel, eventually
from tests.integration.harness.crds import CRDS, uninstall
from wazzup_operator.certificates.issue import dump_bundle, make_authority

ROOT = CHART.parents[1]
INSTALL = ROOT / "docs" / "install.md"
EARLIER = "a672be11"
"""The newest commit with an earlier chart and earlier kinds."""
RELEASE, SYSTEM, TEAM = "wz", "wz-system", "team"
CHARTS = "charts/wazzup-operator"
KINDS = [f"{CRDS}/{name}.wazzup.dev" for name in ("wazzupaccounts", "wazzupchannels")]
OWNED = [
    f"{group}/namespaces/{SYSTEM}/{plural}"
    for group, plural in (
        ("api/v1", "secrets"),
        ("apis/apps/v1", "deployments"),
        ("api/v1", "services"),
        ("api/v1", "serviceaccounts"),
        ("apis/policy/v1", "poddisruptionbudgets"),
        ("apis/rbac.authorization.k8s.io/v1", "roles"),
        ("apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    )
]
ADOPT = ("--take-ownership", "--force-conflicts")
AUTHORITY = dump_bundle([make_authority(datetime.now(UTC)).certificate])
SECRET = f"api/v1/namespaces/{SYSTEM}/secrets/{RELEASE}-webhook-certificate"
CONFIGURATION = f"apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{RELEASE}"


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """A control plane of its own: a release owns the CRDs."""
    with ControlPlane(tmp_path_factory.mktemp("upgrade")) as plane:
        yield plane


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The chart and the CRDs of EARLIER."""
    command = ["git", "archive", EARLIER, CHARTS, "crds"]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True)
    if archive.returncode:
        output = f"the checkout lacks commit {EARLIER}, whose chart is upgraded"
        assert not os.environ.get("CI"), output
        pytest.skip(f"{output}: run this in a full clone")
    directory = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(directory, filter="data")
    return directory


class Life:
    """A release, and objects of a team in another namespace."""

    def __init__(self, plane, run, directory):
        self.api = Api(plane.kubeconfig, TEAM)
        self.cluster = Cluster(plane)
        self._kubeconfig = str(plane.kubeconfig)
        self._run, self._directory = run, directory

    def helm(self, *words, namespace=SYSTEM):
        """Run helm; return its output."""
        done = self._helm(*words, namespace=namespace)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *words, namespace=SYSTEM):
        """Run helm, which must fail; return the error."""
        done = self._helm(*words, namespace=namespace)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def _helm(self, *words, namespace):
        return self._run(*map(str, words), f"--namespace={namespace}", KUBECONFIG=self._kubeconfig)

    def apply(self, folder):
        self.kubectl("apply", "--server-side", f"--filename={folder}")

    def kubectl(self, *words):
        environment = {**os.environ, "KUBECONFIG": self._kubeconfig, "KUBERC": "off"}
        command = [kubectl_path(), f"--cache-dir={self._directory}", *words]
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    def declare(self):
        """Declare an account and a channel; return them as `objects` does."""
        for name in (SYSTEM, TEAM):
            self.cluster.namespace(name)
        self.declared(account())
        self.declared(channel("support", "+12025550102"))
        return self.objects()

    def declared(self, body):
        def look():
            with contextlib.suppress(ApiError):  # not served yet
                return self.api.create(body)

        eventually(look, f"{body['kind']} is declared")

    def objects(self):
        """Return the uids by name of all objects; none may be under deletion."""

        def look():
            with contextlib.suppress(ApiError):  # not served yet
                return [self.api.list(kind) for kind in ("wazzupaccount", "wazzupchannel")]

        bodies = [body for bodies in eventually(look, "both kinds are listed") for body in bodies]
        assert not [body for body in bodies if "deletionTimestamp" in body["metadata"]]
        return {body["metadata"]["name"]: body["metadata"]["uid"] for body in bodies}

    def get(self, path):
        """Return an object, or None."""
        try:
            return self.api.request("GET", path)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def set_bundle(self):
        """Set the caBundle, as the controller does."""
        names = [webhook["name"] for webhook in self.get(CONFIGURATION)["webhooks"]]
        bundle = base64.b64encode(AUTHORITY).decode()
        hooks = [{"name": name, "clientConfig": {"caBundle": bundle}} for name in names]
        content_type = "application/strategic-merge-patch+json"
        self.api.request("PATCH", CONFIGURATION, {"webhooks": hooks}, content_type)
        return bundle

    def bundles(self):
        webhooks = self.get(CONFIGURATION)["webhooks"]
        return {webhook["clientConfig"].get("caBundle") for webhook in webhooks}

    def fill_secret(self):
        """Write the certificate, as the controller does."""
        data = {key: base64.b64encode(key.encode()).decode() for key in ("ca.key", "tls.key")}
        self.api.request("PATCH", SECRET, {"data": data}, "application/merge-patch+json")
        return data

    def admits(self):
        """Return whether a new channel is admitted in a dry run."""
        body = channel("another", "+12025550103")
        try:
            self.api.request("POST", self.api.path("wazzupchannel"), body, dryRun="All")
        except ApiError as error:
            if "failed calling webhook" not in error.message:
                raise
            return False
        return True


@pytest.fixture
def life(plane, run, tmp_path):
    life = Life(plane, run, tmp_path)
    life.cluster.namespace(SYSTEM)
    yield life
    for release in (RELEASE, "other"):
        life.helm("uninstall", release, "--ignore-not-found")
    uninstall(plane)


def rules(life):
    """Return the stored CEL rules for a channel's spec."""
    (version,) = life.get(KINDS[1])["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema["x-kubernetes-validations"]


def test_upgrade_from_an_earlier_chart_without_crds_and_rollback(life, earlier):
    life.apply(earlier / "crds")
    objects = life.declare()
    life.helm("install", RELEASE, earlier / CHARTS)
    bundle = life.set_bundle()
    before = rules(life)

    output = life.refused("upgrade", RELEASE, CHART)
    assert "exists and cannot be imported into the current release" in output
    output = life.refused("upgrade", RELEASE, CHART, "--take-ownership")
    assert 'conflict with "kubectl"' in output
    life.helm("upgrade", RELEASE, CHART, *ADOPT)
    assert rules(life) != before, "the CRDs are not this version's"
    assert life.objects() == objects
    assert life.bundles() == {bundle}, "the upgrade reset the caBundle"
    life.helm("upgrade", RELEASE, CHART)  # without flags, from now on

    life.helm("rollback", RELEASE, "1")
    deployments = f"apis/apps/v1/namespaces/{SYSTEM}/deployments"
    assert not life.api.request("GET", deployments)["items"], "the earlier chart has none"
    assert life.objects() == objects, "the CRDs were deleted"
    assert life.bundles() == {bundle}
    life.helm("upgrade", RELEASE, CHART)
    assert len(life.api.request("GET", deployments)["items"]) == 2
    assert life.objects() == objects

    life.api.request("DELETE", CONFIGURATION)  # in an emergency
    life.helm("upgrade", RELEASE, CHART)
    assert life.get(CONFIGURATION)


def test_upgrade_and_rollback_change_the_crds(life, tmp_path):
    later = shutil.copytree(CHART, tmp_path / "later")
    for file, old, new in (
        ("Chart.yaml", "ersion: 0.2.0", "ersion: 99.0.0"),
        ("definitions/wazzupchannels.yaml", "'cannot be changed from ", "'is kept from "),
    ):
        text = (later / file).read_text()
        assert old in text
        (later / file).write_text(text.replace(old, new))
    life.helm("install", RELEASE, CHART, "--set=controller.replicaCount=3")
    objects, before = life.declare(), rules(life)
    bundle = life.set_bundle()
    life.helm("upgrade", RELEASE, later, "--reset-then-reuse-values")
    assert "is kept from " in str(rules(life))
    deployment = f"apis/apps/v1/namespaces/{SYSTEM}/deployments/{RELEASE}-controller"
    assert life.get(deployment)["spec"]["replicas"] == 3
    assert life.get(deployment)["metadata"]["labels"]["app.kubernetes.io/version"] == "99.0.0"
    life.helm("rollback", RELEASE)
    assert rules(life) == before
    assert life.get(deployment)["metadata"]["labels"]["app.kubernetes.io/version"] == "0.2.0"
    assert life.objects() == objects
    assert life.bundles() == {bundle}


def test_the_certificate_survives_upgrades_and_its_secret_comes_back(life):
    life.helm("install", RELEASE, CHART)
    data = life.fill_secret()
    for words in (
        ("upgrade", RELEASE, CHART, "--set=controller.replicaCount=3"),
        ("upgrade", RELEASE, CHART, "--set=commonLabels.team=support"),
        ("upgrade", RELEASE, CHART, "--force-conflicts"),
        ("upgrade", RELEASE, CHART, "--server-side=false"),
        ("rollback", RELEASE, "1"),
    ):
        life.helm(*words)
        assert life.get(SECRET)["data"] == data, words

    # The controller fills it again.
    life.helm("upgrade", RELEASE, CHART, "--server-side=false", "--force-replace")
    assert "data" not in life.get(SECRET)
    life.api.request("DELETE", SECRET)
    life.helm("upgrade", RELEASE, CHART)
    assert "data" not in life.get(SECRET)

    life.helm("upgrade", RELEASE, CHART, "--set=webhook.certificate.source=external")
    assert life.get(SECRET) is None


def test_uninstallation_keeps_crds_and_objects_and_blocks_nothing(life):
    life.helm("install", RELEASE, CHART, "--set=webhook.failurePolicy=Fail")
    life.cluster.namespace(TEAM)
    eventually(lambda: life.cluster.serves("WazzupAccount", "WazzupChannel"), "the kinds")
    eventually(lambda: not life.admits(), "without the webhook, nothing is admitted")
    life.fill_secret()

    output = life.helm("uninstall", RELEASE)
    assert "[CustomResourceDefinition] wazzupchannels.wazzup.dev" in output
    assert life.get(CONFIGURATION) is None
    eventually(life.admits, "the API server no longer calls the webhook")
    objects = life.declare()
    assert [left for kind in OWNED for left in life.api.request("GET", kind)["items"]] == []
    assert not [path for path in KINDS if "deletionTimestamp" in life.get(path)["metadata"]]

    life.helm("install", RELEASE, CHART)
    assert life.objects() == objects, "the objects were lost"
    life.api.delete("wazzupchannel", "support")
    assert life.objects().keys() == {"default"}, "the deletion is blocked"


def test_what_a_deleted_namespace_leaves_behind_is_removed_as_documented(life):
    life.helm("install", RELEASE, CHART, "--set=webhook.failurePolicy=Fail")
    life.cluster.namespace(TEAM)
    eventually(lambda: life.cluster.serves("WazzupAccount", "WazzupChannel"), "the kinds")
    eventually(lambda: not life.admits(), "the configuration refuses everything")
    # As the namespace controller would, with helm's records of the release.
    for path in OWNED:
        life.api.request("DELETE", path)
    assert not life.admits()

    (line,) = [each for each in commands(INSTALL) if each.startswith("kubectl delete clusterrole,")]
    line = line.replace("instance=wazzup-operator", f"instance={RELEASE}")
    life.kubectl(*shlex.split(line, comments=True)[1:])
    eventually(life.admits, "the API server no longer calls the webhook")
    for kind in ("clusterroles", "clusterrolebindings"):
        items = life.api.request("GET", f"apis/rbac.authorization.k8s.io/v1/{kind}")["items"]
        assert not [each for each in items if each["metadata"]["name"].startswith(f"{RELEASE}-")]
    life.helm("install", RELEASE, CHART)


@pytest.mark.parametrize(
    ("release", "namespace", "key"),
    [("other", SYSTEM, "release-name"), (RELEASE, TEAM, "release-namespace")],
)
def test_another_release_adopts_the_crds_with_a_flag(life, release, namespace, key):
    life.helm("install", RELEASE, CHART)
    objects = life.declare()
    life.helm("uninstall", RELEASE)
    output = life.refused("install", release, CHART, namespace=namespace)
    assert f'key "meta.helm.sh/{key}" must equal' in output
    life.helm("install", release, CHART, "--take-ownership", namespace=namespace)
    assert life.objects() == objects
    life.helm("uninstall", release, namespace=namespace)


def test_the_notes_ask_for_the_crds_only_where_they_are_missing(life):
    asks = "apply --server-side -f -"
    assert asks in life.helm("install", "other", CHART, "--set=crds.enabled=false")
    life.helm("install", RELEASE, CHART)
    assert asks not in life.helm("upgrade", "other", CHART, "--set=crds.enabled=false")


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_helm_test_leaves_nothing_behind(life, phase):
    life.helm("install", RELEASE, CHART)
    pods = f"api/v1/namespaces/{SYSTEM}/pods"
    check = f"{pods}/{RELEASE}-check"
    with ThreadPoolExecutor() as threads:
        helm = life.helm if phase == "Succeeded" else life.refused
        test = threads.submit(helm, "test", RELEASE, "--timeout=1m")
        eventually(lambda: test.done() or life.get(check), "helm creates the Pod", 60)
        # As the kubelet would.
        status = {"status": {"phase": phase}}
        life.api.request("PATCH", f"{check}/status", status, "application/merge-patch+json")
        test.result()
    for plural in (pods, *OWNED):
        items = life.api.request("GET", plural)["items"]
        assert not [each for each in items if each["metadata"]["name"] == f"{RELEASE}-check"]


def test_uninstallation_with_crds_keep_false_deletes_everything(life):
    life.helm("install", RELEASE, CHART, "--set=crds.keep=false")
    life.declare()
    life.helm("uninstall", RELEASE)
    left = filter(None, map(life.get, KINDS))  # the fixture waits until they are gone
    assert all("deletionTimestamp" in body["metadata"] for body in left)
