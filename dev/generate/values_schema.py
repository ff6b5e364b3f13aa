"""The chart's values.schema.json, generated from the comments in values.yaml."""

import json
import subprocess
from pathlib import Path
from typing import Any

from dev.controlplane.binaries import helm_values_schema


def values_schema(chart: Path) -> str:
    """Return the schema. Raises CalledProcessError or StartError."""
    command: list[str | Path] = [
        helm_values_schema(),
        f"--values={chart / 'values.yaml'}",
        "--output=-",
        "--use-helm-docs",
        "--schema-root.title=Values of wazzup-operator",
        "--schema-root.additional-properties=false",
    ]
    schema = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    schema["properties"]["enabled"] = {
        "description": "For the condition of a parent chart's dependency.",
        "type": "boolean",
    }
    _allow_null(schema)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _allow_null(section: dict[str, Any]) -> None:
    """Allow null, which unsets a default, for every value that is not required."""
    for name, value in section.get("properties", {}).items():
        if name not in section.get("required", ()):
            types = [value["type"]] if isinstance(value["type"], str) else value["type"]
            value["type"] = list(dict.fromkeys([*types, "null"]))
            if "enum" in value:
                value["enum"].append(None)
        _allow_null(value)
