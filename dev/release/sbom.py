"""What the operator consists of, in CycloneDX."""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from dev.release.versions import ReleaseError

_PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


def write_sbom(source: Path, files: Path, version: str) -> None:
    """Write the SBOM of the operator and its pinned dependencies into `files`."""
    with tempfile.TemporaryDirectory(prefix="wazzup-sbom-") as directory:
        tool, product = Path(directory) / "tool", Path(directory) / "product"
        venv.create(tool, with_pip=True)
        venv.create(product)
        pinned = ("install", "--no-compile", "--require-hashes", "--requirement")
        pip = (tool / "bin" / "python", *_PIP)
        _run(*pip, *pinned, source / "requirements" / "sbom.txt")
        into = ("--python", product / "bin" / "python")
        _run(*pip, *into, *pinned, source / "requirements" / "runtime.txt")
        _run(
            *(tool / "bin" / "cyclonedx-py", "environment", "--output-reproducible"),
            f"--pyproject={source / 'pyproject.toml'}",
            *("--output-file", files / f"wazzup-operator-{version}-sbom.cdx.json"),
            product / "bin" / "python",
        )


def _run(*command: str | Path) -> None:
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise ReleaseError("The SBOM cannot be written, for the reason above.")
