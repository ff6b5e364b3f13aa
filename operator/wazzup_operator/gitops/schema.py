"""What the API server refuses in one object: the CRD's schema and formats, and the metadata."""

import difflib
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from wazzup_operator.gitops.manifests import FieldPath, Manifest
from wazzup_operator.resources import crd
from wazzup_operator.resources.base import JSON
from wazzup_operator.resources.formats import FORMATS
from wazzup_operator.resources.naming import is_label, is_subdomain


class Violation(NamedTuple):
    """What is wrong with the field at `path`; `sentence` starts with the field's name."""

    path: FieldPath
    sentence: str


_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "string": (str, "a string"),
    "boolean": (bool, "true or false, without quotes"),
    "integer": (int, "a whole number"),
    "object": (dict, "a mapping"),
    "array": (list, "a list"),
}

_UNUSABLE = re.compile("[\x7f-\x9f\ufffe\uffff]")
"""JSON may hold these as they are; a server-side apply is read as YAML, which may not,
and which folds U+0085 into a space."""

_METADATA: JSON = {
    "type": "object",
    "properties": {
        **{key: {"type": "string"} for key in ("name", "generateName", "namespace")},
        **{
            key: {
                "type": "object",
                "nullable": True,
                "additionalProperties": {"type": "string"},
            }
            for key in ("labels", "annotations")
        },
        **{
            key: {}
            for key in (
                *("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp"),
                *("finalizers", "generation", "managedFields", "ownerReferences"),
                *("resourceVersion", "selfLink", "uid"),
            )
        },
    },
}
"""Kubernetes' ObjectMeta; what the API server sets itself is not checked."""


@cache
def _schema(kind: str) -> JSON:
    schema = crd.schemas()[kind]
    return {**schema, "properties": {**schema["properties"], "metadata": _METADATA}}


def violations(manifest: Manifest) -> list[Violation]:
    """Return everything that the API server refuses in the object, without other objects."""
    found = list(_in_value(manifest, manifest.body, _schema(manifest.kind), ()))
    broken = {each.path for each in found}
    found += [each for each in _names(manifest) if each.path not in broken]
    found += [each for each in _formats(manifest) if each.path not in broken]
    return found


def is_applicable(text: str) -> bool:
    """Return whether every way to apply an object can transport this text."""
    return not _UNUSABLE.search(text)


def _in_value(manifest: Manifest, value: Any, schema: JSON, path: FieldPath) -> Iterator[Violation]:
    if value is None and "default" in schema:
        return  # the API server takes the default
    if "type" not in schema or (value is None and schema.get("nullable")):
        return
    type_, name = _TYPES[schema["type"]]
    if not isinstance(value, type_) or (isinstance(value, bool) and type_ is not bool):
        yield Violation(path, _wrong_type(manifest, value, name, path))
    elif isinstance(value, dict):
        yield from _in_mapping(manifest, value, schema, path)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _in_value(manifest, each, schema["items"], (*path, index))
    elif sentence := _wrong_value(value, schema):
        yield Violation(path, f"{dotted(path)} {sentence}")


def _in_mapping(
    manifest: Manifest, value: JSON, schema: JSON, path: FieldPath
) -> Iterator[Violation]:
    properties = schema.get("properties", {})
    rest = schema.get("additionalProperties")
    for key in schema.get("required", ()):
        if key not in value:
            yield Violation(path, f"{dotted((*path, key))} is missing")
    for key, inner in value.items():
        if key in properties or rest:
            yield from _in_value(manifest, inner, properties.get(key, rest), (*path, key))
        else:
            near = difflib.get_close_matches(key, properties, n=1)
            hint = f' (did you mean "{near[0]}"?)' if near else ""
            yield Violation((*path, key), f'unknown field "{dotted((*path, key))}"{hint}')


def _wrong_type(manifest: Manifest, value: Any, wanted: str, path: FieldPath) -> str:
    field = dotted(path)
    source = manifest.source(path)
    if value is None:
        return f"{field} has no value; write one or remove the field"
    if wanted == _TYPES["string"][1] and source is not None:
        kind = "a boolean" if isinstance(value, bool) else "a number"
        is_phone = path == ("spec", "phoneNumber") and isinstance(value, (int, float))
        quoted = json.dumps(f"+{value:.0f}" if is_phone else source)
        return f"{field} must be a string, but YAML reads {source} as {kind}; write {quoted}"
    return f"{field} must be {wanted}"


def _wrong_value(value: Any, schema: JSON) -> str | None:
    if value not in schema.get("enum", [value]):
        return f"{json.dumps(value)} is not one of {', '.join(schema['enum'])}"
    if not isinstance(value, str):
        return None
    if not is_applicable(value):
        return (
            "contains a control character, which a server-side apply refuses or changes; remove it"
        )
    if len(value) < schema.get("minLength", 0):
        return "is empty; write a value or remove the field"
    most = schema.get("maxLength", len(value))
    return f"has {len(value)} characters; at most {most} fit" if len(value) > most else None


def _names(manifest: Manifest) -> Iterator[Violation]:
    """Check the names, labels and annotations that are strings."""
    name, prefix = manifest.metadata("name"), manifest.metadata("generateName")
    if name is None and prefix is None:
        yield Violation(("metadata",), "metadata.name is missing")
    form = "use lower-case letters, digits, hyphens and dots"
    if isinstance(name, str) and not is_subdomain(name):
        yield _invalid(("metadata", "name"), name, form)
    if isinstance(prefix, str) and not is_subdomain(f"{prefix}x"):
        yield _invalid(("metadata", "generateName"), prefix, form)
    namespace = manifest.metadata("namespace")
    if isinstance(namespace, str) and not is_label(namespace):
        yield _invalid(
            ("metadata", "namespace"), namespace, "use lower-case letters, digits and hyphens"
        )
    for field in ("labels", "annotations"):
        entries = manifest.metadata(field)
        for key, value in entries.items() if isinstance(entries, dict) else ():
            path = ("metadata", field, key)
            if not _is_qualified(key):
                yield Violation(path, f'metadata.{field} has an invalid key "{key}"')
            elif field == "labels" and isinstance(value, str) and not _is_label_value(value):
                yield _invalid(path, value, "use letters, digits, hyphens, dots and underscores")


def _invalid(path: FieldPath, value: str, form: str) -> Violation:
    return Violation(
        path, f"{dotted(path)} {json.dumps(value, ensure_ascii=False)} is not valid; {form}"
    )


def _is_label_value(text: str) -> bool:
    return text == "" or bool(re.fullmatch(r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?", text))


def _is_qualified(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    return bool(name) and _is_label_value(name) and (is_subdomain(prefix) if slash else True)


def _formats(manifest: Manifest) -> Iterator[Violation]:
    for format_ in FORMATS[manifest.kind]:
        path = ("spec", *format_.field.split("."))
        value: Any = manifest.body
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, str) and not format_.fits(value):
            quoted = f" {json.dumps(value, ensure_ascii=False)}" if format_.quotes_value else ""
            yield Violation(path, f"{dotted(path)}{quoted} {format_.sentence_about(value)}")


def dotted(path: FieldPath) -> str:
    """Return a path as the API server writes it, such as spec.phoneNumber."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
