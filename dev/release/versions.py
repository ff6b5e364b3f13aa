"""The versions in the files, and the image that chart and manifest name."""

import re
import tomllib
from pathlib import Path

CHART = Path("charts/wazzup-operator")
MANIFEST = Path("deploy/install.yaml")


class ReleaseError(Exception):
    """The release cannot be made; the message is a sentence for a person."""


def project_version(root: Path) -> str:
    """Return the version in pyproject.toml."""
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    return str(version)


def check(root: Path, tag: str) -> str:
    """Return the release notes. Raises ReleaseError if the tag differs from a version in a file."""
    version = tag.removeprefix("v")
    for place, found in _versions(root).items():
        if found != version:
            raise ReleaseError(f"The tag is {tag}, but the version in {place} is {found}.")
    notes = re.search(
        rf"^## \[{re.escape(version)}\].*?\n(.*?)(?=^## |\Z)",
        (root / "CHANGELOG.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    if not notes:
        raise ReleaseError(f"CHANGELOG.md has no section [{version}]: add one.")
    return notes[1].strip() + "\n"


def pin(root: Path, registry: str, digest: str) -> None:
    """Set the pushed image, so that chart and manifest work without changes.

    The manifest gets its digest. The chart does not: with a default digest, setting only image.tag
    would have no effect.
    """
    values = root / CHART / "values.yaml"
    _replace(values, r"^(  repository: )(wazzup-operator)$", rf"\g<1>{registry}/\g<2>")
    _replace(
        root / MANIFEST,
        r'(\bimage: )"(wazzup-operator:[^@"]+)"$',
        rf'\g<1>"{registry}/\g<2>@{digest}"',
    )


def _versions(root: Path) -> dict[str, str | None]:
    return {
        "pyproject.toml": project_version(root),
        "Chart.yaml (version)": _found(r"^version: (.+)$", root / CHART / "Chart.yaml"),
        "Chart.yaml (appVersion)": _found(r"^appVersion: (.+)$", root / CHART / "Chart.yaml"),
        "deploy/install.yaml": _found(r'\bimage: "wazzup-operator:(.+)"$', root / MANIFEST),
    }


def _found(pattern: str, file: Path) -> str | None:
    found = re.search(pattern, file.read_text(), re.MULTILINE)
    return found and found[1].strip("\"'")


def _replace(file: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, file.read_text(), flags=re.MULTILINE)
    if not count:
        raise ReleaseError(f"{file} has no line like {pattern}.")
    file.write_text(text)
