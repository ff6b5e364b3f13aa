"""Changes single fields in a text and leaves everything else as it is. Pure."""

import json
import re
from typing import Any

import yaml

from wazzup_operator.gitops.manifests import Manifest, NotYaml, entry, read
from wazzup_operator.resources.base import JSON

_SPECIAL = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON may hold as it is, but YAML may not, or nobody would see."""


class CannotEdit(Exception):
    """A text is written in a way that cannot be changed without touching more."""


def scalar(value: bool | str) -> str:
    """Return a value as it is written in YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _SPECIAL.sub(
        lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False)
    )


def set_spec(text: str, index: int, changes: dict[str, bool | str]) -> str:
    """Set fields in the spec of the text's object with this index. Raises CannotEdit."""
    for key, value in changes.items():
        objects = list(read("", text))
        wanted = json.loads(json.dumps([each.body for each in objects]))  # without aliases
        wanted[index]["spec"][key] = value
        text = _verified(_with_field(text, objects[index], key, value), wanted)
    return text


def add_resources(text: str, files: list[str]) -> str:
    """Add files to the resources of a kustomization. Raises CannotEdit."""
    (kustomization,) = _single(text)
    present = kustomization.body.get("resources") or []
    wanted = {**kustomization.body, "resources": [*present, *files]}
    newline = _newline(text)
    lines = [f"- {each}" for each in files]
    found = entry(kustomization.node, "resources")
    if found is None:
        start = text if text.endswith("\n") else text + newline
        return _verified(start + newline.join(["resources:", *lines, ""]), [wanted])
    items = found[1].value
    if not isinstance(found[1], yaml.SequenceNode) or not items or found[1].flow_style:
        raise CannotEdit
    end = _end_of_line(text, items[-1].end_mark.index)
    indent = newline + " " * found[1].start_mark.column
    return _verified(text[:end] + "".join(indent + line for line in lines) + text[end:], [wanted])


def _single(text: str) -> list[Manifest]:
    try:
        objects = list(read("", text))
    except NotYaml as error:
        raise CannotEdit from error
    if len(objects) != 1:
        raise CannotEdit
    return objects


def _verified(text: str, wanted: list[JSON]) -> str:
    """Return the text if it holds what is wanted and nothing else."""
    try:
        if [each.body for each in read("", text)] == wanted:
            return text
    except NotYaml:
        pass
    raise CannotEdit


def _with_field(text: str, manifest: Manifest, key: str, value: bool | str) -> str:
    (_, spec) = entry(manifest.node, "spec") or (None, None)
    fields = {each.value: (each, inner) for each, inner in spec.value} if spec else {}
    if key in fields:
        start, end = (mark.index for mark in (fields[key][1].start_mark, fields[key][1].end_mark))
        old = text[start:end]
        return text[:start] + scalar(value) + old[len(old.rstrip()) :] + text[end:]
    if "phoneNumber" not in fields:
        raise CannotEdit  # merged from elsewhere
    return _after(text, spec, *fields["phoneNumber"], key, scalar(value))


def _after(
    text: str, spec: Any, neighbour: yaml.Node, number: yaml.Node, key: str, value: str
) -> str:
    """Insert a field after the phone number."""
    written = json.dumps(key) if neighbour.style == '"' else key  # type: ignore[attr-defined]
    end = number.end_mark.index
    if spec.flow_style:
        return f"{text[:end]}, {written}: {value}{text[end:]}"
    end = _end_of_line(text, end)
    indent = _newline(text) + " " * neighbour.start_mark.column
    return f"{text[:end]}{indent}{written}: {value}{text[end:]}"


def _end_of_line(text: str, index: int) -> int:
    ends = [end for each in ("\r\n", "\n") if (end := text.find(each, index)) >= 0]
    return min(ends, default=len(text))


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
