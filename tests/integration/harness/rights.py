"""The permissions that both processes use, from the API server's audit log.

rights.yaml is the expectation. Every run of tests fails if a process asks for anything else;
`make drills` also fails if a process no longer uses a permission.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.integration.harness.api import JSON

ROOT = Path(__file__).parents[3]
EXPECTED = Path(__file__).with_name("rights.yaml")
MEASURED = ROOT / "build" / "rights.yaml"
HEAD = """\
# Permissions that each process uses, from the audit log of the drills and of the chart's tests.
# `make drills` writes build/rights.yaml and fails if it differs from this file. The chart grants
# exactly these (tests/chart), and tests fail if a process asks for anything else (rights.py).
#
# watched: the watched namespaces, or all. own: the operator's namespace. cluster: outside of
# namespaces. In `own` and `cluster`, permissions are limited to one object by name, except create,
# which cannot be.
#
# Discovery (/api, /apis and below) is not listed: the ClusterRole system:discovery grants it to
# every authenticated user.
"""
KEEPER = "certificate-keeper"
"""The user of the keeper's tests, which run that part of the controller alone."""

DISCOVERY = re.compile(r"/(api|apis)(/|$)")


class Right(NamedTuple):
    """A verb on a resource, such as leases.coordination.k8s.io, as in rights.yaml."""

    process: str
    scope: str
    resource: str
    verb: str


class Recorder:
    """Collects the permissions used, and compares them with the expectation.

    With `output`, the comparison waits for `finish`, which writes what was used to that file.
    """

    def __init__(self, expected: Path = EXPECTED, *, output: Path | None = None) -> None:
        self._expected, self._output = expected, output
        self._asked: set[Right] = set()

    def look(self, audit_log: Path) -> None:
        """Add the permissions in an audit log."""
        found = asked(audit_log)
        self._asked |= found
        if not self._output:
            others = [" ".join(right) for right in sorted(found - listed(self._expected))]
            assert not others, (
                f"used, but not in {self._expected.name}: {', '.join(others)}. If it is needed,"
                " grant it in the chart and run make drills."
            )

    def finish(self) -> str | None:
        """Write the permissions used to `output`; return a sentence if they are not as expected."""
        if not self._output:
            return None
        self._output.parent.mkdir(exist_ok=True)
        self._output.write_text(HEAD + _dump(self._asked))
        if self._asked == listed(self._expected):
            return None
        return f"{self._output} differs from {self._expected}. Review the difference and copy it."


def listed(file: Path = EXPECTED) -> set[Right]:
    """Return the permissions in a file."""
    return {
        Right(process, scope, resource, verb)
        for process, scopes in yaml.safe_load(file.read_text()).items()
        for scope, resources in scopes.items()
        for resource, verbs in resources.items()
        for verb in verbs
    }


def asked(audit_log: Path) -> set[Right]:
    """Return what the processes asked for, granted or not."""
    return {right for entry in _entries(audit_log) for right in _right(entry)}


def _entries(audit_log: Path) -> Iterator[JSON]:
    with audit_log.open() as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:  # truncated when the API server was killed
                continue


def _right(entry: JSON) -> Iterator[Right]:
    user = entry["user"].get("username", "")  # none if its credentials were refused
    account = re.fullmatch("system:serviceaccount:(.+):.+-(controller|webhook)", user)
    process = account[2] if account else "controller" if user == KEEPER else None
    # Tests that act as a process send no User-Agent.
    if not process or not entry.get("userAgent"):
        return
    about = entry.get("objectRef", {})
    if "resource" not in about:
        assert DISCOVERY.match(entry["requestURI"]), f"not open to everybody: {entry['requestURI']}"
        return
    namespace = about.get("namespace")
    own = not account or namespace == account[1]
    if about.get("apiGroup") == "wazzup.dev":  # in whichever namespace
        scope = "watched"
    elif namespace:
        scope = "own" if own else "watched"
    else:
        scope = "cluster"
    resource = ".".join(filter(None, (about["resource"], about.get("apiGroup"))))
    resource = "/".join(filter(None, (resource, about.get("subresource"))))
    yield Right(process, scope, resource, entry["verb"])


def _dump(rights: Iterable[Right]) -> str:
    tree: dict[str, dict[str, dict[str, list[str]]]] = {}
    for process, scope, resource, verb in sorted(rights):
        scopes = tree.setdefault(process, {})
        scopes.setdefault(scope, {}).setdefault(resource, []).append(verb)
    return yaml.safe_dump(tree, default_flow_style=None, width=100)


RECORDER = Recorder(output=MEASURED if os.environ.get("WRITE_RIGHTS") else None)
"""The recorder of this session."""
