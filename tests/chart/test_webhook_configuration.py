"""The webhook configuration as helm renders it."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from dev.controlplane.binaries import HELM, helm

CHART = Path(__file__).parents[2] / "charts" / "wazzup-operator"


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    home = str(tmp_path_factory.mktemp("helm"))
    program = helm()

    def run(*words):
        return subprocess.run(
            [program, *words],
            env={**os.environ, "HOME": home, "HELM_CACHE_HOME": home, "HELM_CONFIG_HOME": home},
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture(scope="session")
def render(run):
    def render(*values):
        words = [word for value in values for word in ("--set", value)]
        done = run("template", "wz", CHART, "--namespace=wz-system", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return render


def test_helm_tells_the_version_that_is_pinned(run):
    assert run("version", "--short").stdout.startswith(f"v{HELM.version}")


def test_rendered_twice_it_is_the_same_to_the_byte(render):
    assert render() == render()


def test_no_ca_bundle_is_rendered(render):
    assert "caBundle" not in render()


def test_it_names_exactly_the_main_resources_and_never_deletions(render):
    (document,) = yaml.safe_load_all(render())
    assert document["kind"] == "ValidatingWebhookConfiguration"
    assert [webhook["name"] for webhook in document["webhooks"]] == [
        "channel.wazzup.dev",
        "account.wazzup.dev",
    ]
    for webhook, kind in zip(document["webhooks"], ("channel", "account"), strict=True):
        assert webhook["rules"] == [
            {
                "apiGroups": ["wazzup.dev"],
                "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": [f"wazzup{kind}s"],
                "scope": "Namespaced",
            }
        ]
        assert webhook["clientConfig"] == {
            "service": {
                "name": "wz-webhook",
                "namespace": "wz-system",
                "port": 443,
                "path": f"/{kind}",
            }
        }
        assert webhook["failurePolicy"] == "Ignore"
        assert webhook["timeoutSeconds"] == 3
        assert webhook["sideEffects"] == "None"
        assert webhook["matchPolicy"] == "Equivalent"


def test_failure_policy_and_timeout_are_values(render):
    (document,) = yaml.safe_load_all(
        render("webhook.failurePolicy=Fail", "webhook.timeoutSeconds=5")
    )
    assert {webhook["failurePolicy"] for webhook in document["webhooks"]} == {"Fail"}
    assert {webhook["timeoutSeconds"] for webhook in document["webhooks"]} == {5}


def test_kubernetes_before_1_32_is_refused(run):
    def of(version):
        return run("template", "wz", CHART, f"--kube-version={version}")

    assert "requires kubeVersion" in of("1.31.14").stderr
    assert of("1.32.0-rc.0").returncode == 0
    assert of("1.36.3-eks-1").returncode == 0
