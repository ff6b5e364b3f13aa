"""Which files of monitoring are generated, and what is in them."""

import json
from pathlib import Path
from typing import Any

import yaml

from dev.monitoring import account_alerts, channel_alerts, operator_alerts
from dev.monitoring.alert import Alert, spelled
from dev.monitoring.fleet_dashboard import fleet_dashboard
from dev.monitoring.inhibition import INHIBITIONS
from dev.monitoring.metrics_page import metrics_page
from dev.monitoring.operator_dashboard import operator_dashboard
from wazzup_operator.domain.states import TABLE

ROOT = Path(__file__).parents[2]
RULES = ROOT / "charts" / "wazzup-operator" / "files" / "rules.yaml"
DASHBOARDS = ROOT / "charts" / "wazzup-operator" / "files" / "dashboards"
METRICS = ROOT / "docs" / "metrics.md"
DOCUMENT = ROOT / "docs" / "alerts.md"
RUNBOOK_FILES = ROOT / "docs" / "runbooks"

GROUPS = {
    "wazzup-accounts": account_alerts.ALERTS,
    "wazzup-channels": channel_alerts.ALERTS,
    "wazzup-operator": operator_alerts.REPLICAS,
    "wazzup-webhook": operator_alerts.WEBHOOK,
}
ALERTS = {alert.name: alert for alerts in GROUPS.values() for alert in alerts}

_MADE = "# Made by `make generate` of the table of states and dev/monitoring/thresholds.py."
_WIDTH = 96


def files() -> dict[Path, str]:
    """Return each file's content as it should be; documents are read for what people wrote."""
    made = {
        RULES: rules(),
        DASHBOARDS / "fleet.json": _json(fleet_dashboard()),
        DASHBOARDS / "operator.json": _json(operator_dashboard()),
        METRICS: metrics_page(),
        DOCUMENT: filled(DOCUMENT.read_text(), _documented()),
    }
    for alert in ALERTS.values():
        path = RUNBOOK_FILES / alert.runbook
        made[path] = filled(path.read_text(), {"states": _states(alert)})
    return made


def _json(body: object) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def rules() -> str:
    """Return the rules file of Prometheus."""
    groups = [
        {"name": name, "rules": [_rule(alert) for alert in alerts]}
        for name, alerts in GROUPS.items()
    ]
    return f"{_MADE}\n{_yaml({'groups': groups})}"


def filled(document: str, sections: dict[str, str]) -> str:
    """Return a document with what stands between its marks made anew.

    A mark is a comment such as <!-- states -->, and ends with <!-- /states -->. Raises ValueError
    if there is something to put in and no mark for it.
    """
    for name, content in sections.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = document.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            if content:
                raise ValueError(f"{document.splitlines()[0]!r} has no {begin} ... {end}.")
            continue
        document = f"{before}{begin}\n\n{content}\n\n{end}{after}"
    return document


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": spelled(alert.pending),
        "labels": {"severity": str(alert.severity)},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": alert.runbook_url,
        },
    }


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and indents lists."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _yaml(content: object) -> str:
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True)


def _states(alert: Alert) -> str:
    """Return what the table says of each state of an alert, as a table."""
    if not any(TABLE[state].action for state in alert.states):
        return ""
    rows = ["| state | what is the case | what a person does |", "|---|---|---|"]
    for state in alert.states:
        row = TABLE[state]
        does = row.action.summary if row.action else "nothing but wait"
        rows.append(f"| {state} | {row.meaning} | {does} |")
    return "\n".join(rows)


def _documented() -> dict[str, str]:
    rows = ["| alert | severity | pending for | tells that |", "|---|---|---|---|"]
    for alert in ALERTS.values():
        link = f"[`{alert.name}`](runbooks/{alert.runbook})"
        rows.append(f"| {link} | {alert.severity} | {spelled(alert.pending)} | {_gist(alert)} |")
    inhibit_rules = _yaml({"inhibit_rules": [each.rule() for each in INHIBITIONS]})
    return {"alerts": "\n".join(rows), "inhibition": f"```yaml\n{inhibit_rules}```"}


def _gist(alert: Alert) -> str:
    """Return the first paragraph of an alert's runbook, which says what is the case."""
    _, gist, *_ = (RUNBOOK_FILES / alert.runbook).read_text().split("\n\n")
    return " ".join(gist.split())
