"""Generates the CustomResourceDefinitions in crds/ from the models.

Adds what a model cannot express: CEL rules (KEP-2876), printer columns and selectable fields
(KEP-4358).
"""

from dataclasses import dataclass

import yaml
from pydantic import TypeAdapter

from wazzup_operator.resources import account, channel
from wazzup_operator.resources.base import GROUP, JSON, VERSION
from wazzup_operator.resources.formats import FORMATS, Format


@dataclass(frozen=True, slots=True)
class _Kind:
    kind: str
    plural: str
    short_name: str
    description: str
    spec: type
    status: type
    spec_rules: list[JSON]
    columns: list[JSON]
    selectable: list[str]


def _immutable(field: str, remedy: str) -> JSON:
    return {
        "rule": f"self.{field} == oldSelf.{field}",
        "fieldPath": f".{field}",
        "reason": "FieldValueForbidden",
        "message": f"cannot be changed{remedy}",
        "messageExpression": (f"'cannot be changed from \"' + oldSelf.{field} + '\"{remedy}'"),
    }


def _rule(format_: Format) -> tuple[str, JSON]:
    """Return the property that a format's rule belongs to, and the rule."""
    property_, _, inner = format_.field.partition(".")
    value = f"self.{inner}" if inner else "self"
    pattern = format_.pattern.replace("\\", r"\\")
    rule = f"{value}.matches('^{pattern}$')"
    if format_.between:
        least, greatest = format_.between
        rule += f" && duration({value}) >= duration('{least}')"
        rule += f" && duration({value}) <= duration('{greatest}')"
    place = {"fieldPath": f".{inner}"} if inner else {}
    return property_, {"rule": rule, **place, **_message(format_)}


def _message(format_: Format) -> JSON:
    if not format_.quotes_value:
        return {"message": format_.sentence}
    sentence = f"'{format_.sentence}'"
    if format_.known_cause:
        pattern, known = format_.known_cause
        sentence = f"(self.matches('^{pattern}$') ? '{known}' : {sentence})"
    # CEL falls back to `message` if the value contains line breaks.
    return {
        "message": f"the value {format_.sentence}",
        "messageExpression": f"'\"' + self + '\" ' + {sentence}",
    }


def _column(name: str, path: str, type_: str = "string", *, wide: bool = False) -> JSON:
    column = {"name": name, "jsonPath": path, "type": type_}
    return {**column, "priority": 1} if wide else column


