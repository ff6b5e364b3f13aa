"""Reads files as they were at a commit."""

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from wazzup_operator.gitops.sources import SUFFIXES


class NoBase(Exception):
    """Git cannot give the base; the message says why."""


def texts_at(reference: str, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of the files at these paths, as they were. Raises NoBase."""
    for path in map(Path, paths):
        folder, name = (path, ".") if path.is_dir() else (path.parent, path.name)
        git = _Git(folder)
        blobs = dict(git.blobs(git.commit(reference), name))
        yield from zip(blobs.values(), git.contents(blobs), strict=True)


class _Git:
    """Runs git in a folder."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("git")
        if program is None:
            raise NoBase("git is not installed.")
        self._command = [program, "-C", str(folder)]
        self.run("rev-parse", "--git-dir")

    def commit(self, reference: str) -> str:
        """Return the id of a commit."""
        try:
            wanted = f"{reference}^{{commit}}"
            return self.run("rev-parse", "--verify", "--end-of-options", wanted).decode().strip()
        except NoBase as error:
            raise NoBase(
                f'This repository has no commit "{reference}". Fetch it, or give another one.'
            ) from error

    def blobs(self, commit: str, path: str) -> Iterator[tuple[bytes, str]]:
        """Yield the id and the name of each YAML and JSON file at this path."""
        for line in self.run("ls-tree", "-r", "-z", commit, "--", path).split(b"\0"):
            head, _, name = line.partition(b"\t")
            if name.decode(errors="replace").endswith(SUFFIXES):
                yield head.split()[2], name.decode(errors="replace")

    def contents(self, blobs: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the content of each blob."""
        rest = self.run("cat-file", "--batch", given=b"".join(blob + b"\n" for blob in blobs))
        while rest:
            head, _, rest = rest.partition(b"\n")
            size = int(head.split()[2])
            yield rest[:size]
            rest = rest[size + 1 :]

    def run(self, *words: str, given: bytes = b"") -> bytes:
        """Return what git prints. Raises NoBase."""
        done = subprocess.run(  # noqa: S603 - no shell
            [*self._command, *words], input=given, capture_output=True, check=False
        )
        if done.returncode:
            lines = done.stderr.decode(errors="replace").splitlines() or ["git failed."]
            raise NoBase(lines[0])
        return done.stdout
