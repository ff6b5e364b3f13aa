"""Runs mutmut in build/mutate, where the packages are in src/, as it expects."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WORKSPACE = ROOT / "build" / "mutate"
LOG = WORKSPACE / "mutmut.log"

_MUTMUT = Path(sys.executable).with_name("mutmut")

_PACKAGE = "wazzup_operator"

_MUTATED = ("domain/*", "reconcile/*", "certificates/*", "gitops/*", "admission/rules.py")
_TESTS = (
    *("account_loop", "certificates", "gitops", "test_claims.py", "test_handlers.py"),
    *("test_hangs.py", "test_many_objects.py", "test_match.py", "test_move.py", "test_plan.py"),
    *("test_progress.py", "test_properties.py", "test_reviews.py", "test_rules.py"),
    *("test_states.py", "test_transitions.py", "test_trust.py", "test_wire.py", "test_words.py"),
)
"""Those of tests/unit that test the mutated code itself, without the histories, which take long."""

_SLOW = 0.15
"""Seconds. A slower test runs only for mutants that all others let pass."""

_AT_FIRST = 200
"""Tests of a mutant at first: those that run the fewest functions."""

_KILLED = {1, 3, 24, -24, 36, 152, 255}
"""Exit codes of a run of tests that failed or took far too long."""


def prepare() -> None:
    """Copy the checkout, generate all mutants, and learn which tests run which function."""
    shutil.rmtree(WORKSPACE, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        target = WORKSPACE / re.sub("^operator/", "src/", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, target)
    with (WORKSPACE / "pyproject.toml").open("a") as file:
        file.write(_settings())
    # To generate mutants, mutmut has to run some: those of a small module.
    _run(f"{_PACKAGE}.domain.phone.*")


def _settings() -> str:
    settings = {
        "source_paths": ["src"],
        "only_mutate": [f"src/{_PACKAGE}/{each}" for each in _MUTATED],
        "also_copy": sorted(
            each.name for each in WORKSPACE.iterdir() if each.name not in {"src", "tests"}
        ),
        "timeout_multiplier": 3.0,
        "timeout_constant": 5.0,
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "--hypothesis-seed=0"],
        "pytest_add_cli_args_test_selection": [f"tests/unit/{each}" for each in _TESTS],
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join(["", "[tool.mutmut]", *lines, ""])


def mutants() -> list[str]:
    """Return the names of all mutants, sorted."""
    return sorted(_results())


def survivors(names: list[str]) -> list[str]:
    """Return those of the mutants that no test notices."""
    path = WORKSPACE / "mutants" / "mutmut-stats.json"
    every = path.read_text()
    path.write_text(json.dumps(_narrowed(json.loads(every))))
    _run(*names)
    left = _not_killed(names)
    path.write_text(every)
    if left:
        _run(*left)
    return _not_killed(left)


def change(name: str) -> str:
    """Return what a mutant changes, in one line: the function, the old and the new code."""
    shown = subprocess.run(
        [_MUTMUT, "show", name], cwd=WORKSPACE, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    old, new = (
        " ".join(
            line[1:].strip() for line in shown if re.match(rf"\{sign}(?!\{sign}\{sign})", line)
        )
        for sign in "-+"
    )
    return f"{_function(name)}: {old} => {new}"


def _function(name: str) -> str:
    """Turn wazzup_operator.a.b.xǁCǁf__mutmut_1 into a.b.C.f."""
    module, _, mangled = name.removeprefix(f"{_PACKAGE}.").rpartition(".")
    function = mangled.rpartition("__mutmut_")[0].removeprefix("x")
    return f"{module}.{function.removeprefix('_').replace('ǁ', '.').lstrip('.')}"


def _run(*names: str) -> None:
    with LOG.open("a") as log:
        done = subprocess.run(
            ["nice", _MUTMUT, "run", "--max-children", "1", *names],
            cwd=WORKSPACE,
            check=False,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        sys.exit(f"mutmut failed; see {LOG}")


def _narrowed(stats: dict[str, Any]) -> dict[str, Any]:
    """Leave only quick tests in the statistics, and of each function only the most specific."""
    seconds = stats["duration_by_test"]
    by_function = stats["tests_by_mangled_function_name"]
    runs = Counter(chain.from_iterable(by_function.values()))
    narrowed = {}
    for function, tests in by_function.items():
        quick = [each for each in tests if seconds[each] < _SLOW] or tests
        narrowed[function] = sorted(quick, key=lambda each: (runs[each], each))[:_AT_FIRST]
    return {**stats, "tests_by_mangled_function_name": narrowed}


def _results() -> dict[str, int | None]:
    """Return the exit code of the tests by mutant."""
    found: dict[str, int | None] = {}
    for path in (WORKSPACE / "mutants").rglob("*.meta"):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    return found


def _not_killed(names: list[str]) -> list[str]:
    results = _results()
    return [name for name in names if results[name] not in _KILLED]
