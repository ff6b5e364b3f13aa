"""The processes of the rendered manifests (see pods.py) against a real API server."""

import base64
import contextlib
import copy
import itertools
import json
import os
import subprocess
import time
from urllib.parse import urlsplit

import pytest
import yaml

from dev.controlplane.binaries import kubectl_path
from tests.chart.pods import Pod, replicas
from tests.integration.harness.api import Api, account, channel, eventually, secret
from wazzup_simulator.client import Simulator

NUMBERS = itertools.count(447700900500)
IMPOSSIBLE = "+99912345678"
WEBHOOK_PORTS = ("https", "metrics", "health")


@pytest.fixture(scope="module")
def wazzup():
    with Simulator.launch() as simulator:
        yield simulator


@pytest.fixture
def unique():
    return f"{time.monotonic_ns() % 10**9:09d}"


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


def start(stack, pods):
    for pod in pods:
        pod.start()
        stack.callback(pod.stop)
    return pods


class Team:
    """A namespace with a Wazzup account."""

    def __init__(self, cluster, wazzup, name):
        cluster.namespace(name)
        self.api = Api(cluster.api.kubeconfig, name)
        self.wazzup, self.name = wazzup, name
        wazzup.add_account([f"key-{name}"], id=name)
        self.api.create(secret(f"key-{name}"))

    def declare(self):
        """Declare the account and a channel that is active in Wazzup."""
        number = str(next(NUMBERS))
        self.wazzup.add_channel(number, account=self.name, state="active")
        self.api.create(account())
        self.api.create(channel("support", f"+{number}"))

    def ready(self):
        conditions = self.api.get("wazzupchannel", "support")["status"].get("conditions", [])
        return next((each["reason"] for each in conditions if each["type"] == "Ready"), None)

    def wait_active(self):
        eventually(lambda: self.ready() == "Active", f"the channel of {self.name} is Active", 30)


def kubectl(cluster, directory, *words, stdin=None):
    return subprocess.run(
        [kubectl_path(), f"--cache-dir={directory}", *words],
        env={**os.environ, "KUBECONFIG": str(cluster.api.kubeconfig), "KUBERC": "off"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def refused(plane, namespace):
    """Return the requests of a namespace's service accounts that were refused with 403."""
    return [
        (entry["user"]["username"], entry["verb"], entry["requestURI"])
        for line in plane.audit_log.read_text().splitlines(keepends=True)
        if line.endswith("\n") and f'"system:serviceaccount:{namespace}:' in line
        for entry in (json.loads(line),)
        if entry["responseStatus"]["code"] == 403
    ]


@pytest.mark.timeout(300)
def test_a_release_runs_reviews_and_shuts_down(
    plane, cluster, wazzup, render, stack, tmp_path, unique
):
    system = f"system-{unique}"
    ports = (f"webhook.ports.{name}={10260 + n}" for n, name in enumerate(WEBHOOK_PORTS))
    rendered = render(
        f"settings.wazzupUrl={wazzup.base_url}", *ports, release=system, namespace=system
    )
    cluster.install(with_webhook_at_pods(rendered))
    team = Team(cluster, wazzup, f"team-{unique}")
    controllers = start(stack, replicas(cluster, rendered, f"{system}-controller", tmp_path))
    assert len(controllers) == 2
    for pod in controllers:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            pod.wait_for(probe)
        assert pod.get("metrics", "/metrics")[0] == 200

    # The leader is one of the Pods; the downward API gives name and uid.
    lease = f"apis/coordination.k8s.io/v1/namespaces/{system}/leases/{system}"
    held = cluster.api.request("GET", lease)["spec"]["holderIdentity"]
    assert held in {f"{pod.name}_uid-of-{pod.name}" for pod in controllers}
    team.declare()
    team.wait_active()

    # The webhook serves the certificate that the controller issues.
    webhooks = start(stack, replicas(cluster, rendered, f"{system}-webhook", tmp_path))
    assert len(webhooks) == 2
    for pod in webhooks:
        pod.wait_for("startupProbe")
        mount_until_ready(pod)
        assert pod.get("metrics", "/metrics")[0] == 200
        assert not list(pod.directory.rglob("ca*")), "the CA's key is not mounted"
    point_service(cluster, rendered, webhooks[0])
    wrong = json.dumps(channel("wrong", IMPOSSIBLE))

    def refusal():
        done = kubectl(cluster, tmp_path, "create", f"-n{team.name}", "-f-", stdin=wrong)
        if done.returncode == 0:
            team.api.delete("wazzupchannel", "wrong")
        return done.stderr

    output = eventually(refusal, "a number that cannot exist is refused", 60)
    assert 'admission webhook "channel.wazzup.dev" denied the request' in output
    assert "cannot be a phone number" in output

    run_helm_test(stack, cluster, rendered, tmp_path, system)

    assert refused(plane, system) == [], "permissions are missing"
    for pod in [*webhooks, *controllers]:
        assert pod.stop() == 0, pod.log()
        assert "Traceback" not in pod.log()
    assert not cluster.api.request("GET", lease)["spec"].get("holderIdentity"), (
        "the Lease is still held"
    )


def with_webhook_at_pods(rendered):
    """Replace the Service's port with the Pod's: a Service with an external name cannot map it."""
    rendered = copy.deepcopy(rendered)
    (configuration,) = rendered.all("ValidatingWebhookConfiguration")
    for webhook in configuration["webhooks"]:
        service = webhook["clientConfig"]["service"]
        body = rendered.one("Service", service["name"])
        (port,) = [each for each in body["spec"]["ports"] if each["port"] == service["port"]]
        deployment = service["name"]
        container = rendered.container(deployment)
        (target,) = [each for each in container["ports"] if each["name"] == port["targetPort"]]
        service["port"] = target["containerPort"]
    return rendered


def point_service(cluster, rendered, pod):
    (configuration,) = rendered.all("ValidatingWebhookConfiguration")
    service = configuration["webhooks"][0]["clientConfig"]["service"]
    path = f"api/v1/namespaces/{service['namespace']}/services/{service['name']}"
    cluster.api.request("DELETE", path)
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": service["name"], "namespace": service["namespace"]},
            "spec": {"type": "ExternalName", "externalName": pod.address},
        }
    )


