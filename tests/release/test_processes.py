"""The image's processes against a real API server."""

import base64
import contextlib
import itertools
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from dev.controlplane.plane import ControlPlane
from dev.processes.operator import get, pod_address
from dev.processes.port import free_port
from tests.integration.harness.api import (
    JSON,
    Api,
    ApiError,
    account,
    channel,
    eventually,
    secret,
)
from tests.integration.harness.release import ADDED
from tests.release.container import ROOT, Container, Start
from wazzup_simulator.client import Simulator

pytestmark = pytest.mark.timeout(1200)  # the first test waits for the release
KEY = "key-of-the-image"
RELEASE, NAMESPACE = "wazzup-operator", "wazzup-operator-system"
CONTROLLER, WEBHOOK = f"{RELEASE}-controller", f"{RELEASE}-webhook"
CERTIFICATE = f"{WEBHOOK}-certificate"
CONFIGURATIONS = "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
NUMBERS = itertools.count(447700900700)
IMPOSSIBLE = "+99912345678"
SECONDS = 10.0
"""Maximum time to exit; Kubernetes waits for 30 s."""


def manifest(kind: str) -> list[JSON]:
    """Return the objects of a kind in deploy/install.yaml."""
    documents = yaml.safe_load_all((ROOT / "deploy/install.yaml").read_text())
    return [each for each in documents if each["kind"] == kind]


