"""The chart as helm renders it."""

import contextlib
import functools
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from dev.controlplane.binaries import helm
from dev.controlplane.plane import ControlPlane
from tests.integration.harness.api import Api, ApiError, eventually
from tests.integration.harness.rights import RECORDER

CHART = Path(__file__).parents[2] / "charts" / "wazzup-operator"
CRDS = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"
RELEASE, NAMESPACE = "wz", "wz-system"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
"""The matrix: files of values that the chart is rendered with."""


class Loader(yaml.SafeLoader):
    """Refuses what the API server would refuse, and PyYAML takes: a key that is there twice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key is there twice: {keys}"
        return super().construct_mapping(node, deep)


class Rendered:
    """What helm rendered: `text`, and the objects in it."""

    def __init__(self, text):
        self.text = text
        self.objects = list(yaml.load_all(text, Loader))
        assert all(self.objects), "an empty document is rendered"

    def all(self, kind):
        return [each for each in self.objects if each["kind"] == kind]

    def names(self, kind):
        return sorted(each["metadata"]["name"] for each in self.all(kind))

    def one(self, kind, name):
        (found,) = [each for each in self.all(kind) if each["metadata"]["name"] == name]
        return found

    def pod(self, deployment):
        return self.one("Deployment", deployment)["spec"]["template"]["spec"]

    def container(self, deployment):
        (container,) = self.pod(deployment)["containers"]
        return container

    def kinds(self):
        return {each["kind"] for each in self.objects}


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Run helm, with nothing of the user's own."""
    home = str(tmp_path_factory.mktemp("helm"))
    program = helm()

    def run(*words, **environment):
        return subprocess.run(
            [program, *words],
            env={
                **os.environ,
                "HOME": home,
                "HELM_CACHE_HOME": home,
                "HELM_CONFIG_HOME": home,
                **environment,
            },
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture(scope="session")
def template(run):
    """Render with `--set` values and files of values; return what helm said."""

    def template(*values, files=(), release=RELEASE, namespace=NAMESPACE, chart=CHART):
        words = [word for value in values for word in ("--set", value)]
        words += [f"--values={file}" for file in files]
        return run("template", release, chart, f"--namespace={namespace}", *words)

    return template


@pytest.fixture(scope="session")
def render(template):
    """Render, and return what was rendered."""

    @functools.cache
    def render(*values, files=(), **where):
        done = template(*values, files=files, **where)
        assert done.returncode == 0, done.stderr
        return Rendered(done.stdout)

    return render


@pytest.fixture(scope="session")
def refuse(template):
    """Render what cannot be rendered; return the sentence that helm ends with."""

    def refuse(*values, files=()):
        done = template(*values, files=files)
        assert done.returncode != 0, "it is rendered"
        assert "nil pointer" not in done.stderr
        return done.stderr

    return refuse


@pytest.fixture(scope="session")
def plane(tmp_path_factory):
    """A control plane that serves the kinds of the Prometheus operator and of cert-manager."""
    with ControlPlane(tmp_path_factory.mktemp("plane")) as plane:
        api = Api(plane.kubeconfig)
        for file in (Path(__file__).parent / "standins").glob("*.yaml"):
            for body in yaml.safe_load_all(file.read_text()):
                api.request("POST", CRDS, body)
        eventually(lambda: Cluster(plane).serves("ServiceMonitor", "Certificate"), "stand-ins")
        yield plane
    RECORDER.look(plane.audit_log)


@pytest.fixture(scope="session")
def cluster(plane):
    return Cluster(plane)


class Cluster:
    """What an administrator does in the cluster with objects of any kind."""

    def __init__(self, plane):
        self.plane, self.api = plane, Api(plane.kubeconfig)
        self._known = {}

    def serves(self, *kinds):
        if not set(kinds) <= set(self._known):
            with contextlib.suppress(ApiError):  # a group is told of before it is served
                self._known = self._resources()
        return set(kinds) <= set(self._known)

    def namespace(self, name, **labels):
        with contextlib.suppress(ApiError):  # it is there already
            self.api.request(
                "POST", "api/v1/namespaces", {"metadata": {"name": name, "labels": labels}}
            )

    def create(self, body, **query):
        return self.api.request("POST", self.path(body), body, fieldValidation="Strict", **query)

    def path(self, body):
        assert self.serves(body["kind"])
        root, plural = self._known[body["kind"]]
        namespace = body["metadata"].get("namespace")
        return "/".join([root, *(["namespaces", namespace] if namespace else []), plural])

    def install(self, rendered):
        """Create what is rendered, the CRDs first; the objects of "helm test" are left out."""
        own = [each for each in rendered.objects if "helm.sh/hook" not in annotations(each)]
        for body in sorted(own, key=lambda each: each["kind"] != "CustomResourceDefinition"):
            namespace = body["metadata"].get("namespace")
            if namespace:
                self.namespace(namespace)
            try:
                self.create(body)
            except ApiError as error:
                if not (error.status == 409 and body["kind"] == "CustomResourceDefinition"):
                    raise
        eventually(lambda: self.serves("WazzupAccount", "WazzupChannel"), "the kinds are served")

    def _resources(self):
        """Return path and plural of each kind that is served."""
        versions = ["api/v1"] + [
            f"apis/{version['groupVersion']}"
            for group in self.api.request("GET", "apis")["groups"]
            for version in group["versions"]
        ]
        return {
            each["kind"]: (version, each["name"])
            for version in reversed(versions)
            for each in self.api.request("GET", version)["resources"]
            if "/" not in each["name"]
        }


def annotations(body):
    return body["metadata"].get("annotations") or {}
