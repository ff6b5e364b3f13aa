"""Versions, what a build needs, the images that it names, and archives with the same bytes."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from dev.release.archive import normalize
from dev.release.image import base_flags
from dev.release.versions import CHART, MANIFEST, ReleaseError, check, pin

ROOT = Path(__file__).parents[2]
DIGEST = "sha256:" + 64 * "a"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files, with the changelog of a release of version 9.8.7."""
    for file in ("pyproject.toml", CHART / "Chart.yaml", CHART / "values.yaml", MANIFEST):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    version = yaml.safe_load((ROOT / CHART / "Chart.yaml").read_text())["version"]
    for file in ("pyproject.toml", CHART / "Chart.yaml", MANIFEST):
        write(tmp_path / file, version, "9.8.7")
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n## [9.8.7] - 2031-02-03\n\n### Added\n\n- It.\n\n"
        "## [9.8.6] - 2031-01-03\n\n- Older.\n"
    )
    return tmp_path


def write(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_tag_that_fits_gives_its_notes(checkout: Path) -> None:
    assert check(checkout, "v9.8.7") == "### Added\n\n- It.\n"


@pytest.mark.parametrize(
    ("file", "old", "place"),
    [
        ("pyproject.toml", 'version = "9.8.7"', "pyproject.toml"),
        (CHART / "Chart.yaml", "\nversion: 9.8.7", r"Chart.yaml \(version\)"),
        (CHART / "Chart.yaml", "appVersion: 9.8.7", r"Chart.yaml \(appVersion\)"),
        (MANIFEST, "wazzup-operator:9.8.7", "deploy/install.yaml"),
        ("CHANGELOG.md", "[9.8.7]", r"CHANGELOG.md has no section \[9.8.7\]"),
    ],
)
def test_each_place_with_another_version_is_named(
    checkout: Path, file: str | Path, old: str, place: str
) -> None:
    write(checkout / file, old, old.replace("9.8.7", "9.8.8"))
    with pytest.raises(ReleaseError, match=place):
        check(checkout, "v9.8.7")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with git and a program named buildah."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "git").symlink_to(str(shutil.which("git")))
    (folder / "buildah").symlink_to("/bin/false")
    return folder


def build(checkout: Path, programs: Path, *words: str) -> str:
    """Try to build a release; return the error."""
    command = [sys.executable, "-m", "dev.release", "build", "--into=new", *words]
    environment = {"PATH": str(programs), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("program", ["git", "buildah"])
def test_a_missing_program_is_named(checkout: Path, programs: Path, program: str) -> None:
    (programs / program).unlink()
    assert build(checkout, programs) == (
        f"release: {program} is missing. Install it, for example with apt-get install {program}."
    )


def test_no_architecture_is_an_error(checkout: Path, programs: Path) -> None:
    assert build(checkout, programs, "--arch=") == (
        "release: ARCH is empty. Name an architecture, as in ARCH=amd64."
    )


def test_a_missing_tracked_file_is_named(checkout: Path, programs: Path) -> None:
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com"]
    for words in (["init"], ["add", "CHANGELOG.md", "deploy"], ["commit", "--message=x"]):
        subprocess.run([*git, *words], cwd=checkout, check=True, capture_output=True)
    (checkout / "gone").touch()
    subprocess.run([*git, "add", "gone"], cwd=checkout, check=True)
    (checkout / "gone").unlink()
    assert build(checkout, programs) == (
        "release: gone is missing. Restore it, or commit its removal."
    )


@pytest.mark.parametrize(
    ("base", "argument"),
    [
        ("registry.test:5000/python:3.13-slim", "registry.test:5000/python"),
        ("registry.test:5000/python", "registry.test:5000/python"),
    ],
)
def test_labels_hold_the_name_and_the_digest_of_the_base(base: str, argument: str) -> None:
    label = "--label=org.opencontainers.image.base"
    assert base_flags(None) == []
    assert base_flags(base) == [f"--build-arg=BASE={base}"]
    assert base_flags(f"{base}@{DIGEST}") == [
        f"--build-arg=BASE={argument}@{DIGEST}",
        f"{label}.name={base}",
        f"{label}.digest={DIGEST}",
    ]


def platforms(file: str) -> list[str]:
    return re.findall(r"platform[= ]\"?(manylinux_2_\d+)_", (ROOT / file).read_text())


def test_the_wheelhouse_is_for_the_platforms_of_the_image() -> None:
    assert len(platforms("Dockerfile")) == 3
    assert platforms("Makefile") == platforms("Dockerfile")


def test_chart_and_manifest_name_the_pushed_image(checkout: Path) -> None:
    pin(checkout, "registry.test/team", DIGEST)
    image = yaml.safe_load((checkout / CHART / "values.yaml").read_text())["image"]
    assert image["repository"] == "registry.test/team/wazzup-operator"
    assert image["digest"] == "", "setting only image.tag would have no effect"
    images = {
        container["image"]
        for body in yaml.safe_load_all((checkout / MANIFEST).read_text())
        if body["kind"] == "Deployment"
        for container in body["spec"]["template"]["spec"]["containers"]
    }
    assert images == {f"registry.test/team/wazzup-operator:9.8.7@{DIGEST}"}


def test_what_cannot_be_pinned_is_an_error(checkout: Path) -> None:
    pin(checkout, "registry.test/team", DIGEST)
    with pytest.raises(ReleaseError, match=r"values\.yaml has no line like"):
        pin(checkout, "registry.test/team", DIGEST)


@pytest.mark.parametrize("name", ["it.tar", "it.tar.gz"])
def test_archives_of_the_same_files_are_equal(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    archives = []
    for time, names in ((1, ("a", "b")), (1_600_000_000, ("b", "a"))):
        directory = tmp_path / str(time)
        directory.mkdir()
        for each in names:
            (directory / each).write_text(f"content of {each}")
            os.utime(directory / each, (time, time))
        archives.append(directory / name)
        with tarfile.open(archives[-1], "w:gz" if name.endswith("gz") else "w") as archive:
            for each in names:
                archive.add(directory / each, each)
        normalize(archives[-1])
    first, second = (each.read_bytes() for each in archives)
    assert first == second
    with tarfile.open(archives[0]) as archive:
        assert archive.getnames() == ["a", "b"]
        assert {member.mtime for member in archive.getmembers()} == {1_700_000_000}
        content = archive.extractfile("b")
        assert content
        assert content.read() == b"content of b"
