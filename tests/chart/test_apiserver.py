"""The rendered objects on a real API server."""

import contextlib
import copy

import pytest
import yaml

from tests.chart.rendered import CHART, VALUES, annotations
from tests.integration.harness.api import ApiError

HUB = "artifacthub.io"
RESTRICTED = "restricted"
LEVEL = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}


@pytest.mark.parametrize("file", VALUES, ids=lambda file: file.name)
def test_every_object_is_accepted(render, cluster, file):
    rendered = render(files=(file,))
    for body in rendered.objects:
        if namespace := body["metadata"].get("namespace"):
            cluster.namespace(namespace)
        if body["kind"] == "ServiceAccount":  # the Pod needs it
            with_account(cluster, body["metadata"]["name"], namespace)
        else:
            stored = cluster.create(body, dryRun="All")
            if "helm.sh/hook" not in annotations(body):
                assert not changed(body, stored), "GitOps tools would report a permanent difference"


def changed(rendered, stored, path=""):
    """Return the fields that the API server changes."""
    if isinstance(rendered, dict) and isinstance(stored, dict):
        pairs = [(key, value, stored.get(key)) for key, value in rendered.items()]
    elif isinstance(rendered, list) and isinstance(stored, list) and len(rendered) == len(stored):
        pairs = [(place, *pair) for place, pair in enumerate(zip(rendered, stored, strict=True))]
    else:
        return [] if rendered == stored else [f"{path}: {rendered!r} is {stored!r}"]
    return [each for key, *pair in pairs for each in changed(*pair, f"{path}/{key}")]


def test_a_misspelled_field_is_found(render, cluster):
    rendered = render(files=(CHART / "ci" / "monitoring-values.yaml",))
    for kind in ("Deployment", "ServiceMonitor"):
        body = copy.deepcopy(rendered.all(kind)[0])
        body["spec"]["selectors"] = {}
        cluster.namespace(body["metadata"]["namespace"])
        with pytest.raises(ApiError, match="unknown field"):
            cluster.create(body, dryRun="All")


def pods(rendered):
    """Yield the Deployments' Pods and the rendered Pods."""
    for each in rendered.objects:
        if each["kind"] == "Deployment":
            template = copy.deepcopy(each["spec"]["template"])
            template["metadata"]["name"] = each["metadata"]["name"]
            yield {"apiVersion": "v1", "kind": "Pod", **template}
        elif each["kind"] == "Pod":
            yield copy.deepcopy(each)


@pytest.mark.parametrize("file", VALUES, ids=lambda file: file.name)
def test_pods_are_admitted_under_the_restricted_profile(render, cluster, file):
    cluster.namespace(RESTRICTED, **LEVEL)
    made = list(pods(render(files=(file,))))
    assert made
    for pod in made:
        pod["metadata"]["namespace"] = RESTRICTED
        with_account(cluster, pod["spec"].get("serviceAccountName", "default"))
        if "hostNetwork" in pod["spec"]:
            with pytest.raises(ApiError, match="violates PodSecurity"):
                cluster.create(pod, dryRun="All")
            del pod["spec"]["hostNetwork"]
        cluster.create(pod, dryRun="All")


def test_less_hardened_pods_are_refused(render, cluster):
    cluster.namespace(RESTRICTED, **LEVEL)
    pod = next(pods(render()))
    pod["metadata"]["namespace"] = RESTRICTED
    with_account(cluster, pod["spec"]["serviceAccountName"])
    for container, field in ((True, "allowPrivilegeEscalation"), (False, "seccompProfile")):
        worse = copy.deepcopy(pod)
        context = worse["spec"]["containers"][0] if container else worse["spec"]
        del context["securityContext"][field]
        with pytest.raises(ApiError, match="violates PodSecurity"):
            cluster.create(worse, dryRun="All")


def with_account(cluster, name, namespace=RESTRICTED):
    metadata = {"name": name, "namespace": namespace}
    with contextlib.suppress(ApiError):  # it exists
        cluster.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})


def test_the_examples_in_the_charts_metadata_are_accepted(render, cluster):
    hub = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    cluster.install(render(release="hub", namespace="hub"))
    kinds = []
    for body in yaml.safe_load(hub[f"{HUB}/crdsExamples"]):
        body["metadata"]["namespace"] = "default"
        cluster.create(body, dryRun="All")
        kinds.append(body["kind"])
    assert kinds == [crd["kind"] for crd in yaml.safe_load(hub[f"{HUB}/crds"])]
    defined = {crd["spec"]["names"]["kind"] for crd in render().all("CustomResourceDefinition")}
    assert set(kinds) == defined
