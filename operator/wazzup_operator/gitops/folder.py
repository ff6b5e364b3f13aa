"""The folder that an export is written to."""

from dataclasses import dataclass
from pathlib import Path

from wazzup_operator.gitops.edit import CannotEdit, add_resources
from wazzup_operator.gitops.export import Export, File, comments
from wazzup_operator.gitops.manifests import NotYaml, read
from wazzup_operator.gitops.problem import Severity
from wazzup_operator.gitops.sources import Declarations, files

LEFT_OUT = "not-exported.yaml"
"""Replaced by each export. Only comments, so that applying it does nothing."""

_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_KUSTOMIZATION = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
"""
_BOM = b"\xef\xbb\xbf"


class Unusable(Exception):
    """The folder holds something that an export cannot work with; the message says what."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder, perhaps not there yet."""

    root: Path

    def read(self) -> list[File]:
        """Return the files with the operator's objects. Raises Unusable."""
        found = []
        for path in self._paths():
            content = path.read_bytes()
            there = Declarations()
            there.add(str(path), content)
            for problem in there.problems:
                if problem.severity is Severity.ERROR:
                    raise Unusable(f"{path}: {problem.message}")
            if there.manifests:
                name = str(path.relative_to(self.root))
                file = File.of(name, content.decode("utf-8-sig"))
                if sum(each is not None for each in file.objects) != len(there.manifests):
                    raise Unusable(f"{path} has errors. Run: wazzup-operator check {path}")
                found.append(file)
        return found

    def write(self, done: Export) -> None:
        """Write what is new and changed. Raises Unusable."""
        for name in done.new:
            if (self.root / name).exists():
                raise Unusable(f"{self.root / name} exists already. Move it or remove it.")
        empty = not self._paths()
        self.root.mkdir(parents=True, exist_ok=True)
        for name, text in {**done.new, **done.changed}.items():
            self._put(name, text)
        self._kustomize(done, empty=empty)
        left_out = comments(done)
        if left_out or (self.root / LEFT_OUT).exists():
            self._put(LEFT_OUT, left_out or "# Everything in the Wazzup account is exported.\n")

    def _paths(self) -> list[Path]:
        if not self.root.exists():
            return []
        return [each for each in files(self.root) if each != self.root / LEFT_OUT]

    def _put(self, name: str, text: str) -> None:
        path = self.root / name
        marked = path.exists() and path.read_bytes().startswith(_BOM)
        path.write_bytes(_BOM * marked + text.encode())

    def _kustomize(self, done: Export, *, empty: bool) -> None:
        """Add new files to the kustomization; start one only in an empty folder.

        Elsewhere, one that names only these files would make a tool delete the others' objects.
        """
        names = sorted(done.new)
        present = next((each for each in _KUSTOMIZATIONS if (self.root / each).exists()), None)
        if present is None and empty:
            self._put(_KUSTOMIZATIONS[0], _KUSTOMIZATION + "".join(f"- {each}\n" for each in names))
        if present is None:
            return
        try:
            text = (self.root / present).read_bytes().decode("utf-8-sig")
            names = [each for each in names if each not in _resources(text)]
            if names:
                self._put(present, add_resources(text, names))
        except (CannotEdit, NotYaml, UnicodeDecodeError):
            done.failures.append(f"{present}: Add to resources by hand: {', '.join(names)}")


def _resources(text: str) -> list[str]:
    return [name for each in read("", text) for name in each.body.get("resources") or []]
