"""deploy/install.yaml equals the chart's default render, and one command applies it."""

import copy
import os
import subprocess

import pytest
import yaml

from dev.controlplane.binaries import kubectl_path
from dev.controlplane.plane import ControlPlane
from tests.chart.cluster import Cluster
from tests.chart.rendered import CHART, Loader, annotations
from tests.integration.harness.api import ApiError, eventually

MANIFEST = CHART.parents[1] / "deploy" / "install.yaml"
NAMESPACE = "wazzup-operator-system"
OWN_LABELS = {"helm.sh/chart", "app.kubernetes.io/managed-by"}


@pytest.fixture(scope="module")
def manifest():
    return list(yaml.load_all(MANIFEST.read_text(), Loader))


def without_helm(body):
    """Return an object without helm's labels and annotations."""
    body = copy.deepcopy(body)
    metadata = body["metadata"]
    for label in OWN_LABELS:
        del metadata["labels"][label]
    kept = {key: value for key, value in annotations(body).items() if "helm.sh/" not in key}
    metadata.pop("annotations", None)
    return {**body, "metadata": {**metadata, **({"annotations": kept} if kept else {})}}


def by_name(objects):
    return {(body["kind"], body["metadata"]["name"]): body for body in objects}


def test_it_is_the_default_render_and_a_namespace(render, manifest):
    rendered = render(release="wazzup-operator", namespace=NAMESPACE)
    expected = [
        without_helm(body) for body in rendered.objects if "helm.sh/hook" not in annotations(body)
    ]
    namespace, *rest = manifest
    assert by_name(rest) == by_name(expected)
    assert len(rest) == len(expected), "duplicate object"
    assert namespace["kind"] == "Namespace"
    assert namespace["metadata"]["name"] == NAMESPACE
    assert "helm.sh" not in str(rest)
    assert "managed-by" not in str(rest)


def test_the_crds_follow_the_namespace(manifest):
    kinds = [body["kind"] for body in manifest]
    assert kinds[:4].count("CustomResourceDefinition") == kinds.count("CustomResourceDefinition")


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """An empty cluster."""
    with ControlPlane(tmp_path_factory.mktemp("manifest")) as plane:
        yield plane


@pytest.fixture
def kubectl(plane, tmp_path):
    def kubectl(*arguments):
        done = subprocess.run(
            [kubectl_path(), f"--cache-dir={tmp_path}", *arguments, f"--filename={MANIFEST}"],
            env={**os.environ, "KUBECONFIG": str(plane.kubeconfig), "KUBERC": "off"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr, "kubectl warns"

    return kubectl


def test_one_command_applies_it_and_is_idempotent(plane, kubectl, manifest):
    kubectl("apply", "--server-side")
    cluster = Cluster(plane)
    eventually(lambda: cluster.serves("WazzupAccount", "WazzupChannel"), "the kinds are served")

    def stored():
        return [
            cluster.api.request("GET", f"{cluster.path(body)}/{body['metadata']['name']}")
            for body in manifest
        ]

    def versions():
        return [body["metadata"]["resourceVersion"] for body in stored()]

    before = versions()
    kubectl("apply", "--server-side")
    assert versions() == before
    for body in stored():
        if body["kind"] == "Deployment":
            assert_admitted(cluster, body["spec"]["template"])


def assert_admitted(cluster, template):
    """Check that a Pod of a Deployment is admitted, and a less hardened one is not."""
    pod = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(template)}
    pod["metadata"] |= {"name": "one", "namespace": NAMESPACE}
    cluster.create(pod, dryRun="All")
    del pod["spec"]["containers"][0]["securityContext"]
    with pytest.raises(ApiError, match="violates PodSecurity"):
        cluster.create(pod, dryRun="All")


def test_the_documented_removal_keeps_the_crds(plane, kubectl, manifest):
    kubectl("apply", "--server-side")
    cluster = Cluster(plane)
    eventually(lambda: cluster.serves("WazzupAccount", "WazzupChannel"), "the kinds are served")
    kubectl("delete", "--selector=app.kubernetes.io/component")

    def exists(body):
        try:
            cluster.api.request("GET", f"{cluster.path(body)}/{body['metadata']['name']}")
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    kept = {(body["kind"], body["metadata"]["name"]) for body in manifest if exists(body)}
    assert kept == {
        ("Namespace", NAMESPACE),
        ("CustomResourceDefinition", "wazzupaccounts.wazzup.dev"),
        ("CustomResourceDefinition", "wazzupchannels.wazzup.dev"),
        ("ClusterRole", "wazzup-operator-view"),
        ("ClusterRole", "wazzup-operator-edit"),
    }
