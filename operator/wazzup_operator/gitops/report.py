"""Problems as text, as JSON or as annotations of GitHub."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

from wazzup_operator.gitops.problem import Problem, Severity


def text(problems: Sequence[Problem]) -> str:
    """Return one line for each problem, as compilers write it."""
    return "".join(
        f"{each.file}:{each.line}: {each.severity}: {each.message} [{each.rule}]\n"
        for each in problems
    )


def as_json(problems: Sequence[Problem]) -> str:
    """Return a JSON object with a list of the problems."""
    rows = [asdict(each) for each in problems]
    return json.dumps({"problems": rows}, indent=2, ensure_ascii=False) + "\n"


def github(problems: Sequence[Problem]) -> str:
    """Return a workflow command for each problem, which GitHub shows at its line."""
    return "".join(
        f"::{each.severity} file={_property(each.file)},line={each.line},"
        f"title={_property(each.rule)}::{_data(each.message)}\n"
        for each in problems
    )


def _data(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _data(value).replace(":", "%3A").replace(",", "%2C")


REPORTS: dict[str, Callable[[Sequence[Problem]], str]] = {
    "text": text,
    "json": as_json,
    "github": github,
}


def summary(problems: Sequence[Problem], objects: int, texts: int) -> str:
    """Return one line that counts."""
    if not objects and not problems:
        return f"No WazzupChannel or WazzupAccount in {_count(texts, 'file')}."
    errors = sum(each.severity is Severity.ERROR for each in problems)
    warnings = len(problems) - errors
    return (
        f"{_count(objects, 'object')} in {_count(texts, 'file')}: {_count(errors, 'error')},"
        f" {_count(warnings, 'warning')}."
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
