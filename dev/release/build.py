"""Writes the files of a release, from the files that Git tracks.

With the same tools, the same commit on the same base gives the same files: every time in them is
the commit's.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dev.controlplane.binaries import helm
from dev.release.archive import normalize
from dev.release.image import build_image
from dev.release.sbom import write_sbom
from dev.release.versions import CHART, MANIFEST, ReleaseError, check, pin, project_version

_BACKEND = "from setuptools import build_meta as b; b.build_sdist('{0}'); b.build_wheel('{0}')"


def build(
    root: Path, into: Path, architectures: Sequence[str], base: str | None, registry: str | None
) -> None:
    """Write a release into a new folder. Raises ReleaseError or StartError.

    With a registry, chart and manifest name the image there.
    """
    _check_needs(into, architectures)
    version = project_version(root)
    check(root, f"v{version}")
    os.umask(0o022)
    os.environ["SOURCE_DATE_EPOCH"] = _git(root, "log", "-1", "--format=%ct")
    with tempfile.TemporaryDirectory(prefix="wazzup-release-") as directory:
        source, files = Path(directory) / "source", Path(directory) / "files"
        _copy_tracked(root, source)
        packager = helm()
        files.mkdir()
        image = files / f"wazzup-operator-{version}-image.tar"
        revision = _git(root, "describe", "--match=", "--always", "--abbrev=40", "--dirty")
        arguments = {"VERSION": version, "REVISION": revision}
        digest = build_image(source, architectures, base, arguments, image)
        if registry:
            pin(source, registry, digest)
        _build_packages(source, files)
        _say("Packaging the chart")
        _run(source, packager, "package", CHART, f"--destination={files}")
        shutil.copy(source / MANIFEST, files)
        shutil.copy(source / "requirements" / "runtime.txt", files / "requirements.txt")
        _say("Writing the SBOM")
        write_sbom(source, files, version)
        _write_checksums(files)
        shutil.move(files, into)
    _say(f"Wrote {into} for {' and '.join(architectures)}")


def _check_needs(into: Path, architectures: Sequence[str]) -> None:
    for program in ("git", "buildah"):
        if not shutil.which(program):
            raise ReleaseError(
                f"{program} is missing. Install it, for example with apt-get install {program}."
            )
    if not architectures:
        raise ReleaseError("ARCH is empty. Name an architecture, as in ARCH=amd64.")
    if into.exists():
        raise ReleaseError(f"{into} exists: remove it first.")


def _copy_tracked(root: Path, source: Path) -> None:
    for name in _git(root, "ls-files", "-z").split("\0"):
        if name:
            if not (root / name).is_file():
                raise ReleaseError(f"{name} is missing. Restore it, or commit its removal.")
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, source / name)


def _build_packages(source: Path, files: Path) -> None:
    _say("Building the wheel and its source")
    _run(source, sys.executable, "-c", _BACKEND.format(files))
    (sdist,) = files.glob("*.tar.gz")
    normalize(sdist)


def _write_checksums(files: Path) -> None:
    lines = []
    for file in sorted(files.iterdir()):
        with file.open("rb") as content:
            lines.append(f"{hashlib.file_digest(content, 'sha256').hexdigest()}  {file.name}\n")
    (files / "SHA256SUMS").write_text("".join(lines))


def _git(root: Path, *words: str) -> str:
    return _run(root, "git", *words).strip()


def _run(directory: Path, *command: str | Path) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"{' '.join(map(str, command[:2]))} failed: {done.stderr.strip()}")
    return done.stdout


def _say(sentence: str) -> None:
    print(sentence, flush=True)
