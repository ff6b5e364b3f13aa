"""Whether the tests of the rules would see a rule that is wrong: each is broken in every way.

Takes some minutes: `make break-alerts`.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.controlplane.binaries import promtool
from dev.generate.alerts.rules import ALERTS, GROUPS
from dev.generate.files import RULES

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

Mutation = Callable[[Any], None]
"""Breaks a rule."""


def _without_for(rule: Any) -> None:
    del rule["for"]


def _without_line(number: int) -> Mutation:
    def take(rule: Any) -> None:
        lines = rule["expr"].splitlines()
        rule["expr"] = "\n".join(lines[:number] + lines[number + 1 :])

    return take


def _by_what_is_so_now(rule: Any) -> None:
    window = r"(?:avg|max|sum)_over_time\(\((.*?)\)\[\w+:1m\]\)(?: >= \d+)?"
    rule["expr"] = re.sub(window, r"(\1)", rule["expr"])


def _by_pod(rule: Any) -> None:
    rule["expr"] = re.sub(r"by \(([^)]*)\)", r"by (\1, pod)", rule["expr"])


def mutations() -> dict[str, tuple[str, Mutation]]:
    """Return every way in which a rule is broken: by what it lacks, the alert and how."""
    found: dict[str, tuple[str, Mutation]] = {}
    for alert in ALERTS.values():
        found[f"{alert.name} without for"] = alert.name, _without_for
        for number, line in enumerate(alert.expression.splitlines()):
            if line.startswith(("and ", "unless ")):
                found[f"{alert.name} without line {number + 1}"] = alert.name, _without_line(number)
        if "_over_time" in alert.expression and ":1m]" in alert.expression:
            found[f"{alert.name} by what is so now"] = alert.name, _by_what_is_so_now
    for name in ("WazzupAccountDown", "WazzupChannelNeedsScan"):
        found[f"{name} by pod"] = name, _by_pod
    return found


@pytest.mark.parametrize("name", mutations())
def test_the_tests_fail(tmp_path: Path, name: str) -> None:
    alert, mutate = mutations()[name]
    content = yaml.safe_load(RULES.read_text())
    (rule,) = (
        rule for group in content["groups"] for rule in group["rules"] if rule["alert"] == alert
    )
    mutate(rule)
    assert content != yaml.safe_load(RULES.read_text())
    broken = tmp_path / RULES.relative_to(ROOT)
    broken.parent.mkdir(parents=True)
    broken.write_text(yaml.safe_dump(content))
    copies = tmp_path / HERE.relative_to(ROOT)
    copies.mkdir(parents=True)
    assert _promtool("check", broken) == 0
    (group,) = (name for name, alerts in GROUPS.items() if ALERTS[alert] in alerts)
    # Those of the rule's own group first: they are the ones that should fail.
    tests = sorted(HERE.glob("*.yaml"), key=lambda path: path.stem not in group)
    assert any(_promtool("test", Path(shutil.copy(path, copies))) != 0 for path in tests)


def _promtool(does: str, path: Path) -> int:
    return subprocess.run([promtool(), does, "rules", path], capture_output=True).returncode
