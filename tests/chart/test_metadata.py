"""Metadata of the chart, and the command in its notes."""

import subprocess
import sys

import yaml

from tests.chart.rendered import CHART


def test_changes_have_kinds_of_artifact_hub():
    annotations = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    changes = yaml.safe_load(annotations["artifacthub.io/changes"])
    kinds = {"added", "changed", "deprecated", "removed", "fixed", "security"}
    assert {change["kind"] for change in changes} <= kinds
    assert all(change["description"] for change in changes)


def test_command_in_the_notes_prints_the_chart_s_crds():
    command = [sys.executable, "-m", "wazzup_operator", "crds"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kept = [yaml.safe_load(file.read_text()) for file in sorted(CHART.glob("definitions/*.yaml"))]
    assert list(yaml.safe_load_all(printed)) == kept
