"""From the files of a release alone to a Ready channel, with Helm and with kubectl.

The API server is real. What a kubelet does, this does: it runs the wheel with what the installed
Deployments say.
"""

import contextlib
import json
import re
import subprocess
import sys
import tarfile
import tomllib

import pytest
import yaml

from dev.controlplane.binaries import helm, kubectl_path
from dev.controlplane.plane import ControlPlane
from dev.processes.process import Process
from tests.chart.cluster import Cluster
from tests.chart.pods import Pod
from tests.docs.pages import table
from tests.integration.harness.api import Api, ApiError, account, channel, eventually, secret
from tests.release.container import EMPTY, REGISTRY, ROOT
from wazzup_simulator.client import Simulator

pytestmark = pytest.mark.timeout(1200)  # the first test waits for the release
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
RELEASE, NAMESPACE, TEAM = "wazzup-operator", "wazzup-operator-system", "shop"
DEPLOYMENTS = f"apis/apps/v1/namespaces/{NAMESPACE}/deployments"
CONFIGURATION = f"validatingwebhookconfiguration/{RELEASE}"
KEY, NUMBER = "key-of-the-shop", "447700900900"
"""KEY is in the Secret of the team."""


@pytest.fixture(scope="module")
def programs(dist, tmp_path_factory):
    """The folder of the programs in a virtual environment with the wheel."""
    directory = tmp_path_factory.mktemp("programs") / "venv"
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    pip = [directory / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    pip += ["install", "--no-compile"]
    pinned = ["--require-hashes", "--requirement=requirements.txt"]
    (wheel,) = dist.glob("*.whl")
    subprocess.run([*pip, *pinned], cwd=dist, check=True)
    subprocess.run([*pip, "--no-deps", wheel], cwd=dist, check=True)
    return directory / "bin"


@pytest.fixture
def wazzup(programs, tmp_path):
    """The simulated Wazzup of the wheel."""
    process = Process("wazzup", tmp_path / "wazzup.log")
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": "/"}
    process.launch([programs / "wazzup-simulator", "--port=0", f"--api-key={KEY}"], environment)
    try:
        process.wait_until(lambda: "listening on " in process.log(), "Wazzup does not listen", 60)
        yield Simulator(process.log().split("listening on ")[1].split()[0])
    finally:
        process.stop(10)


class Installation:
    """An empty cluster, and the folder of the release."""

    def __init__(self, plane, dist, directory):
        self.cluster, self.dist = Cluster(plane), dist
        self._directory = directory
        self._environment = {
            "PATH": "/usr/bin:/bin",
            **{name: str(directory) for name in ("HOME", "HELM_CACHE_HOME", "HELM_CONFIG_HOME")},
            "KUBECONFIG": str(plane.kubeconfig),
            "KUBERC": "off",
        }

    def run(self, program, *words):
        done = subprocess.run(
            [program, *words], cwd=self.dist, env=self._environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    def kubectl(self, *words):
        self.run(kubectl_path(), f"--cache-dir={self._directory}", *words)

    def pod(self, component, programs):
        """Return the first Pod of an installed Deployment."""
        name = f"{RELEASE}-{component}"
        body = self.cluster.api.request("GET", f"{DEPLOYMENTS}/{name}")
        spec = body["spec"]["template"]["spec"]
        pod = Pod(self.cluster, spec, name, NAMESPACE, self._directory)
        pod.programs = programs
        return pod

    def reach(self, webhook):
        """Lead the API server to a Pod of the webhook: there is no Service network."""
        replaced = [
            {"op": "replace", "path": f"/webhooks/{n}/clientConfig/service/port", "value": port}
            for port in [webhook.port("https")]
            for n in range(2)
        ]
        self.kubectl("patch", CONFIGURATION, "--type=json", f"--patch={json.dumps(replaced)}")
        gone = dict.fromkeys(("clusterIP", "clusterIPs", "ports", "selector"))
        spec = {**gone, "type": "ExternalName", "externalName": webhook.address}
        patch = f"--patch={json.dumps({'spec': spec})}"
        self.kubectl("patch", f"service/{RELEASE}-webhook", f"--namespace={NAMESPACE}", patch)


def with_helm(installation, url):
    words = ("--create-namespace", f"--namespace={NAMESPACE}", f"--set=settings.wazzupUrl={url}")
    installation.run(helm(), "install", RELEASE, f"wazzup-operator-{VERSION}.tgz", *words)


def with_kubectl(installation, url):
    installation.kubectl("apply", "--server-side", "--filename=install.yaml")
    args = "/spec/template/spec/containers/0/args/-"
    patch = json.dumps([{"op": "add", "path": args, "value": f"--wazzup-url={url}"}])
    words = (f"deployment/{RELEASE}-controller", f"--namespace={NAMESPACE}", "--type=json")
    installation.kubectl("patch", *words, f"--patch={patch}")


@pytest.mark.parametrize("install", [with_helm, with_kubectl])
def test_from_nothing_to_a_ready_channel(install, dist, programs, wazzup, tmp_path):
    wazzup.add_channel(NUMBER, account=wazzup.accounts()[0].id, state="active")
    with ControlPlane(tmp_path / "plane") as plane, contextlib.ExitStack() as stack:
        installation = Installation(plane, dist, tmp_path)
        install(installation, wazzup.base_url)
        cluster = installation.cluster
        eventually(lambda: cluster.serves("WazzupAccount", "WazzupChannel"), "kinds are served")

        controller, webhook = (
            installation.pod(each, programs) for each in ("controller", "webhook")
        )
        for pod in (controller, webhook):
            pod.start()
            stack.callback(pod.stop)
        controller.wait_for("readinessProbe")

        def serves():
            webhook.refresh()
            return webhook.probe("readinessProbe")[0] == 200

        eventually(serves, "the webhook has its certificate and is ready", 60)
        installation.reach(webhook)

        cluster.namespace(TEAM)
        team = Api(plane.kubeconfig, TEAM)

        def refusal():
            try:
                team.create(channel("impossible", "+99912345678"))
            except ApiError as error:
                return "cannot be a phone number" in error.message
            team.delete("wazzupchannel", "impossible")
            return False

        eventually(refusal, "a number that cannot exist is refused", 60)
        for body in (secret(KEY), account(), channel("support", f"+{NUMBER}")):
            team.create(body)
        eventually(lambda: ready(team) == ("True", "Active"), "the channel is Ready", 60)
        for pod in (webhook, controller):
            assert pod.stop() == 0, pod.log()
            assert f"wazzup-operator {VERSION}" in pod.log()
            assert "Traceback" not in pod.log()


def ready(team):
    conditions = team.get("wazzupchannel", "support").get("status", {}).get("conditions", [])
    return next(((c["status"], c["reason"]) for c in conditions if c["type"] == "Ready"), None)


def test_checksums_and_documents_name_every_file(dist):
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=dist, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names = {file.name for file in dist.iterdir()}
    assert len(done.stdout.splitlines()) == len(names) - 1
    rows = table(ROOT / "docs" / "install.md", "file")
    named = {each for row in rows for each in re.findall(r"`(\S+)`", row[0])}
    assert names | {"SHA256SUMS.sigstore.json"} == named  # added by release.yml


def test_chart_and_manifest_name_the_image_of_the_archive(dist):
    with tarfile.open(dist / f"wazzup-operator-{VERSION}-image.tar") as files:
        (index,) = json.load(files.extractfile("index.json"))["manifests"]
    with tarfile.open(dist / f"wazzup-operator-{VERSION}.tgz") as files:
        values = yaml.safe_load(files.extractfile("wazzup-operator/values.yaml"))
        chart = yaml.safe_load(files.extractfile("wazzup-operator/Chart.yaml"))
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)
    repository = f"{REGISTRY}/wazzup-operator"
    assert values["image"]["repository"] == repository
    images = {
        container["image"]
        for body in yaml.safe_load_all((dist / "install.yaml").read_text())
        if body["kind"] == "Deployment"
        for container in body["spec"]["template"]["spec"]["containers"]
    }
    assert images == {f"{repository}:{VERSION}@{index['digest']}"}


def test_the_sbom_names_the_pinned_dependencies(dist):
    sbom = json.loads((dist / f"wazzup-operator-{VERSION}-sbom.cdx.json").read_text())
    product = sbom["metadata"]["component"]
    assert (product["name"], product["version"]) == ("wazzup-operator", VERSION)
    pinned = {
        line.split()[0]
        for line in (dist / "requirements.txt").read_text().splitlines()
        if "==" in line
    }
    found = {
        f"{each['name']}=={each['version']}".lower().replace("_", "-")
        for each in sbom["components"]
    }
    assert len(found) > 30
    assert found == pinned
    assert all(each["licenses"] for each in sbom["components"])


def test_a_base_without_glibc_fails_the_build(builder, tmp_path):
    command = ["make", "release", f"ARCH={EMPTY}", "BASE=localhost/base", f"DIST={tmp_path}/dist"]
    done = subprocess.run(
        command, cwd=ROOT, env=builder.environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "The base has no glibc 2.34 or later." in done.stderr
    assert f"Building the image for {EMPTY} failed, for the reason above." in done.stderr
    assert not (tmp_path / "dist").exists()
