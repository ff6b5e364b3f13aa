"""What the two processes ask the API server for, by its audit log, and the list of it.

The list is docs/rights.yaml. `make drills` writes it anew, from everything that the processes asked
for meanwhile; every other run of tests fails when they ask for what is not on it.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.integration.harness.api import JSON

LIST = Path(__file__).parents[3] / "docs" / "rights.yaml"
HEAD = """\
# What each process asks the API server for, from the audit log of the drills and of the chart's own
# run: `make drills` writes this anew. The chart grants this, no more and no less (tests/chart), and
# tests fail in which a process asks for anything else (tests/integration/harness/rights.py).
#
# watched: in the namespaces that are watched, or in all. own: in the namespace of the operator, and
# cluster: outside of namespaces; there it is one object of each resource, by its name. Only create
# cannot be bound to a name.
#
# What is no resource is not listed: Kubernetes lets everybody who has signed in discover the kinds
# (/api, /apis and below; the ClusterRole system:discovery), and nothing else is asked for.
"""
KEEPER = "certificate-keeper"
"""A part of the controller as a user of its own, with a namespace for each test."""

DISCOVERY = re.compile(r"/(api|apis)(/|$)")


class Right(NamedTuple):
    """A verb on a resource, such as leases.coordination.k8s.io, in the list's words."""

    process: str
    scope: str
    resource: str
    verb: str


class Recorder:
    """Takes what was asked for: compared with the list at once, or to write the list in the end."""

    def __init__(self, file: Path = LIST, *, writes: bool) -> None:
        self._file, self._writes = file, writes
        self._asked: set[Right] = set()

    def look(self, audit_log: Path) -> None:
        """Take what is in an audit log."""
        found = asked(audit_log)
        self._asked |= found
        if not self._writes:
            others = [" ".join(right) for right in sorted(found - listed(self._file))]
            assert not others, (
                f"asked for and not on the list, docs/rights.yaml: {', '.join(others)}. If it is "
                "needed, grant it in the chart, and let make drills write the list."
            )

    def write(self) -> str | None:
        """Write the list, if it is to be written; return what to say where it was another."""
        if not self._writes or self._asked == listed(self._file):
            return None
        self._file.write_text(HEAD + _dump(self._asked))
        return "docs/rights.yaml was written anew: look at the difference and commit it."


def listed(file: Path = LIST) -> set[Right]:
    """Return what is on the list."""
    return {
        Right(process, scope, resource, verb)
        for process, scopes in yaml.safe_load(file.read_text()).items()
        for scope, resources in scopes.items()
        for resource, verbs in resources.items()
        for verb in verbs
    }


def asked(audit_log: Path) -> set[Right]:
    """Return what the processes asked for, whether it was granted or not."""
    return {right for entry in _entries(audit_log) for right in _right(entry)}


def _entries(audit_log: Path) -> Iterator[JSON]:
    with audit_log.open() as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:  # cut off where the API server was killed
                continue


def _right(entry: JSON) -> Iterator[Right]:
    user = entry["user"]["username"]
    account = re.fullmatch("system:serviceaccount:(.+):.+-(controller|webhook)", user)
    process = account[2] if account else "controller" if user == KEEPER else None
    # The tests' own requests in a process's name are without a User-Agent.
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


RECORDER = Recorder(writes=bool(os.environ.get("WRITE_RIGHTS")))
"""Of this session."""
