"""Panels and queries of the dashboards."""

import json
from collections.abc import Iterator

from dev.generate import files
from tests.integration.harness.api import JSON
from tests.monitoring.promql import substituted

DASHBOARDS = {path.stem: path for path in sorted(files.DASHBOARDS.glob("*.json"))}


def panels(name: str) -> list[JSON]:
    """Return a dashboard's panels, without rows."""
    body = json.loads(DASHBOARDS[name].read_text())
    return [each for each in body["panels"] if each["type"] != "row"]


def query(title: str, ref: str = "A", namespace: str = ".*", account: str = ".*") -> str:
    """Return a query of a panel of the fleet dashboard, with its variables replaced."""
    (panel,) = (each for each in panels("fleet") if each["title"] == title)
    (found,) = (each["expr"] for each in panel["targets"] if each["refId"] == ref)
    chosen = {"$cluster": ".*", "$namespace": namespace, "$account": account}
    for variable, value in chosen.items():
        found = found.replace(variable, value)
    return str(found)


def queries(name: str) -> Iterator[tuple[str, str, str]]:
    """Yield title, legend and expression of each query of a dashboard."""
    variables = json.loads(DASHBOARDS[name].read_text())["templating"]["list"]
    known = [each["name"] for each in variables]
    for panel in panels(name):
        for target in panel["targets"]:
            yield panel["title"], target["legendFormat"], substituted(target["expr"], known)
