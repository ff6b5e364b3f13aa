"""YAML as kubectl reads it, with the lines of fields."""

import pytest

from wazzup_operator.gitops.manifests import NotYaml, is_plain_string, read

STRINGS = ["Support", "1:30", "2026-01-01", "+7 986", "1.2.3", "0x", "yesterday", "=", "1e"]
BOOLEANS = {"y": True, "Y": True, "yes": True, "on": True, "True": True, "n": False, "OFF": False}
NUMBERS = {
    "+447700900111": 447700900111,
    "-5": -5,
    "1_000": 1000,
    "1_": 1,
    "0x1F": 31,
    "0b11": 3,
    "0o17": 15,
    "017": 15,
    "089": 89.0,
    "1.5": 1.5,
    ".5": 0.5,
    "1e3": 1000.0,
    "-.inf": float("-inf"),
}


def value(text):
    """Return what `a: text` holds."""
    (only,) = read("f", f"a: {text}")
    return only.body["a"]


@pytest.mark.parametrize("text", STRINGS)
def test_strings(text):
    assert value(text) == text
    assert is_plain_string(text)


@pytest.mark.parametrize(("text", "expected"), [*BOOLEANS.items(), *NUMBERS.items()])
def test_other_scalars(text, expected):
    assert value(text) == expected
    assert type(value(text)) is type(expected)
    assert not is_plain_string(text)
    assert value(f'"{text}"') == text


@pytest.mark.parametrize("text", ["", "~", "null", "Null"])
def test_nothing(text):
    assert value(text) is None
    assert not is_plain_string(text)


def test_explicit_tags():
    assert value("!!str 1") == "1"
    assert value("!!int '7'") == 7
    assert value("!secret x") == "x"


TEXT = """\
# comment
kind: List
items:
- kind: A
  metadata:
    name: first
- {kind: B, metadata: {name: second}}
---
base: &base
  one: 1
  two: 2
kind: C
spec:
  <<: [*base, {one: 4, four: 4}]
  two: 3
"""


def test_objects_of_lists_and_documents_and_their_lines():
    a, b, c = read("f", TEXT)
    assert [a.kind, b.kind, c.kind] == ["A", "B", "C"]
    assert c.body["spec"] == {"one": 1, "two": 3, "four": 4}
    assert [a.line(), b.line(), c.line()] == [4, 7, 9]
    assert a.line(("metadata", "name")) == 6
    assert b.line(("metadata", "name")) == 7
    assert c.line(("spec", "two")) == 15
    assert c.line(("spec", "one")) == 10
    assert c.line(("spec", "three")) == 13
    assert (c.source(("spec", "two")), c.source(("spec",))) == ("3", None)


def test_a_json_file():
    (only,) = read("f", '{\n\t"kind": "A",\n\t"spec": {"x": "1", "y": 1}\n}')
    assert only.body == {"kind": "A", "spec": {"x": "1", "y": 1}}
    assert only.line(("spec", "y")) == 3


def test_a_key_that_is_there_twice():
    (only,) = read("f", "kind: A\nspec:\n  x: 1\n  x: 2\n")
    assert only.body["spec"] == {"x": 2}
    assert only.repeated == (("x", 4),)


@pytest.mark.parametrize("text", ["", "---\n", "# only a comment\n", "just words", "- a\n- b"])
def test_texts_without_objects(text):
    assert list(read("f", text)) == []


NOT_YAML = {
    "a: [": 2,
    "a: 1\nb: c: d": 2,
    "a: *b": 1,
    "{{- if .Values.x }}\na: 1\n{{- end }}": 1,
    "a: \x00": 1,
    "&a [*a]": 1,
    "&a {<<: *a}": 1,
    "[" * 2_000 + "]" * 2_000: 1,
    "[" * 50_000: 1,
}


@pytest.mark.parametrize(("text", "line"), NOT_YAML.items(), ids=range(len(NOT_YAML)))
def test_texts_that_are_not_yaml(text, line):
    with pytest.raises(NotYaml) as caught:
        list(read("f", text))
    assert caught.value.line in {line, line + 1}


def test_the_objects_before_an_error_are_read():
    objects = read("f", "kind: A\n---\nkind: [")
    assert next(objects).kind == "A"
    with pytest.raises(NotYaml):
        next(objects)


def test_aliases_that_multiply_are_read_once():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    (only,) = read("f", "\n".join(lines))
    assert len(only.body) == 40
