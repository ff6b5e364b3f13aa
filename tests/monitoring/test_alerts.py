"""The alerts: when they fire, their texts and runbooks, and Alertmanager's inhibition."""

import re
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from dev.controlplane.binaries import PROMTOOL, amtool, promtool
from dev.generate.alerts.alert import Alert, Severity
from dev.generate.alerts.channels import DECLARATION, PENDING, spelled
from dev.generate.alerts.rules import ALERTS, NAMES, RECORDS
from dev.generate.files import RULES, RUNBOOKS
from tests.expected_states import STATES, Expected
from wazzup_operator.cli import controller

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TESTS = sorted(HERE.glob("*.yaml"))
WRITTEN = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
ALERTMANAGER = ROOT / "examples" / "monitoring" / "alertmanager.yaml"
SECTIONS = dict(
    re.findall(r"^## (Wazzup\w+)\n\n(.*?)(?=^## |\Z)", RUNBOOKS.read_text(), re.M | re.DOTALL)
)
"""Runbooks by alert."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run() -> Run:
    """Run promtool."""
    program = promtool()

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *map(str, words)], capture_output=True, text=True)

    return run


def written(name: str) -> list[Any]:
    """Return an alert's rules in the rules file."""
    return [rule for rule in WRITTEN if rule.get("alert") == name]


class TestRules:
    """The rules."""

    def test_promtool_has_the_pinned_version(self, run: Run) -> None:
        assert run("--version").stdout.startswith(f"promtool, version {PROMTOOL.version} ")

    def test_promtool_accepts_the_rules(self, run: Run) -> None:
        done = run("check", "rules", "--lint=all", "--lint-fatal", RULES)
        assert done.returncode == 0, done.stderr
        assert f"{len(ALERTS) + len(RECORDS)} rules found" in done.stdout

    @pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
    def test_promtool_s_tests_pass(self, run: Run, path: Path) -> None:
        done = run("test", "rules", path)
        assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.parametrize("name", NAMES)
    def test_each_fires_in_a_test(self, name: str) -> None:
        expected = (
            str(sample["labels"])
            for path in TESTS
            for test in yaml.safe_load(path.read_text())["tests"]
            for query in test["promql_expr_test"]
            for sample in query["exp_samples"]
        )
        assert any(f'alertname="{name}"' in labels for labels in expected)

    @pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.name}-{alert.pending}")
    def test_expressions_are_short(self, alert: Alert) -> None:
        assert len(alert.expression.splitlines()) <= 3
        assert max(map(len, alert.expression.splitlines())) <= 130
        assert not re.search(r"\[\w+:\w*\]", alert.expression), "a subquery"

    @pytest.mark.parametrize("rule", WRITTEN, ids=lambda rule: rule.get("alert") or rule["record"])
    def test_clusters_are_distinguished(self, rule: Any) -> None:
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", rule["expr"]):
            assert labels.split(", ")[0] == "cluster"


class TestTexts:
    """Annotations and runbooks."""

    @pytest.mark.parametrize("rule", WRITTEN, ids=lambda rule: rule.get("alert") or rule["record"])
    def test_each_has_a_summary_and_a_command(self, rule: Any) -> None:
        if "record" in rule:
            assert rule.keys() == {"record", "expr"}
            return
        assert rule["labels"]["severity"] in set(Severity)
        texts = rule["annotations"]
        assert texts.keys() == {"summary", "description", "runbook"}
        assert len(texts["summary"]) < 150
        assert re.search(r"\. Run: kubectl .+[^.]$|end }} Run: kubectl .+$", texts["description"])
        assert "\n" not in texts["description"]
        assert texts["runbook"] == f"wazzup-operator/docs/runbooks.md#{rule['alert'].lower()}"

    def test_each_has_a_runbook_and_each_runbook_an_alert(self) -> None:
        assert list(SECTIONS) == NAMES

    @pytest.mark.parametrize("name", NAMES)
    def test_each_runbook_has_four_parts(self, name: str) -> None:
        assert re.findall(r"^\*\*(.*?)\*\*", SECTIONS[name], re.MULTILINE) == [
            "What it means.",
            "How to see it.",
            "What to do.",
            "What not to do.",
        ]
        assert "```promql\n" in SECTIONS[name]

    def test_links_have_targets(self) -> None:
        text = RUNBOOKS.read_text()
        anchors = {title.lower() for title in re.findall(r"^##+ (\w+)$", text, re.MULTILINE)}
        assert set(re.findall(r"\]\(#(\w+)\)", text)) <= anchors

    def test_the_runbooks_warn_against_deleting_channels(self) -> None:
        assert "- Never delete a channel in Wazzup" in RUNBOOKS.read_text().split("\n## ")[0]


