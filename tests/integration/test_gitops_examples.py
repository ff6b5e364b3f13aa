"""The examples for Argo CD and Flux."""

import re
from typing import Any

import yaml

from dev.controlplane.plane import ControlPlane
from tests.docs.pages import blocks
from tests.integration.harness.api import JSON, Api
from tests.integration.harness.verdicts import FLUX, HEALTH, argo_health
from tests.integration.harness.world import ROOT
from wazzup_operator.resources.account import seconds

HEALTH_TESTS: list[JSON] = yaml.safe_load(HEALTH.with_name("health_test.yaml").read_text())["tests"]
INPUTS = {HEALTH.parent / test["inputPath"]: test["healthStatus"] for test in HEALTH_TESTS}
FLUX_OBJECTS = [body for file in FLUX for body in yaml.safe_load_all(file.read_text())]
ARGO_OBJECTS = list(yaml.safe_load_all((ROOT / "examples/argocd/applications.yaml").read_text()))
CHART = ROOT / "charts" / "wazzup-operator"


def of_kind(objects: list[JSON], kind: str) -> dict[str, Any]:
    """Return the specs of a kind by the objects' names."""
    return {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == kind}


def test_the_health_tests_pass() -> None:
    bodies = [yaml.safe_load(path.read_text()) for path in INPUTS]
    assert argo_health(bodies) == list(INPUTS.values())


def test_the_health_tests_have_real_objects(plane: ControlPlane) -> None:
    assert set(INPUTS) == set((HEALTH.parent / "testdata").iterdir())
    api = Api(plane.kubeconfig)
    for path in INPUTS:
        body = yaml.safe_load(path.read_text())
        body["metadata"]["namespace"] = api.namespace
        path_of_kind = api.path(body["kind"].lower())
        api.request("POST", path_of_kind, body, dryRun="All", fieldValidation="Strict")


def test_flux_waits_for_longer_than_the_progress_deadline() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    deadline = seconds(values["settings"]["progressDeadline"])
    kustomizations = of_kind(FLUX_OBJECTS, "Kustomization")
    checked = {
        check["kind"]: spec
        for spec in kustomizations.values()
        for check in spec.get("healthCheckExprs", [])
    }
    assert checked.keys() == {"WazzupAccount", "WazzupChannel"}
    for spec in checked.values():
        assert spec["wait"]
        assert seconds(spec["timeout"]) > deadline


def test_no_kustomization_waits_for_channels() -> None:
    kustomizations = of_kind(FLUX_OBJECTS, "Kustomization")
    awaited = [
        each["name"] for spec in kustomizations.values() for each in spec.get("dependsOn", [])
    ]
    assert set(awaited) == {"wazzup-operator"}


def test_the_channels_are_within_their_project() -> None:
    application = of_kind(ARGO_OBJECTS, "Application")["wazzup-channels"]
    project = of_kind(ARGO_OBJECTS, "AppProject")[application["project"]]
    assert {each["repoURL"] for each in application["sources"]} <= set(project["sourceRepos"])
    assert application["destination"] in project["destinations"]


def test_both_apply_the_folders_of_the_documented_layout() -> None:
    """One by one: Argo CD would take a kustomization.yaml in a subfolder for an object."""
    (layout,) = [each for each in blocks(ROOT / "docs/gitops.md", "") if each.startswith("wazzup/")]
    folders = {f"wazzup/{each}" for each in re.findall(r"^  (\w+)/", layout, re.MULTILINE)}
    kustomizations = of_kind(FLUX_OBJECTS, "Kustomization").values()
    assert {spec["path"].removeprefix("./") for spec in kustomizations} == folders
    application = of_kind(ARGO_OBJECTS, "Application")["wazzup-channels"]
    assert {each["path"] for each in application["sources"]} == folders - {"wazzup/operator"}


def test_both_install_the_minor_version_of_the_chart() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    minor = f"~{version.rpartition('.')[0]}.0"
    application = of_kind(ARGO_OBJECTS, "Application")["wazzup-operator"]
    assert application["source"]["targetRevision"] == minor
    assert of_kind(FLUX_OBJECTS, "OCIRepository")["wazzup-operator"]["ref"]["semver"] == minor