def _condition(type_: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{field}'


_CHANNEL = _Kind(
    kind=channel.KIND,
    plural=channel.PLURAL,
    short_name="wzch",
    description=(
        "A WhatsApp channel in Wazzup: its phone number, whether it should be active, and its state"
        " in Wazzup."
    ),
    spec=channel.ChannelSpec,
    status=channel.ChannelStatus,
    spec_rules=[
        _immutable(
            "phoneNumber",
            ". To use a new number, create another WazzupChannel and set spec.active to false here;"
            " if you only respelled the number, put the old spelling back.",
        ),
        _immutable(
            "transport",
            ". Create another WazzupChannel with the new transport, and set spec.active to false"
            " here.",
        ),
        {
            # An id belongs to an account. has() is false for null.
            "rule": (
                "self.accountRef.name != oldSelf.accountRef.name || !has(oldSelf.channelID)"
                " || oldSelf.channelID == ''"
                " || (has(self.channelID) && self.channelID == oldSelf.channelID)"
            ),
            "fieldPath": ".channelID",
            "reason": "FieldValueForbidden",
            "message": (
                "cannot be changed or removed unless spec.accountRef changes in the same edit"
            ),
            "messageExpression": (
                "'cannot be changed from \"' + oldSelf.channelID + '\" or removed unless"
                " spec.accountRef changes in the same edit. Put it back, or recreate this object"
                " (this deletes nothing in Wazzup); if you changed spec.accountRef before, change"
                " it back, then change both in one edit.'"
            ),
        },
    ],
    columns=[
        _column("Phone", ".spec.phoneNumber"),
        _column("Active", ".spec.active", "boolean"),
        _column("State", ".status.state"),
        _column("Ready", _condition("Ready", "status")),
        _column("By", ".status.action.by"),
        _column("Reason", _condition("Ready", "reason"), wide=True),
        _column("Account", ".spec.accountRef.name", wide=True),
        _column("Channel", ".status.channelID", wide=True),
        _column("Action", ".status.action.summary", wide=True),
        _column("Age", ".metadata.creationTimestamp", "date"),
    ],
    selectable=[".spec.phoneNumber", ".status.state"],
)

_ACCOUNT = _Kind(
    kind=account.KIND,
    plural=account.PLURAL,
    short_name="wzacc",
    description="A Wazzup account and the Secret that holds its API key.",
    spec=account.AccountSpec,
    status=account.AccountStatus,
    spec_rules=[],
    columns=[
        _column("Ready", _condition("Ready", "status")),
        _column("Reason", _condition("Ready", "reason")),
        _column("Declared", ".status.channels.declared", "integer"),
        _column("Observed", ".status.channels.observed", "integer"),
        _column("Channels-Ready", ".status.channels.ready", "integer"),
        _column("Message", _condition("Ready", "message"), wide=True),
        _column("Last-Sync", ".status.lastSyncTime", "date", wide=True),
        _column("Age", ".metadata.creationTimestamp", "date"),
    ],
    selectable=[],
)


def _structural(schema: JSON, definitions: JSON) -> JSON:
    """Convert pydantic's JSON Schema to the structural schema that Kubernetes requires."""
    if "anyOf" in schema:
        (value,) = (option for option in schema["anyOf"] if option != {"type": "null"})
        schema = {**value, **{key: other for key, other in schema.items() if key != "anyOf"}}
    if "$ref" in schema:
        named = definitions[schema["$ref"].rsplit("/", 1)[-1]]
        schema = {**named, **{key: value for key, value in schema.items() if key != "$ref"}}
    result = {
        key: value
        for key, value in schema.items()
        if key not in {"title", "$defs", "$ref"} and not (key == "default" and value in (None, []))
    }
    if "properties" in result:
        result["properties"] = {
            name: _structural(value, definitions) for name, value in result["properties"].items()
        }
    if "items" in result:
        result["items"] = _structural(result["items"], definitions)
    return result


def _schema(model: type) -> JSON:
    schema = TypeAdapter(model).json_schema(by_alias=True)
    return _structural(schema, schema.get("$defs", {}))


def _object_schema(kind: _Kind) -> JSON:
    spec = _schema(kind.spec)
    for property_, rule in map(_rule, FORMATS[kind.kind]):
        spec["properties"][property_].setdefault("x-kubernetes-validations", []).append(rule)
    if kind.spec_rules:
        spec["x-kubernetes-validations"] = kind.spec_rules
    status = _schema(kind.status)
    # kstatus treats an object without a status as healthy, but not one with observedGeneration -1.
    status["default"] = {"observedGeneration": -1}
    return {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }


def _definition(kind: _Kind) -> JSON:
    version: JSON = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": kind.columns,
        "schema": {"openAPIV3Schema": _object_schema(kind)},
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short_name],
                "categories": ["wazzup"],
            },
            "versions": [version],
        },
    }


_KINDS = (_ACCOUNT, _CHANNEL)


def schemas() -> dict[str, JSON]:
    """Return the schemas of the objects, by kind."""
    return {kind.kind: _object_schema(kind) for kind in _KINDS}


def render() -> dict[str, str]:
    """Return the CRDs as YAML, by file name."""
    return {
        f"{kind.plural}.yaml": yaml.safe_dump(
            _definition(kind), sort_keys=False, width=100, allow_unicode=True
        )
        for kind in _KINDS
    }
