"""helm, and a control plane for what it renders."""

import functools
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from dev.controlplane.binaries import helm
from dev.controlplane.plane import ControlPlane
from tests.chart.cluster import Cluster
from tests.chart.rendered import CHART, NAMESPACE, RELEASE, Rendered
from tests.integration.harness.api import Api, eventually
from tests.integration.harness.crds import CRDS
from tests.integration.harness.rights import RECORDER


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Run helm without the user's configuration."""
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
    """Run `helm template` with `--set` values and files of values."""

    def template(*values, files=(), release=RELEASE, namespace=NAMESPACE, chart=CHART):
        words = [word for value in values for word in ("--set", value)]
        words += [f"--values={file}" for file in files]
        return run("template", release, chart, f"--namespace={namespace}", *words)

    return template


@pytest.fixture(scope="session")
def render(template):
    """Render the chart."""

    @functools.cache
    def render(*values, files=(), **where):
        done = template(*values, files=files, **where)
        assert done.returncode == 0, done.stderr
        return Rendered(done.stdout)

    return render


@pytest.fixture(scope="session")
def refuse(template):
    """Render values that must be refused; return the error."""

    def refuse(*values, files=()):
        done = template(*values, files=files)
        assert done.returncode != 0, "it renders"
        assert "nil pointer" not in done.stderr
        return done.stderr

    return refuse


@pytest.fixture(scope="session")
def plane(tmp_path_factory):
    """A control plane with the kinds of the Prometheus operator and cert-manager."""
    with ControlPlane(tmp_path_factory.mktemp("plane")) as plane:
        api = Api(plane.kubeconfig)
        for file in (Path(__file__).parent / "standins").glob("*.yaml"):
            for body in yaml.safe_load_all(file.read_text()):
                api.request("POST", CRDS, body)
        eventually(
            lambda: Cluster(plane).serves("ServiceMonitor", "Certificate"),
            "stand-ins",
        )
        yield plane
    RECORDER.look(plane.audit_log)


@pytest.fixture(scope="session")
def cluster(plane):
    return Cluster(plane)
