"""The alerts: that they fire when they should and only then, and lead to a runbook that helps."""

import re
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from dev.controlplane.binaries import PROMTOOL, promtool
from dev.generate.alerts import thresholds
from dev.generate.alerts.alert import Alert, Severity, spelled
from dev.generate.alerts.channels import REMEDIES
from dev.generate.alerts.inhibition import INHIBITIONS
from dev.generate.alerts.rules import ALERTS
from dev.generate.alerts.sentences import sentence
from dev.generate.files import RULES, RUNBOOKS
from wazzup_operator.cli import controller
from wazzup_operator.domain.states import TABLE, Remedy, State

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TESTS = sorted(HERE.glob("*.yaml"))
WRITTEN = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
CHANNELS = [alert for alert in ALERTS.values() if alert.name.startswith("WazzupChannel")]

Run = Callable[..., subprocess.CompletedProcess[str]]


def named(alerts: list[Alert]) -> dict[str, Any]:
    """Return the arguments of parametrize for these alerts."""
    return {"argvalues": alerts, "ids": [alert.name for alert in alerts]}


@pytest.fixture(scope="session")
def run() -> Run:
    """Runs promtool."""
    program = promtool()

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *map(str, words)], capture_output=True, text=True)

    return run


class TestRules:
    """What promtool says."""

    def test_it_is_the_promtool_that_is_pinned(self, run: Run) -> None:
        assert run("--version").stdout.startswith(f"promtool, version {PROMTOOL.version} ")

    def test_they_are_sound(self, run: Run) -> None:
        done = run("check", "rules", "--lint=all", "--lint-fatal", RULES)
        assert done.returncode == 0, done.stderr
        assert f"{len(ALERTS)} rules found" in done.stdout

    @pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
    def test_they_fire_when_they_should_and_only_then(self, run: Run, path: Path) -> None:
        done = run("test", "rules", path)
        assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.parametrize("alert", **named(list(ALERTS.values())))
    def test_each_is_seen_to_fire(self, alert: Alert) -> None:
        expected = (
            str(sample["labels"])
            for path in TESTS
            for test in yaml.safe_load(path.read_text())["tests"]
            for query in test["promql_expr_test"]
            for sample in query["exp_samples"]
        )
        assert any(f'alertname="{alert.name}"' in labels for labels in expected)


class TestFiles:
    """The rules and their runbooks."""

    def test_each_alert_has_a_runbook_and_each_runbook_an_alert(self) -> None:
        assert {path.name for path in RUNBOOKS.iterdir()} == {
            alert.runbook for alert in ALERTS.values()
        }

    @pytest.mark.parametrize("rule", WRITTEN, ids=lambda rule: rule["alert"])
    def test_each_rule_tells_how_bad_it_is_and_where_to_read_on(self, rule: Any) -> None:
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in set(Severity)
        texts = rule["annotations"]
        assert texts.keys() == {"summary", "description", "runbook_url"}
        assert texts["runbook_url"] == f"{thresholds.RUNBOOKS}/{rule['alert']}.md"
        assert len(texts["summary"]) < 150
        assert "\n" not in texts["description"]

    @pytest.mark.parametrize("alert", **named(list(ALERTS.values())))
    def test_each_runbook_says_what_how_and_what_not(self, alert: Alert) -> None:
        text = (RUNBOOKS / alert.runbook).read_text()
        assert text.startswith(f"# {alert.name}\n")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
            "What it means",
            "How to see it",
            "What to do",
            "What not to do",
        ]
        assert "```sh\n" in text
        assert "```promql\n" in text
        for target in re.findall(r"\]\((\w[\w./]*\.md)\)", text):
            assert (RUNBOOKS / target).exists()

    def test_channels_are_never_to_be_deleted_in_wazzup(self) -> None:
        for alert in ALERTS.values():
            if alert.states:
                text = " ".join((RUNBOOKS / alert.runbook).read_text().split())
                assert re.search(r"Never delete (the|a|) ?channels? in Wazzup", text), alert.name


class TestTable:
    """The alerts on channels and the table of states."""

    def test_each_remedy_has_its_alert(self) -> None:
        assert REMEDIES.keys() == set(Remedy) - {Remedy.NOTHING}

    @pytest.mark.parametrize("state", [s for s, r in TABLE.items() if r.remedy in REMEDIES])
    def test_each_state_is_told_of_by_one_alert_in_its_own_words(self, state: State) -> None:
        (alert,) = (alert for alert in CHANNELS if state in alert.states)
        assert alert.name == REMEDIES[TABLE[state].remedy][0]
        matched = re.findall(r'state=~?"([\w|]+)"', alert.expression)
        assert state in "|".join(matched).split("|")
        (rule,) = (rule for rule in WRITTEN if rule["alert"] == alert.name)
        assert sentence(state) in rule["annotations"]["description"]
        if len(alert.states) > 1:
            assert f'eq $labels.state "{state}"' in rule["annotations"]["description"]
        runbook = (RUNBOOKS / alert.runbook).read_text()
        assert TABLE[state].meaning in runbook
        if action := TABLE[state].action:
            assert action.summary in runbook

    @pytest.mark.parametrize("alert", **named(CHANNELS))
    def test_labels_are_few(self, alert: Alert) -> None:
        by = re.match(r"[(\s]*sum_over_time\(\(max by \(([\w, ]+)\)", alert.expression)
        assert by is not None
        assert by[1].split(", ") == ["namespace", "account", "name", "state"]

    def test_a_channel_has_its_progress_deadline(self) -> None:
        (deadline,) = (
            parameter.default
            for parameter in controller.params
            if isinstance(parameter, click.Option) and parameter.name == "progress_deadline"
        )
        assert deadline == spelled(thresholds.CHANNEL_PENDING)


class TestInhibition:
    """What Alertmanager is told."""

    def test_it_names_alerts_that_exist_and_labels_that_they_have(self) -> None:
        document = (ROOT / "docs" / "alerts.md").read_text()
        (block,) = re.findall(r"```yaml\n(.*?)```", document, re.DOTALL)
        rules = yaml.safe_load(block)["inhibit_rules"]
        assert rules
        for rule in rules:
            matchers = rule["source_matchers"] + rule["target_matchers"]
            for matcher in matchers:
                for name in re.fullmatch(r'alertname=~?"([\w|]+)"', matcher)[1].split("|"):
                    assert name in ALERTS
                    for label in rule["equal"]:
                        assert label in ALERTS[name].expression

    def test_each_is_in_the_expressions_too(self) -> None:
        for inhibition in INHIBITIONS:
            condition = ALERTS[inhibition.source].clauses[0]
            for name in inhibition.targets:
                assert f"unless on (namespace, account) {condition}" in ALERTS[name].clauses


def test_what_is_told_of_is_older_than_a_short_outage() -> None:
    """What is said of times in docs/alerts.md."""
    bad = thresholds.CHANNEL_BAD_MINUTES * timedelta(minutes=1)
    assert bad + thresholds.CHANNEL_PENDING <= timedelta(minutes=20)
    assert thresholds.CHANNEL_WINDOW - bad <= timedelta(minutes=10)
    down = (1 - thresholds.ACCOUNT_UP_SHARE) * thresholds.ACCOUNT_WINDOW
    assert down + thresholds.ACCOUNT_PENDING <= timedelta(minutes=8)
