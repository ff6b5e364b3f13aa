"""Which files are generated, and what is in them."""

import json
from pathlib import Path

from dev.docs.fleet import fleet
from dev.docs.metrics import document
from dev.docs.operator_dashboard import operator

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "charts" / "wazzup-operator" / "files" / "dashboards"


def files() -> dict[Path, str]:
    """Return each file's content as it should be."""
    return {
        ROOT / "docs" / "metrics.md": document(),
        DASHBOARDS / "fleet.json": _json(fleet()),
        DASHBOARDS / "operator.json": _json(operator()),
    }


def _json(body: object) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"
