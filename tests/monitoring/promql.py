"""Checks that the metrics, labels and values in a PromQL expression exist in a scrape.

It follows the labels through the expression: after an aggregation has removed a label, a later `by`
or `on` cannot use it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import promql_parser as ast
from prometheus_client.parser import text_string_to_metric_families

TARGET = frozenset({"job", "instance", "namespace", "pod", "cluster"})
"""Labels that a scrape adds to each series."""

CLOSED = frozenset({"state", "active", "ready", "by", "transport", "controller", "webhook"})
"""Labels whose values are all in the scrapes."""

_SAMPLES_OF_TARGETS = {"up": frozenset(), "scrape_duration_seconds": frozenset()}
_ABSENT = {"absent", "absent_over_time"}
_JOINING = {"and", "or", "unless"}
_VARIABLES = {"__rate_interval": "5m", "__interval": "1m", "__range": "1h"}
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")

Labels = frozenset[str]


class Unknown(Exception):
    """The expression uses something that no scrape has."""


@dataclass
class Catalogue:
    """The labels of each sample in the scrapes, and the values of each label."""

    labels: dict[str, Labels] = field(default_factory=dict)
    values: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def of(cls, scrapes: Iterable[str]) -> "Catalogue":
        """Read scrapes in the text format."""
        catalogue = cls(dict(_SAMPLES_OF_TARGETS))
        for text in scrapes:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    catalogue.add(sample.name, sample.labels)
        return catalogue

    def add(self, name: str, labels: dict[str, str]) -> None:
        """Add a sample."""
        self.labels[name] = self.labels.get(name, frozenset()) | labels.keys()
        for label, value in labels.items():
            self.values[label].add(value)

    def record(self, name: str, labels: Labels) -> None:
        """Add the result of a recording rule."""
        self.labels[name] = labels

    def check(self, expression: str) -> Labels:
        """Return the labels of an expression's result.

        Raises ValueError if it cannot be parsed, Unknown if it uses something that does not exist.
        """
        return _Check(self).labels(ast.parse(expression)) or frozenset()


def substituted(expression: str, variables: Iterable[str] = ()) -> str:
    """Return a dashboard's expression with each of these variables replaced by `.*`."""
    values = {**_VARIABLES, **dict.fromkeys(variables, ".*")}

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in values:
            raise Unknown(f"${name} is no variable of the dashboard")
        return values[name]

    return _VARIABLE.sub(value, expression)


