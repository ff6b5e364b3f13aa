"""All generated files and their generators."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from dev.generate import (
    admission_page,
    argocd_config,
    chart_readme,
    messages_page,
    metrics_page,
    settings_page,
    states_page,
)
from dev.generate.alerts import rules
from dev.generate.dashboards.fleet import fleet_dashboard
from dev.generate.dashboards.operator import operator_dashboard
from dev.generate.document import filled
from dev.generate.install_manifest import install_manifest
from dev.generate.values_schema import values_schema
from wazzup_operator.resources import crd

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CHART = ROOT / "charts" / "wazzup-operator"
ARGOCD = ROOT / "examples" / "argocd"
RULES = CHART / "files" / "rules.yaml"
DASHBOARDS = CHART / "files" / "dashboards"
RUNBOOKS = DOCS / "runbooks.md"


def files() -> Iterator[tuple[Path, str]]:
    """Yield each generated file and its content; hand-written parts of documents are kept.

    Files that depend on other generated files come after them.
    """
    yield from _crds()
    yield from _alerts()
    yield DASHBOARDS / "fleet.json", _json(fleet_dashboard())
    yield DASHBOARDS / "operator.json", _json(operator_dashboard())
    yield _filled(DOCS / "metrics.md", metrics_page.sections())
    yield _filled(DOCS / "messages.md", messages_page.sections())
    yield _filled(DOCS / "admission.md", admission_page.sections())
    yield _filled(DOCS / "settings.md", settings_page.sections())
    yield _filled(DOCS / "concepts.md", states_page.sections())
    yield _filled(ROOT / "README.md", states_page.readme_section())
    yield ARGOCD / "argocd-cm.yaml", argocd_config.argocd_config(ARGOCD / "resource_customizations")
    yield CHART / "values.schema.json", values_schema(CHART)
    yield CHART / "README.md", chart_readme.readme(CHART)
    yield ROOT / "deploy" / "install.yaml", install_manifest(CHART)


def _crds() -> Iterator[tuple[Path, str]]:
    for name, text in crd.render().items():
        yield ROOT / "crds" / name, text
        yield CHART / "definitions" / name, text


def _alerts() -> Iterator[tuple[Path, str]]:
    yield RULES, rules.rules()
    runbooks = filled(RUNBOOKS.read_text(), rules.runbook_sections())
    yield RUNBOOKS, runbooks
    yield _filled(DOCS / "monitoring.md", rules.alert_sections(runbooks))


def _filled(path: Path, sections: Mapping[str, str]) -> tuple[Path, str]:
    return path, filled(path.read_text(), sections)


def _json(body: object) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"
