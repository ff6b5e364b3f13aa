"""The chart's README.md, from README.md.gotmpl and the comments in values.yaml.

Follows the conventions of helm-docs: a comment that starts with "# --" describes the value below.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_ENTRY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z0-9_]+):(?P<rest>.*)")
_TYPES = {bool: "bool", int: "int", str: "string", list: "list", dict: "object"}


class Undescribed(Exception):
    """A value has no description."""


def described(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield path and description of each described value, in order."""
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            comment = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("#") and comment:
            comment.append(stripped.removeprefix("#").strip())
        elif entry := _ENTRY.fullmatch(line):
            indent = len(entry["indent"])
            path = [*(each for each in path if each[0] < indent), (indent, entry["key"])]
            if comment:
                yield tuple(key for _, key in path), " ".join(comment)
            comment = []
        else:
            comment = []


def leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of each value that has no values below it."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    else:
        yield path


def rows(text: str) -> Iterator[str]:
    """Yield the table's lines. Raises Undescribed."""
    values, descriptions = yaml.safe_load(text), dict(described(text))
    for path in leaves(values):
        if not any(path[:length] in descriptions for length in range(1, len(path) + 1)):
            raise Undescribed(f"{'.'.join(path)} has no comment that starts with '# --'")
    for path, description in descriptions.items():
        value = values
        for key in path:
            value = value[key]
        kind = "int or string" if value is None else _TYPES[type(value)]
        default = json.dumps(value, ensure_ascii=False)
        yield f"| {'.'.join(path)} | {kind} | `{default}` | {description.replace('|', '&#124;')} |"


def readme(folder: Path) -> str:
    """Return the chart's README."""
    chart = yaml.safe_load((folder / "Chart.yaml").read_text())
    parts = {
        "chart.header": f"# {chart['name']}\n",
        "chart.description": chart["description"],
        "chart.kubeVersionLine": f"Kubernetes: `{chart['kubeVersion']}`",
        "chart.valuesSection": "\n".join(
            [
                "## Values\n",
                "| Key | Type | Default | Description |",
                "|-----|------|---------|-------------|",
                *rows((folder / "values.yaml").read_text()),
            ]
        ),
    }
    template = (folder / "README.md.gotmpl").read_text()
    return re.sub(r'\{\{ template "([a-zA-Z.]+)" \. \}\}', lambda name: parts[name[1]], template)
