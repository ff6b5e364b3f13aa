"""A release of the chart: its service accounts, arguments and environment, as rendered."""

import functools
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from dev.controlplane.binaries import helm
from dev.controlplane.plane import ControlPlane
from tests.integration.harness.api import JSON, Api

CHART = Path(__file__).parents[3] / "charts" / "wazzup-operator"
RIGHTS = "apis/rbac.authorization.k8s.io/v1"
ADDED = {
    "Secret": "api/v1/namespaces/{namespace}/secrets",
    "ServiceAccount": "api/v1/namespaces/{namespace}/serviceaccounts",
    "ClusterRole": f"{RIGHTS}/clusterroles",
    "ClusterRoleBinding": f"{RIGHTS}/clusterrolebindings",
    "Role": f"{RIGHTS}/namespaces/{{namespace}}/roles",
    "RoleBinding": f"{RIGHTS}/namespaces/{{namespace}}/rolebindings",
}
"""Kinds that are applied to the cluster, and their paths; tests start the processes."""

NAMESPACE = "default"
POD = "wazzup-operator-0"
"""One name for all: after a kill, the next process is the restarted container."""

ACCOUNTS = f"system:serviceaccount:{NAMESPACE}:"
"""Prefix of their user names in the audit log."""


@functools.cache
def rendered(release: str, *values: str, namespace: str = NAMESPACE) -> list[JSON]:
    """Return the objects that helm renders, without the hooks of `helm test`."""
    with tempfile.TemporaryDirectory() as home:
        words = [f"--namespace={namespace}", *(f"--set={value}" for value in values)]
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
class Given:
    """Kubeconfig, arguments and environment of a process of a release."""

    kubeconfig: Path
    arguments: list[str]
    environment: dict[str, str]


def given(plane: ControlPlane, release: str, component: str, *values: str) -> Given:
    """Apply a release's accounts and permissions; return what a process gets."""
    api = Api(plane.kubeconfig)
    objects = rendered(release, "crds.enabled=false", *values)
    for body in objects:
        if path := ADDED.get(body["kind"]):
            metadata = body["metadata"]
            api.request(
                "PATCH",
                f"{path.format(namespace=metadata.get('namespace'))}/{metadata['name']}",
                body,
                "application/apply-patch+yaml",
                fieldManager="helm",
            )
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
    return Given(
        kubeconfig=plane.kubeconfig_for_account(NAMESPACE, account),
        arguments=arguments,
        environment={each["name"]: _value(each) for each in container.get("env", [])},
    )


def _value(variable: JSON) -> str:
    if "value" in variable:
        return str(variable["value"])
    fields = {"metadata.name": POD, "metadata.uid": f"uid-of-{POD}"}
    return fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
