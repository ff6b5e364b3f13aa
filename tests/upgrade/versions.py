"""The two versions: the chart and the programs of each."""

import io
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from dev.processes.operator import BIN

ROOT = Path(__file__).parents[2]
CHART = Path("charts", "wazzup-operator")
CONFIGURATION = Path("templates", "validatingwebhookconfiguration.yaml")


@dataclass(frozen=True)
class Version:
    """One version of the operator."""

    name: str
    chart: Path
    crds: Path
    programs: Path
    """The directory of its executables."""


def current(directory: Path) -> Version:
    """Return the version of this checkout."""
    return Version("new", _chart(ROOT, directory / "new"), ROOT / "crds", BIN)


def earlier(ref: str, directory: Path) -> Version:
    """Return the version of a commit, installed into a virtual environment of its own.

    build/upgrade keeps the environment for the next run.
    """
    commit = _output("git", "rev-parse", "--verify", f"{ref}^{{commit}}").decode().strip()
    home = ROOT / "build" / "upgrade" / commit
    source, programs = home / "source", home / "venv" / "bin"
    print(f"Comparing {ref} (commit {commit[:12]}) with this checkout", flush=True)
    if not (home / "ready").exists():
        shutil.rmtree(home, ignore_errors=True)
        print("Installing it", flush=True)
        with tarfile.open(fileobj=io.BytesIO(_output("git", "archive", commit))) as files:
            files.extractall(source, filter="data")
        _install(source, programs)
        (home / "ready").touch()
    return Version("old", _chart(source, directory / "old"), source / "crds", programs)


def _install(source: Path, programs: Path) -> None:
    _output(sys.executable, "-m", "venv", str(programs.parent))
    pip = (str(programs / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check")
    pinned = (
        f"--requirement={source / 'requirements' / name}.txt" for name in ("runtime", "build")
    )
    _output(*pip, "install", "--require-hashes", *pinned)
    _output(*pip, "install", "--no-deps", "--no-build-isolation", str(source))


def _chart(source: Path, target: Path) -> Path:
    """Copy a chart whose webhooks are called at the Pods' port.

    Without kube-proxy, nothing maps the Service's port to it.
    """
    shutil.copytree(source / CHART, target)
    text = (target / CONFIGURATION).read_text()
    assert text.count("port: 443\n") == 1, "the webhooks' port is written in another way"
    (target / CONFIGURATION).write_text(text.replace("port: 443\n", "port: 9443\n"))
    return target


def _output(*command: str) -> bytes:
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