class TestStates:
    """The alert on channels, state by state."""

    @pytest.mark.parametrize("expected", STATES, ids=lambda each: each.state)
    def test_each_state_has_its_advice(self, expected: Expected) -> None:
        first, *overdue = written("WazzupChannelNeedsAction")
        case = f'eq $labels.reason "{expected.state}" }}}}'
        _, found, text = first["annotations"]["description"].partition(case)
        assert bool(found) == bool(expected.do)
        assert (expected.do or "").lower() in text.partition("{{")[0].lower()
        late = [rule for rule in overdue if f'reason="{expected.state}"' in rule["expr"]]
        assert [rule["for"] for rule in late] == ([expected.overdue] if expected.overdue else [])
        for rule in late:
            assert rule["labels"]["by"] == "support"
            assert rule["labels"]["state"] == expected.state
            assert "support" in rule["annotations"]["description"]
        sections = re.findall(
            rf"^### {expected.state}\n\n(.*)$", SECTIONS["WazzupChannelNeedsAction"], re.MULTILINE
        )
        assert len(sections) == bool(expected.do or expected.overdue)
        assert all((expected.do or "").lower() in section.lower() for section in sections)

    @pytest.mark.parametrize("reason", DECLARATION)
    def test_each_declaration_error_has_its_advice(self, reason: str) -> None:
        (rule, *_) = written("WazzupChannelNeedsAction")
        assert f'eq $labels.reason "{reason}" }}}}' in rule["annotations"]["description"]
        assert f"\n### {reason}\n" in SECTIONS["WazzupChannelNeedsAction"]

    def test_the_alert_waits_for_the_progress_deadline(self) -> None:
        (deadline,) = (
            parameter.default
            for parameter in controller.params
            if isinstance(parameter, click.Option) and parameter.name == "progress_deadline"
        )
        assert deadline == PENDING

    def test_durations_are_spelled(self) -> None:
        seconds = {45: "45s", 900: "15m", 5400: "90m", 7200: "2h", 86_400: "1d"}
        assert {each: spelled(timedelta(seconds=each)) for each in seconds} == seconds


DOWN = {"alertname": "WazzupAccountDown"}
BROKE = {"alertname": "WazzupAccountOutOfMoney"}
FLAPS = {"alertname": "WazzupChannelFlapping"}
UNKNOWN = {"alertname": "WazzupChannelUnknown"}
UNPAID = {"alertname": "WazzupChannelNeedsAction", "by": "billing"}
ABSENT = {"alertname": "WazzupWebhookAbsent"}
EXPIRES = {"alertname": "WazzupWebhookCertificateExpires"}
FAILING = {"alertname": "WazzupWebhookFailing", "webhook": "channel"}
UNDECIDED = {"alertname": "WazzupWebhookLookupsFailing", "resource": "wazzupchannels"}
UNWARNED = {"alertname": "WazzupWebhookLookupsFailing", "resource": "wazzupaccounts"}
LOST = {"alertname": "WazzupChannelNeedsAction", "by": "phone"}