class _Check:
    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def labels(self, node: ast.Expr) -> Labels | None:
        """Return the labels of a vector, or None for a scalar or string."""
        match node:
            case ast.VectorSelector():
                return self._selector(node)
            case ast.MatrixSelector():
                return self._selector(node.vector_selector)
            case ast.SubqueryExpr() | ast.ParenExpr() | ast.UnaryExpr():
                return self.labels(node.expr)
            case ast.AggregateExpr():
                return self._aggregation(node)
            case ast.BinaryExpr():
                return self._operation(node)
            case ast.Call():
                return self._call(node)
        return None

    def _selector(self, node: ast.VectorSelector) -> Labels:
        if node.name is None:
            raise Unknown(f"{node} names no metric")
        known = self._catalogue.labels.get(node.name)
        if known is None:
            raise Unknown(f"no scrape has a metric {node.name}")
        for matcher in node.matchers.matchers:
            self._need([matcher.name], known | TARGET, node.name)
            if matcher.name in CLOSED:
                self._need_values(matcher)
        return known | TARGET

    def _need_values(self, matcher: ast.Matcher) -> None:
        is_pattern = matcher.op in (ast.MatchOp.Re, ast.MatchOp.NotRe)
        for value in matcher.value.split("|") if is_pattern else [matcher.value]:
            plain = re.fullmatch(r"\w+", value)
            if (plain or not is_pattern) and value not in self._catalogue.values[matcher.name]:
                raise Unknown(f'no scrape has {matcher.name}="{value}"')

    def _aggregation(self, node: ast.AggregateExpr) -> Labels:
        inner = self._vector(node.expr)
        kept: Labels = frozenset()
        if node.modifier:
            named = frozenset(node.modifier.labels)
            self._need(named, inner, node)
            by = node.modifier.type == ast.AggModifierType.By
            kept = named if by else inner - named
        if str(node.op) in {"topk", "bottomk"}:
            return inner
        if str(node.op) == "count_values":
            kept |= {node.param.val}
        return kept

    def _operation(self, node: ast.BinaryExpr) -> Labels | None:
        left, right = self.labels(node.lhs), self.labels(node.rhs)
        if left is None or right is None:
            return left if right is None else right
        modifier = node.modifier
        matching = modifier.matching if modifier else None
        if matching and matching.type == ast.LabelModifierType.Include:
            matched = frozenset(matching.labels)
            self._need(matched, left, node)
            self._need(matched, right, node)
        else:
            ignored = frozenset(matching.labels if matching else ())
            self._need(ignored, left | right, node)
            matched = left - ignored
            if matched != right - ignored and str(node.op) != "or":
                both = ", ".join(sorted(matched ^ (right - ignored)))
                raise Unknown(f"only one side of {node} has {both}: they never match")
        if str(node.op) in _JOINING:
            return left | right if str(node.op) == "or" else left
        return self._joined(modifier, left, right, matched)

    def _joined(
        self, modifier: ast.BinModifier | None, left: Labels, right: Labels, matched: Labels
    ) -> Labels:
        card = modifier.card if modifier else ast.VectorMatchCardinality.OneToOne
        if card == ast.VectorMatchCardinality.OneToOne:
            return matched
        many, one = left, right
        if card == ast.VectorMatchCardinality.OneToMany:
            many, one = right, left
        taken = frozenset(modifier.group_labels or ())
        self._need(taken, one, modifier)
        return many | taken

    def _call(self, node: ast.Call) -> Labels | None:
        name = node.func.name
        vectors = [found for each in node.args if (found := self.labels(each)) is not None]
        texts = [each.val for each in node.args if isinstance(each, ast.StringLiteral)]
        if name in _ABSENT:
            return _absent_labels(node.args[0])
        if name in {"vector", "scalar", "time"}:
            return frozenset() if name == "vector" else None
        if not vectors:
            return None
        labels = vectors[0]
        if name == "histogram_quantile":
            self._need(["le"], labels, node)
            return labels - {"le"}
        if name in {"label_replace", "label_join"}:
            new, *sources = texts[0], *(texts[2:3] if name == "label_replace" else texts[2:])
            self._need(sources, labels, node)
            return labels | {new}
        return labels

    def _vector(self, node: ast.Expr) -> Labels:
        found = self.labels(node)
        if found is None:
            raise Unknown(f"{node} is not a vector")
        return found

    def _need(self, names: Iterable[str], known: Labels, where: object) -> None:
        if missing := sorted(set(names) - known - {"__name__"}):
            raise Unknown(f"{where} has no label {', '.join(missing)}")


def _absent_labels(node: ast.Expr) -> Labels:
    """Return the labels of `absent(...)`: those with an equality matcher."""
    while isinstance(node, ast.ParenExpr):
        node = node.expr
    selector = getattr(node, "vector_selector", node)
    if not isinstance(selector, ast.VectorSelector):
        return frozenset()
    equal = (each for each in selector.matchers.matchers if each.op == ast.MatchOp.Equal)
    return frozenset(each.name for each in equal)


_BLOCK = re.compile(r"^( *)```promql\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_MARKED = re.compile(r"PromQL:? `([^`\n]+)`")
_COMMENT = re.compile(r"^[ \t]*#.*\n?", re.MULTILINE)
_NAME = re.compile(
    r"(?<![\w./-])(?:wazzup|controller_runtime|rest_client|workqueue|certwatcher|leader_election)_"
    r"(?:\w+\*|\w+\b)(?![\w/.-]*\.(?:py|json|yaml|md)|/)"
)
_PACKAGES = {"wazzup_operator", "wazzup_simulator"}


def in_document(text: str) -> Iterator[str]:
    """Yield a document's expressions.

    They are in ```promql blocks, separated by empty lines, and in backquotes after "PromQL".
    """
    for _, block in _BLOCK.findall(text):
        for each in re.split(r"\n\s*\n", _COMMENT.sub("", block)):
            if each.strip():
                yield each.strip()
    yield from _MARKED.findall(text)


def named_in(path: Path) -> set[str]:
    """Return the operator's metrics named in a document; a trailing `*` is a wildcard."""
    return set(_NAME.findall(path.read_text())) - _PACKAGES
