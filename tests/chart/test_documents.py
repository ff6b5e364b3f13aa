"""What the documents tell people to type is what the chart takes."""

import re
import shlex
import subprocess
import sys

import pytest
import yaml

from tests.chart.rendered import CHART

ROOT = CHART.parents[1]
VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
PAGES = [ROOT / "README.md", ROOT / "examples/simulator/README.md", CHART / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_the_documented_install_commands_render(run, page):
    commands = re.findall(r"^helm install (.*)$", page.read_text(), re.MULTILINE)
    assert commands
    for command in commands:
        done = run("template", *shlex.split(command.replace("charts/", f"{ROOT}/charts/")))
        assert done.returncode == 0, done.stderr


def test_the_image_that_is_built_is_the_one_that_is_asked_for(run):
    page = (ROOT / "README.md").read_text()
    built = set(re.findall(r"docker build --tag (\S+)", page))
    assert built == {
        f"wazzup-operator:{VERSION}",
        f"registry.example.com/wazzup-operator:{VERSION}",
    }
    asked = {
        image
        for command in re.findall(r"^helm install (.*)$", page, re.MULTILINE)
        for image in re.findall(
            r'image: "(.+)"',
            run("template", *shlex.split(command.replace("charts/", f"{ROOT}/charts/"))).stdout,
        )
    }
    assert asked == built


def test_the_values_that_the_readme_names_are_there():
    page = (ROOT / "README.md").read_text()
    (table,) = re.findall(r"^\| value \| \|\n(?:\|.*\n)+", page, re.MULTILINE)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    named = re.findall(r"`([a-z][A-Za-z.]+)(?:: \w+)?`", table)
    assert len(named) > 8
    for path in named:
        found = values
        for key in path.split("."):
            assert key in found, path
            found = found[key]


def test_the_changes_in_the_charts_metadata_are_of_artifact_hubs_kinds():
    annotations = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    changes = yaml.safe_load(annotations["artifacthub.io/changes"])
    kinds = {"added", "changed", "deprecated", "removed", "fixed", "security"}
    assert {change["kind"] for change in changes} <= kinds
    assert all(change["description"] for change in changes)


def test_the_notes_command_prints_the_kinds_of_the_chart():
    command = [sys.executable, "-m", "wazzup_operator", "crds"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kept = [yaml.safe_load(file.read_text()) for file in sorted(CHART.glob("definitions/*.yaml"))]
    assert list(yaml.safe_load_all(printed)) == kept