@pytest.fixture(scope="module")
def api(plane: ControlPlane) -> Api:
    """The administrator, after creating the manifest's service accounts and permissions."""
    api = Api(plane.kubeconfig)
    api.request("POST", "api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    for kind, path in ADDED.items():
        for body in manifest(kind):
            api.request("POST", path.format(namespace=NAMESPACE), body)
    # There are no Pods: the webhook's Service leads to this machine.
    spec = {"type": "ExternalName", "externalName": "127.0.0.1"}
    service = {"metadata": {"name": WEBHOOK}, "spec": spec}
    api.request("POST", f"api/v1/namespaces/{NAMESPACE}/services", service)
    return api


class Forward(socketserver.BaseRequestHandler):
    """Forwards a connection from the API server's Service, port 443."""

    def handle(self) -> None:
        with socket.create_connection(self.server.upstream) as upstream:
            back = threading.Thread(target=copy, args=(upstream, self.request), daemon=True)
            back.start()
            copy(self.request, upstream)
            back.join()


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # either end may disconnect
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def service(plane: ControlPlane) -> Iterator[str]:
    """Address of `kubernetes.default.svc`, where kopf connects to the API server."""
    address = pod_address()
    with socketserver.ThreadingTCPServer((address, 443), Forward) as server:
        url = urlsplit(plane.url)
        server.upstream = (url.hostname, url.port)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield address
        server.shutdown()
        thread.join()


def in_cluster(plane: ControlPlane, service: str, run: Path, name: str) -> dict[str, str]:
    """Mount a service account as the kubelet does; return the variables that it sets."""
    cluster = yaml.safe_load(plane.kubeconfig.read_text())["clusters"][0]["cluster"]
    directory = run / "secrets/kubernetes.io/serviceaccount"
    directory.mkdir(parents=True)
    (directory / "token").write_text(plane.token(NAMESPACE, name))
    (directory / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    (directory / "namespace").write_text(NAMESPACE)
    (run / "hosts").write_text(f"{service} kubernetes.default.svc\n")
    server = urlsplit(cluster["server"])
    return {
        "KUBERNETES_SERVICE_HOST": str(server.hostname),
        "KUBERNETES_SERVICE_PORT": str(server.port),
    }


class Addresses:
    """Addresses of a process for health and metrics."""

    def __init__(self) -> None:
        self.health, self.metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.flags = (f"--health-address={self.health}", f"--metrics-address={self.metrics}")

    def wait_ready(self, container: Container) -> None:
        def look() -> bool:
            assert container.runs, container.log()
            return get(f"http://{self.health}/readyz")[0] == 200

        eventually(look, f"it is ready; its log: {container.log_file}", 30)
        assert get(f"http://{self.metrics}/metrics")[0] == 200


def start_simulator(start: Start) -> tuple[Container, Simulator]:
    flags = ("--port=0", f"--api-key={KEY}")
    container = start("wazzup", *flags, entrypoint=["wazzup-simulator"])
    url = container.wait_for("listening on ").split("listening on ")[1].split()[0]
    return container, Simulator(url)


def reason(api: Api, name: str) -> str | None:
    conditions = api.get("wazzupchannel", name)["status"].get("conditions", [])
    return next((each["reason"] for each in conditions if each["type"] == "Ready"), None)


def configuration(port: int) -> JSON:
    """Return the manifest's configuration with another port; the controller sets the caBundle."""
    (body,) = manifest("ValidatingWebhookConfiguration")
    for webhook in body["webhooks"]:
        webhook["clientConfig"]["service"]["port"] = port
    return body


def test_both_processes_and_the_simulator(
    plane: ControlPlane, api: Api, service: str, start: Start, tmp_path: Path
) -> None:
    """As in a cluster: with service accounts, and a certificate from the controller."""
    own = Api(plane.kubeconfig, NAMESPACE)
    wazzup, simulator = start_simulator(start)
    port = free_port()
    api.request("POST", CONFIGURATIONS, configuration(port))
    number = str(next(NUMBERS))
    simulator.add_channel(number, account=simulator.accounts()[0].id, state="active")

    at = Addresses()
    controller = start(
        *("controller", "controller", *at.flags, f"--wazzup-url={simulator.base_url}"),
        *(f"--webhook-secret={NAMESPACE}/{CERTIFICATE}", f"--webhook-service={WEBHOOK}"),
        f"--webhook-configuration={RELEASE}",
        environment=in_cluster(plane, service, tmp_path / "controller", CONTROLLER),
    )
    at.wait_ready(controller)
    # The Lease is in the Pod's namespace, which the service account's files name.
    lease = f"apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/wazzup-operator"
    assert api.request("GET", lease)["spec"]["holderIdentity"]

    def mounted() -> bool:
        data = own.get("secret", CERTIFICATE).get("data", {})
        for name in ("tls.crt", "tls.key"):
            (tls / name).write_bytes(base64.b64decode(data.get(name, "")))
        return bool(data.get("tls.crt"))

    tls = tmp_path / "webhook" / "tls"
    variables = in_cluster(plane, service, tmp_path / "webhook", WEBHOOK)
    tls.mkdir()
    eventually(mounted, "the controller issues the certificate", 30)
    webhook_at = Addresses()
    flags = (f"--webhook-address=127.0.0.1:{port}", "--cert-dir=/run/tls", *webhook_at.flags)
    webhook = start("webhook", "webhook", *flags, environment=variables)
    webhook_at.wait_ready(webhook)

    def refusal() -> str:
        try:
            api.create(channel("impossible", IMPOSSIBLE))
        except ApiError as error:
            return error.message if "cannot be a phone number" in error.message else ""
        raise AssertionError("an impossible number was admitted")

    eventually(refusal, "the API server calls the webhook", 30)
    api.create(secret(KEY))
    api.create(account())
    eventually(lambda: not created(api, number), "a possible number is admitted", 30)
    eventually(lambda: reason(api, "support") == "Active", "the channel is Active", 30)

    for container in (webhook, controller, wazzup):
        assert container.end(SECONDS) == 0, container.log()
        assert "Traceback" not in container.log()
    assert number not in controller.log()
    assert KEY not in controller.log()


def created(api: Api, number: str) -> str:
    """Create a channel; return the error, if any."""
    try:
        api.create(channel("support", f"+{number}"))
    except ApiError as error:
        return error.message
    return ""


@pytest.mark.parametrize("inline", [True, False])
def test_a_kubeconfig(
    plane: ControlPlane, api: Api, start: Start, tmp_path: Path, inline: bool
) -> None:
    """With inline certificates, which need a writable /tmp, and with files."""
    run = tmp_path / "controller"
    run.mkdir()
    config = yaml.safe_load(plane.kubeconfig.read_text())
    if not inline:
        for part in (config["clusters"][0]["cluster"], config["users"][0]["user"]):
            for key in [key for key in part if key.endswith("-data")]:
                name = key.removesuffix("-data")
                (run / name).write_bytes(base64.b64decode(part.pop(key)))
                part[name] = f"/run/{name}"
    (run / "kubeconfig").write_text(json.dumps(config))
    at = Addresses()
    controller = start(
        "controller",
        *("controller", f"--leader-elect-resource-namespace={NAMESPACE}", *at.flags),
        environment={"KUBECONFIG": "/run/kubeconfig"},
        tmp=inline,
    )
    at.wait_ready(controller)
    assert controller.end(SECONDS) == 0, controller.log()
