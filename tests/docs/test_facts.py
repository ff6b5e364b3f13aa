"""What the documents name exists in the code: YAML, fields, reasons, annotations, sentences."""

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.controlplane.binaries import KUBE_APISERVER, OTHER_KUBE_APISERVERS
from dev.controlplane.plane import ControlPlane
from tests.docs.pages import PAGES, ROOT, blocks, name, prose, table
from tests.expected_states import STATES
from tests.integration.harness.api import Api
from tests.integration.harness.fixtures import plane
from wazzup_operator.admission.rules import (
    ChannelReview,
    LookedUp,
    evaluate_channel,
    evaluate_lookups,
)
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.domain.states import Actor, State
from wazzup_operator.resources import base
from wazzup_operator.resources.channel import ChannelSpec

__all__ = ["plane"]

CONCEPTS = ROOT / "docs" / "concepts.md"
MANIFESTS = [
    pytest.param(body, id=f"{name(page)}-{body['kind']}-{body['metadata']['name']}")
    for page in PAGES
    for block in blocks(page, "yaml")
    for body in yaml.safe_load_all(block)
    if isinstance(body, dict) and "apiVersion" in body
]
OF_OTHER_PROGRAMS = {
    "doesn't have a resource type",
    "failed calling webhook",
    "invalid ownership metadata",
    "must be of type string",
    "no matches for kind",
    "x509: certificate has expired or is not yet valid",
    "x509: certificate signed by unknown authority",
}
"""Quoted in the documents, and written by the API server or helm."""


@pytest.mark.parametrize("body", MANIFESTS)
def test_manifests_are_accepted(body: dict[str, Any], plane: ControlPlane) -> None:
    api = Api(plane.kubeconfig)
    path = api.path(body["kind"].lower())
    api.request("POST", path, body, dryRun="All", fieldValidation="Strict")


def test_manifests_are_found() -> None:
    assert len(MANIFESTS) >= 4


def numbers() -> Iterator[str]:
    """Yield each number in the documents' and examples' manifests."""
    examples = [file.read_text() for file in sorted((ROOT / "examples").glob("*.yaml"))]
    for text in (*examples, *(block for page in PAGES for block in blocks(page, "yaml"))):
        yield from re.findall(r'phoneNumber: "([^"]+)"', text)


@pytest.mark.parametrize("number", sorted(set(numbers())))
def test_a_shown_number_is_accepted_without_a_warning(number: str) -> None:
    spec = ChannelSpec(phone_number=number)
    outcome = evaluate_channel(ChannelReview(spec, None, None, State.UNKNOWN))
    assert (outcome.denials, outcome.warnings) == ({}, {})


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_yaml_can_be_parsed(page: Path) -> None:
    for block in blocks(page, "yaml"):
        list(yaml.safe_load_all(block))


def test_the_tested_versions_of_kubernetes_are_those_that_are_built() -> None:
    rows = {
        tested: versions for versions, tested in table(ROOT / "docs" / "install.md", "Kubernetes")
    }
    (all_tests, core) = rows.values()
    assert all_tests == KUBE_APISERVER.version
    assert core.split(", ") == [each.version for each in OTHER_KUBE_APISERVERS]


def first_cells(header: str) -> list[str]:
    """Return the names in the first column of a table in concepts.md."""
    return [each for row in table(CONCEPTS, header) for each in re.findall(r"`([^`]+)`", row[0])]


def test_reasons_are_all_explained() -> None:
    assert set(first_cells("reason | object")) == set(Reason)


def test_states_are_all_explained() -> None:
    named = [row[0] for row in table(CONCEPTS, "state | API state")]
    assert named == [expected.state for expected in STATES]


def test_actors_are_all_explained() -> None:
    assert first_cells("`action.by`") == list(Actor)


def test_conditions_are_all_explained() -> None:
    conditions = [base.READY, base.SYNCED, base.RECONCILING, base.STALLED]
    assert first_cells("condition | meaning") == conditions


def test_annotations_are_all_explained() -> None:
    named = {each.partition(":")[0] for each in first_cells("annotation | on")}
    assert named == {base.PAUSED, base.REQUESTED_AT, base.REPLACES}


@pytest.mark.parametrize("kind", ["WazzupChannel", "WazzupAccount"])
def test_fields_are_all_explained(kind: str) -> None:
    definition = yaml.safe_load((ROOT / "crds" / f"{kind.lower()}s.yaml").read_text())
    (version,) = definition["spec"]["versions"]
    fields = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    named = {each.partition(".")[0] for each in first_cells(f"field of a {kind}")}
    assert named == fields.keys()


def test_the_packages_are_those_of_the_source() -> None:
    source = ROOT / "operator" / "wazzup_operator"
    existing = {file.name for file in source.rglob("*.py") if not file.name.startswith("__")}
    (tree,) = [each for each in blocks(ROOT / "docs" / "architecture.md", "") if "domain/" in each]
    operator, _, _ = tree.partition("wazzup_simulator/")
    assert set(re.findall(r"\b(?!__)\w+\.py", operator)) == existing


def test_every_folder_has_its_line() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    folders = {folder for file in tracked.stdout.splitlines() for folder in Path(file).parents}
    (tree,) = [each for each in blocks(ROOT / "docs" / "architecture.md", "") if "domain/" in each]
    shown = {folder for path in paths(tree) for folder in (path, *path.parents)}
    assert len(shown) > 40
    assert shown <= folders
    inner = {"tools", "argocd", "kustomize"}
    assert {each for each in folders - shown if not inner & set(each.parent.parts)} == set()


def paths(tree: str) -> Iterator[Path]:
    """Yield the folders of an indented tree; those in a description are in the line's folder."""
    above: dict[int, Path] = {}
    for line in tree.splitlines():
        found = re.fullmatch(r"( *)((?:\S+/ ?)+)(.*)", line)
        if found:
            indent, names, description = found.groups()
            parent = above.get(len(indent) - 2, Path())
            yield from (parent / name for name in names.split())
            above[len(indent)] = parent / names.split()[-1]
            inner = re.findall(r"(?<=\s)[\w.-]+(?=/\s)", description)
            yield from (above[len(indent)] / name for name in inner)


def test_answers_of_the_webhook_are_quoted_as_they_are() -> None:
    page = " ".join((ROOT / "docs" / "admission.md").read_text().split())
    spec = ChannelSpec(phone_number="+79865784457")
    new = ChannelReview(spec, None, None, State.UNKNOWN)
    off = ChannelReview(replace(spec, active=False), spec, None, State.ACTIVE)
    (refusal,) = evaluate_lookups(LookedUp(new, ("support",), True)).denials.values()
    (warning,) = evaluate_channel(off).warnings.values()
    assert refusal in page
    assert f"Warning: {warning}" in page


def texts() -> Iterator[str]:
    """Yield every text in the operator's source; values are omitted."""
    for file in (ROOT / "operator" / "wazzup_operator").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                parts = [each.value for each in node.values if isinstance(each, ast.Constant)]
                yield "".join(map(str, parts))


@pytest.mark.parametrize("page", ["troubleshooting.md", "runbooks.md", "reliability.md"])
def test_quoted_sentences_exist(page: str) -> None:
    source = "\n".join(texts())
    text = " ".join(prose(ROOT / "docs" / page).split())
    quoted = set(re.findall(r'(?<!`)"([^"`…]{8,})"', text))
    assert quoted
    missing = {each for each in quoted if each not in source} - OF_OTHER_PROGRAMS
    assert not missing
