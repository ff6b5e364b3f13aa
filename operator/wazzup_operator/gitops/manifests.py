"""Reads YAML and JSON as kubectl does, and knows the line of every field."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import yaml

from wazzup_operator.resources import account, channel
from wazzup_operator.resources.base import API_VERSION, GROUP, JSON

KINDS = (channel.KIND, account.KIND)

_HARMLESS = 5000
"""Levels that libyaml can read."""

FieldPath = Sequence[str | int]
"""Where a value is in an object: keys and indexes."""

_STRING, _BOOL, _NULL, _NUMBER, _MERGE = (
    f"tag:yaml.org,2002:{each}" for each in ("str", "bool", "null", "float", "merge")
)
_TRUE = {"y", "yes", "true", "on"}

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the second is 20 times slower


class _Loader(_Base):  # type: ignore[misc]  # its base is one of two
    """The types of plain scalars for kubectl: YAML 1.1 without sexagesimals and dates."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for _tag, _pattern, _first in (
    (
        _BOOL,
        "[yYnN]|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|true|True|TRUE|false|False|FALSE",
        "yYnNtTfFoO",
    ),
    (_NULL, "~|null|Null|NULL|", ["~", "n", "N", ""]),
    (
        _NUMBER,
        r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+"
        r"|(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))"
        r"|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    (_MERGE, "<<", "<"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))


class NotYaml(Exception):
    """A text is not YAML; the message says why, and `line` where."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object in a file, of any kind. `repeated` are keys that a mapping has twice."""

    file: str
    node: yaml.MappingNode
    body: JSON
    repeated: tuple[tuple[str, int], ...] = ()

    @property
    def ours(self) -> bool:
        """Whether this is meant to be one of the operator's objects."""
        return self.body.get("kind") in KINDS or self._group == GROUP

    @property
    def _group(self) -> str:
        return str(self.body.get("apiVersion")).partition("/")[0]

    @property
    def known(self) -> bool:
        """Whether the API server has this kind in this version."""
        return self.body.get("kind") in KINDS and self.body.get("apiVersion") == API_VERSION

    @property
    def kind(self) -> str:
        """The kind, if there is one."""
        return str(self.body.get("kind", "object"))

    def metadata(self, key: str) -> Any:
        """Return a value of the metadata, if any."""
        metadata = self.body.get("metadata")
        return metadata.get(key) if isinstance(metadata, dict) else None

    @property
    def name(self) -> str | None:
        """The name, if there is one."""
        name = self.metadata("name")
        return name if isinstance(name, str) else None

    @property
    def namespace(self) -> str | None:
        """The namespace, if the file names one."""
        namespace = self.metadata("namespace")
        return namespace if isinstance(namespace, str) else None

    def line(self, path: FieldPath = ()) -> int:
        """Return the line of the field, or of the innermost mapping around it that exists."""
        node: yaml.Node = self.node
        line = node.start_mark.line
        for part in path:
            found = entry(node, part)
            if found is None:
                break
            key, node = found
            line = key.start_mark.line
        return int(line) + 1

    def source(self, path: FieldPath) -> str | None:
        """Return a scalar as it is written, without quotes."""
        node: Any = self.node
        for part in path:
            found = entry(node, part)
            if found is None:
                return None
            node = found[1]
        return node.value if isinstance(node, yaml.ScalarNode) else None


def entry(node: yaml.Node, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """Return the nodes of a key and its value; of an item, its value twice."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key, value
        merged = (
            each for key, value in node.value if key.tag == _MERGE for each in _sources(value)
        )
        return next((found for each in merged if (found := entry(each, part))), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
        return (node.value[part], node.value[part]) if part < len(node.value) else None
    return None


def read(file: str, text: str) -> Iterator[Manifest]:
    """Yield the objects in a text, also those in a List. Raises NotYaml after them."""
    loader = _Loader(text)
    try:
        _refuse_deep(text)
        while loader.check_node():
            node = loader.get_node()
            yield from _objects(file, node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotYaml(str(error.problem), mark.line + 1 if mark else 1) from error
    except yaml.YAMLError as error:
        raise NotYaml("it contains a character that YAML does not allow", 1) from error
    except RecursionError as error:
        raise NotYaml("it is nested too deeply", 1) from error
    finally:
        loader.dispose()


def _refuse_deep(text: str) -> None:
    """Raise RecursionError for nesting that would end the process inside libyaml."""
    if sum(map(text.count, "[{-?")) <= _HARMLESS:
        return
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _HARMLESS:
            raise RecursionError


def is_plain_string(text: str) -> bool:
    """Return whether a word without quotes is a string to kubectl."""
    return bool(_Loader("").resolve(yaml.ScalarNode, text, (True, False)) == _STRING)


def _objects(file: str, node: Any) -> Iterator[Manifest]:
    reader = _Reader()
    body = reader.value(node)
    if not isinstance(body, dict):
        return
    items = entry(node, "items")
    if str(body.get("kind")).endswith("List") and items and isinstance(items[1], yaml.SequenceNode):
        for item in items[1].value:
            yield from _objects(file, item)
        return
    yield Manifest(file, node, body, tuple(reader.repeated))


@dataclass(slots=True)
class _Reader:
    """Turns nodes into JSON. An alias is read once, so that no file can blow up."""

    repeated: list[tuple[str, int]] = field(default_factory=list)
    read: dict[int, Any] = field(default_factory=dict)

    def value(self, node: yaml.Node) -> Any:
        if id(node) not in self.read:
            self.read[id(node)] = self._value(node)
        return self.read[id(node)]

    def _value(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(each) for each in node.value]
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode) -> JSON:
        own: JSON = {}
        merged: JSON = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                for each in _sources(value):
                    merged = {**self._mapping(each), **merged}
                continue
            name = str(key.value)
            if name in own:
                self.repeated.append((name, key.start_mark.line + 1))
            own[name] = self.value(value)
        return {**merged, **own}


def _sources(node: yaml.Node) -> list[yaml.MappingNode]:
    """Return the mappings that a merge key merges."""
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return [each for each in nodes if isinstance(each, yaml.MappingNode)]


def _scalar(node: yaml.Node) -> Any:
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL:
        return node.value.lower() in _TRUE
    if node.tag in {_NUMBER, "tag:yaml.org,2002:int"}:
        return _number(node.value.replace("_", ""))
    return node.value


def _number(text: str) -> float | int:
    try:
        if re.fullmatch(r"[-+]?0[0-7]+", text):
            return int(text, 8)
        return int(text, 0)
    except ValueError:
        try:
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            return 0.0
