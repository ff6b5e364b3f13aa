"""docs/messages.md: the sentences that users read, from the code that builds them."""

import ast
import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import yaml

from dev.generate.alerts.rules import ALERTS
from dev.generate.document import table
from wazzup_operator import cli, flags
from wazzup_operator.admission import lookups, rules
from wazzup_operator.controller import lister, memory
from wazzup_operator.domain import api_key
from wazzup_operator.domain.states import State, judge
from wazzup_operator.gitops import commands
from wazzup_operator.kube import secrets
from wazzup_operator.reconcile import account, find, match, status
from wazzup_operator.resources import crd
from wazzup_operator.wazzup import client, wire

_SENTENCE = re.compile(r"([A-Z]|spec\.|\{[a-z ]+\} [a-z]).* (.*\.( \{[a-z ]+\})?|Run: .*)")
"""A text that begins and ends like a sentence; a value may come first or last, a command last."""


def sections() -> dict[str, str]:
    """Return one table for each place where users read sentences."""
    header = ("code", "sentence")
    return {
        "states": table(("declared", "state", "reason", "by", "message"), _states()),
        "channels": table(header, _rows(find, match, status)),
        "accounts": table(header, _rows(account, lister, memory, secrets, api_key, client, wire)),
        "admission": table(header, _rows(rules, lookups)),
        "crds": table(("kind", "sentence"), _validations()),
        "alerts": table(("alert", "severity", "summary"), _alerts()),
        "cli": table(("code", "sentence"), _cli_errors(cli, flags, commands)),
    }


def _states() -> Iterator[tuple[str, ...]]:
    """Yield each sentence once, with the states that lead to it."""
    for active, declared in ((True, "on"), (False, "off")):
        states: dict[tuple[str, ...], list[str]] = {}
        for state in State:
            verdict = judge(state, active=active)
            action = verdict.action
            by, summary = (action.by, action.summary) if action else ("-", "")
            sentences = f"{verdict.message} {summary}".strip()
            states.setdefault((verdict.reason, by, sentences), []).append(state)
        for row, names in states.items():
            yield declared, ", ".join(names), *row


def _alerts() -> Iterator[tuple[str, ...]]:
    rows = [(each.name, str(each.severity), each.summary) for each in ALERTS]
    for name, severity, summary in dict.fromkeys(rows):
        yield f"`{name}`", severity, f"`{summary}`"


def _rows(*modules: ModuleType) -> Iterator[tuple[str, str]]:
    for module in modules:
        for sentence in dict.fromkeys(_sentences(module)):
            yield f"`{_short(module)}`", sentence


def _short(module: ModuleType) -> str:
    return module.__name__.removeprefix("wazzup_operator.").replace(".", "/") + ".py"


def _sentences(module: ModuleType) -> Iterator[str]:
    """Yield the sentences in a module, in order."""
    tree = ast.parse(inspect.getsource(module))
    skipped = _not_shown(tree)
    texts = [node for node in ast.walk(tree) if node not in skipped and _text(node)]
    for node in sorted(texts, key=lambda each: getattr(each, "lineno", 0)):
        text = _text(node) or ""
        if _SENTENCE.fullmatch(text):
            yield _escaped(text)


def _not_shown(tree: ast.Module) -> set[ast.AST]:
    """Return docstrings, parts of f-strings, and rule summaries (docs/admission.md has them)."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            skipped.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            skipped |= {each for part in node.values for each in ast.walk(part)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Rule":
            skipped |= set(node.args)
    return skipped


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_part(each) for each in node.values)
    return None


def _part(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.FormattedValue)
    match node.value:
        case ast.Name(name) | ast.Attribute(attr=name):
            return f"{{{name.strip('_').lower().replace('_', ' ')}}}"
    return "…"


def _escaped(text: str) -> str:
    return text.replace("|", "&#124;")


def _validations() -> Iterator[tuple[str, str]]:
    for text in crd.render().values():
        definition: dict[str, Any] = yaml.safe_load(text)
        schema = definition["spec"]["versions"][0]["schema"]
        for rule in _rules(schema):
            yield definition["spec"]["names"]["kind"], _escaped(rule["message"])


def _rules(schema: Any) -> Iterator[dict[str, str]]:
    if isinstance(schema, dict):
        yield from schema.get("x-kubernetes-validations", ())
        for each in schema.values():
            yield from _rules(each)


def _cli_errors(*modules: ModuleType) -> Iterator[tuple[str, str]]:
    failing = {"self.fail", "click.UsageError"}
    for module in modules:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in failing:
                continue
            if text := _text(node.args[0]):
                yield f"`{_short(module)}`", _escaped(text)
