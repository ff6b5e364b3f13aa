"""Mutation tests of the rules: each rule is broken in every way, and a test must fail.

Takes some minutes: `make break-alerts`.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.controlplane.binaries import promtool
from dev.generate.files import RULES

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

Change = Callable[[str], str]
"""Breaks an expression, or returns it unchanged if it does not apply."""


def _without_line(number: int) -> Change:
    def change(expression: str) -> str:
        lines = expression.splitlines()
        if number >= len(lines) or not lines[number].startswith(("and ", "unless ", "or ")):
            return expression
        kept = "\n".join(lines[:number] + lines[number + 1 :])
        return kept + ")" * (kept.count("(") - kept.count(")"))

    return change


def _without_matcher(number: int) -> Change:
    def change(expression: str) -> str:
        matchers = list(re.finditer(r'(\w+)(=~|!=|=)"[^"]*",? ?', expression))
        if number >= len(matchers):
            return expression
        begin, end = matchers[number].span()
        return (expression[:begin] + expression[end:]).replace(", }", "}")

    return change


CHANGES: dict[str, Change] = {
    **{f"without line {number + 1}": _without_line(number) for number in (1, 2)},
    **{f"without matcher {number + 1}": _without_matcher(number) for number in range(3)},
    "without over_time": lambda text: re.sub(
        r"(?:avg|last)_over_time\(([^\[\]()]+)\[\w+\]\)", r"\1", text
    ),
    # Recorded series have no pod.
    "by pod": lambda text: (
        text if "wazzup:" in text else re.sub(r"by \(([^)]*)\)", r"by (\1, pod, instance)", text)
    ),
    "without cluster": lambda text: text.replace("cluster, ", ""),
    "without unless": lambda text: re.sub(r" unless on \([^)]*\) \w+", "", text),
    "with another threshold": lambda text: re.sub(
        r"(?m)([<>]) ([\d.]+)$", lambda found: f"{found[1]} {float(found[2]) * 2 + 1}", text
    ),
    "of other operators too": lambda text: re.sub(
        r" and on \(cluster, job, instance\) wazzup_operator_build_info", "", text
    ),
}


def _rules(content: Any) -> list[Any]:
    return [rule for group in content["groups"] for rule in group["rules"]]


def mutations() -> Iterator[Any]:
    """Yield the number of a rule and a change; None removes its `for`."""
    for number, rule in enumerate(_rules(yaml.safe_load(RULES.read_text()))):
        name = f"{rule.get('alert') or rule['record']}-{number}"
        if "for" in rule:
            yield pytest.param(number, None, id=f"{name} without for")
        for how, change in CHANGES.items():
            if change(rule["expr"]) != rule["expr"]:
                yield pytest.param(number, change, id=f"{name} {how}")


@pytest.mark.parametrize(("number", "change"), list(mutations()))
def test_the_tests_fail(tmp_path: Path, number: int, change: Change | None) -> None:
    content = yaml.safe_load(RULES.read_text())
    rule = _rules(content)[number]
    if change:
        rule["expr"] = change(rule["expr"])
    else:
        del rule["for"]
    broken = tmp_path / RULES.relative_to(ROOT)
    broken.parent.mkdir(parents=True)
    broken.write_text(yaml.safe_dump(content))
    copies = tmp_path / HERE.relative_to(ROOT)
    copies.mkdir(parents=True)
    assert _promtool("check", broken) == 0, rule["expr"]
    name = f'"{rule.get("alert")}"'  # tests that name it come first
    tests = sorted(HERE.glob("*.yaml"), key=lambda path: -path.read_text().count(name))
    assert any(_promtool("test", Path(shutil.copy(path, copies))) != 0 for path in tests)


def _promtool(does: str, path: Path) -> int:
    return subprocess.run([promtool(), does, "rules", path], capture_output=True).returncode
