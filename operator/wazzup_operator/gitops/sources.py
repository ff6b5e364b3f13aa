"""Texts of files, folders and standard input, and what they declare."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wazzup_operator.gitops.manifests import Manifest, NotYaml, read
from wazzup_operator.gitops.problem import Problem, Severity

STANDARD_INPUT = "-"

SUFFIXES = (".yaml", ".yml", ".json")
_OURS = re.compile(rb"wazzup", re.IGNORECASE)
"""In every text with one of the kinds. Others, such as Helm templates, need not be YAML."""


@dataclass(slots=True)
class Declarations:
    """The operator's objects in some texts, and why other texts cannot be read."""

    texts: int = 0
    manifests: list[Manifest] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add_all(self, texts: Iterable[tuple[str, bytes]]) -> None:
        """Add the objects of texts with these names."""
        for file, content in texts:
            self.add(file, content)

    def add(self, file: str, content: bytes) -> None:
        """Add the objects of one text."""
        self.texts += 1
        if not _OURS.search(content):
            return
        try:
            self.manifests += (
                each for each in read(file, content.decode("utf-8-sig")) if each.ours
            )
        except UnicodeDecodeError:
            self._unread(file, 1, "The file is not UTF-8 text. Save it as UTF-8.")
        except NotYaml as error:
            if "{{" in content.decode():
                message = (
                    "The file is a template and was not checked. Check what it renders: helm"
                    " template … | wazzup-operator check -"
                )
                self._unread(file, error.line, message, Severity.WARNING)
            else:
                self._unread(file, error.line, f"The file is not YAML: {error}.")

    def _unread(
        self, file: str, line: int, message: str, severity: Severity = Severity.ERROR
    ) -> None:
        self.problems.append(Problem(file, line, message, "yaml", severity))


def texts(paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each file, once; folders in the order of their names."""
    seen: set[Path] = set()
    for path in paths:
        if path == STANDARD_INPUT:
            yield "stdin", sys.stdin.buffer.read()
        else:
            for file in files(Path(path)):
                if file not in seen:
                    seen.add(file)
                    yield str(file), file.read_bytes()


def files(path: Path) -> Iterator[Path]:
    """Yield a file, or the YAML and JSON files in a folder, without hidden ones."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for name in sorted(names):
            if name.endswith(SUFFIXES) and not name.startswith("."):
                yield Path(folder) / name