def mount_until_ready(pod):
    def look():
        pod.refresh()
        return pod.probe("readinessProbe")[0] == 200

    eventually(look, f"{pod.name} has its certificate and is ready", 60)


def run_helm_test(stack, cluster, rendered, directory, system):
    """Run the Pod of `helm test` with its service account."""
    hooks = [each for each in rendered.objects if each["metadata"]["name"] == f"{system}-check"]
    (body,) = [each for each in hooks if each["kind"] == "Pod"]
    for each in hooks:
        if each is not body:
            cluster.create(each)
    pod = Pod(cluster, body["spec"], f"{system}-check", system, directory)
    config = yaml.safe_load(cluster.api.kubeconfig.read_text())["clusters"][0]["cluster"]
    server = urlsplit(config["server"])
    pod.container = copy.deepcopy(pod.container)
    pod.container["env"] += [
        {"name": "KUBERNETES_SERVICE_HOST", "value": server.hostname},
        {"name": "KUBERNETES_SERVICE_PORT", "value": str(server.port)},
    ]
    account = pod.directory / "account"
    account.mkdir()
    (account / "ca.crt").write_bytes(base64.b64decode(config["certificate-authority-data"]))
    (account / "token").write_text(cluster.plane.token(system, f"{system}-check"))
    command = [
        word.replace("/var/run/secrets/kubernetes.io/serviceaccount", str(account))
        for word in pod.container["command"]
    ]
    done = pod.run(command)
    assert done.returncode == 0, done.stderr
    assert "invalid ones are refused" in done.stdout


@pytest.mark.timeout(300)
def test_limited_to_two_namespaces(plane, cluster, wazzup, render, stack, tmp_path, unique):
    system = f"system-{unique}"
    ours, theirs = [f"{team}-{unique}" for team in ("red", "blue")], f"green-{unique}"
    teams = [Team(cluster, wazzup, name) for name in (*ours, theirs)]
    rendered = render(
        f"settings.wazzupUrl={wazzup.base_url}",
        f"watchNamespaces={{{','.join(ours)}}}",
        "controller.replicaCount=1",
        release=system,
        namespace=system,
    )
    cluster.install(rendered)
    (pod,) = start(stack, replicas(cluster, rendered, f"{system}-controller", tmp_path))
    pod.wait_for("readinessProbe")
    for team in teams:
        team.declare()
    for team in teams[:2]:
        team.wait_active()
    assert teams[2].ready() is None, "its namespace is not watched"
    assert refused(plane, system) == []