class TestRoutes:
    """Alertmanager's routes, as amtool sees them."""

    def test_amtool_accepts_the_example(self) -> None:
        done = subprocess.run([amtool(), "check-config", ALERTMANAGER], capture_output=True)
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize(
        ("labels", "receiver"),
        [
            (DOWN, "platform"),
            (BROKE, "accounting"),
            (UNPAID | {"label_team": "sales"}, "accounting"),
            (LOST | {"label_team": "sales"}, "sales"),
            (FLAPS | {"label_team": "support"}, "support"),
            (LOST, "platform"),
            (LOST | {"by": "declaration", "label_team": "sales"}, "platform"),
            (UNKNOWN | {"label_team": "sales"}, "platform"),
            (EXPIRES, "platform"),
        ],
    )
    def test_each_alert_reaches_who_can_act(self, labels: dict[str, str], receiver: str) -> None:
        words = ["config", "routes", "test", f"--config.file={ALERTMANAGER}"]
        words += [f"{label}={value}" for label, value in labels.items()]
        done = subprocess.run([amtool(), *words], capture_output=True, text=True)
        assert (done.returncode, done.stdout.split()) == (0, [receiver])

    def test_the_alerts_of_an_account_are_one_message_for_each_receiver(self) -> None:
        route = yaml.safe_load(ALERTMANAGER.read_text())["route"]
        assert route["group_by"] == ["cluster", "namespace", "account"]
        regrouped = [each["matchers"] for each in route["routes"] if "group_by" in each]
        assert regrouped == [['alertname="WazzupAccountDown"']]


class TestInhibition:
    """Alertmanager's inhibition rules."""

    @pytest.mark.parametrize(
        ("source", "target", "silenced"),
        [
            (DOWN, UNPAID, True),
            (DOWN, LOST, True),
            (DOWN, FLAPS, True),
            (DOWN, UNKNOWN, True),
            (DOWN, BROKE, False),
            (BROKE, UNPAID, True),
            (BROKE, LOST, False),
            (LOST, FLAPS, True),
            (FLAPS, LOST, False),
            (UNDECIDED, FAILING, True),
            (UNWARNED, FAILING, False),
        ],
    )
    def test_one_cause_is_one_alert(
        self, source: dict[str, str], target: dict[str, str], silenced: bool
    ) -> None:
        here = {"namespace": "shop", "account": "default"}
        if "Channel" in source["alertname"]:
            here["name"] = "support"
        there = {"namespace": "shop", "account": "default", "name": "support"}
        assert _silences(source | here, target | there) == silenced
        assert not _silences(source | here, target | there | {"namespace": "other"})
        assert not _silences(source | here, target | there | {"cluster": "east"})
        cluster = {"cluster": "east"}
        assert _silences(source | here | cluster, target | there | cluster) == silenced

    @pytest.mark.parametrize(
        ("source", "name", "silenced"),
        [
            (UNDECIDED, "channel", True),
            (UNDECIDED, "account", False),
            (UNWARNED, "channel", False),
            (FAILING, "channel", True),
            (FAILING, "account", False),
            (ABSENT, "account", True),
            (EXPIRES, "channel", False),
        ],
    )
    def test_a_webhook_that_fails_is_not_also_unreached(
        self, source: dict[str, str], name: str, silenced: bool
    ) -> None:
        """The API server's alert has no namespace: it counts the calls of all releases."""
        source |= {"namespace": "ops", "job": "wz"}
        target = {"alertname": "WazzupWebhookNotReached", "name": f"{name}.wazzup.dev"}
        assert _silences(source, target) == silenced
        assert not _silences(source, target | {"cluster": "east"})
        assert not _silences(target, source)

    def test_it_names_alerts_that_exist(self) -> None:
        named = " ".join(matcher for rule in _inhibitions() for matcher in _matchers(rule))
        for pattern in re.findall(r'alertname=~?"([^"]+)"', named):
            assert any(re.fullmatch(pattern, name) for name in NAMES)


def _inhibitions() -> list[Any]:
    return list(yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"])


def _matchers(rule: Any) -> list[str]:
    return [*rule["source_matchers"], *rule["target_matchers"]]


def _silences(source: dict[str, str], target: dict[str, str]) -> bool:
    """Return whether the source inhibits the target."""
    return any(
        _matches(rule["source_matchers"], source)
        and _matches(rule["target_matchers"], target)
        and all(source.get(label, "") == target.get(label, "") for label in rule["equal"])
        for rule in _inhibitions()
    )


def _matches(matchers: list[str], labels: dict[str, str]) -> bool:
    for matcher in matchers:
        label, regular, value = re.fullmatch(r'(\w+)=(~?)"(.*)"', matcher).groups()
        is_value = labels.get(label, "") == value
        if not (re.fullmatch(value, labels.get(label, "")) if regular else is_value):
            return False
    return True
