"""A release of the chart: accounts, arguments and environment of its processes, as rendered."""

import functools
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from dev.controlplane.binaries import helm
from dev.controlplane.plane import ControlPlane
from tests.integration.harness.api import JSON, Api, ApiError
from tests.integration.harness.controller import POD

CHART = Path(__file__).parents[3] / "charts" / "wazzup-operator"
RIGHTS = "apis/rbac.authorization.k8s.io/v1"
PATHS = {
    "ServiceAccount": "api/v1/namespaces/{namespace}/serviceaccounts",
    "ClusterRole": f"{RIGHTS}/clusterroles",
    "ClusterRoleBinding": f"{RIGHTS}/clusterrolebindings",
    "Role": f"{RIGHTS}/namespaces/{{namespace}}/roles",
    "RoleBinding": f"{RIGHTS}/namespaces/{{namespace}}/rolebindings",
}
NAMESPACE = "default"
ACCOUNTS = f"system:serviceaccount:{NAMESPACE}:"
"""What the audit log calls them, before each one's name."""


@functools.cache
def rendered(release: str, *values: str) -> list[JSON]:
    """Return what helm renders with these values, less what is for `helm test`."""
    with tempfile.TemporaryDirectory() as home:
        words = [f"--namespace={NAMESPACE}", *(f"--set={value}" for value in values)]
        done = subprocess.run(
            [helm(), "template", release, CHART, *words],
            env={**os.environ, "HOME": home, "HELM_CACHE_HOME": home, "HELM_CONFIG_HOME": home},
            capture_output=True,
            text=True,
            check=True,
        )
    return [
        each
        for each in yaml.safe_load_all(done.stdout)
        if "helm.sh/hook" not in each["metadata"].get("annotations", {})
    ]


@dataclass
class Process:
    """What a process of a release is given."""

    kubeconfig: Path
    arguments: list[str]
    environment: dict[str, str]


def install(plane: ControlPlane, release: str, component: str, *values: str) -> Process:
    """Create a release's accounts and rights, if need be; return what a process is given."""
    api = Api(plane.kubeconfig)
    objects = rendered(release, "crds.enabled=false", *values)
    for body in objects:
        if path := PATHS.get(body["kind"]):
            namespace = body["metadata"].get("namespace")
            try:
                api.request("POST", path.format(namespace=namespace), body)
            except ApiError as error:
                if error.status != 409:  # somebody else of this session installed it
                    raise
    (pod,) = (
        each["spec"]["template"]["spec"]
        for each in objects
        if each["kind"] == "Deployment"
        and each["metadata"]["labels"]["app.kubernetes.io/component"] == component
    )
    (container,) = pod["containers"]
    account = pod["serviceAccountName"]
    process, *arguments = container["args"]
    assert process == component
    return Process(
        kubeconfig=_kubeconfig(plane, api, account),
        arguments=arguments,
        environment={each["name"]: _value(each) for each in container.get("env", [])},
    )


def _value(variable: JSON) -> str:
    if "value" in variable:
        return str(variable["value"])
    assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    return POD


def _kubeconfig(plane: ControlPlane, api: Api, account: str) -> Path:
    """Write a kubeconfig with an account's token, as the kubelet asks for it."""
    path = f"api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": api.request("POST", path, body)["status"]["token"]}
    file = plane.kubeconfig.parent / f"{account}.kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file
