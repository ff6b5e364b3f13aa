"""A release built from the checkout, and the image built without a network from a wheelhouse."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dev.controlplane.plane import ControlPlane
from tests.integration.harness.crds import install
from tests.release.container import EMPTY, REGISTRY, ROOT, Container, Image, Start, unpack

SOURCES = ("requirements", "operator", "pyproject.toml", "README.md", "LICENSE")
PACKAGES = ("base-files", "python3", "python3-venv", "python3-pip", "ca-certificates")
LEFT_OUT = ("doc", "man", "locale")
"""Folders of /usr/share that slim images leave out."""
BASES = {"amd64": ("--variant=minbase",), "arm64": ("--variant=extract", "--arch=arm64")}
"""For amd64 the packages are installed; for arm64 they are only unpacked, without emulation."""
PROGRAMS = {
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "qemu-aarch64-static": "qemu-user-static",
}
"""Programs and their packages."""


@pytest.fixture(scope="session")
def machine() -> None:
    """Skip on other machines and without the needed programs and root; fail in CI."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    sentences = []
    if platform.machine() != "x86_64":
        sentences.append("the image is entered and measured on amd64 only")
    if missing:
        packages = " ".join(PROGRAMS[each] for each in missing)
        install = f"apt-get install --no-install-recommends {packages}"
        sentences.append(f"{' and '.join(missing)} not found: {install}")
    if os.geteuid() != 0:
        sentences.append("building and entering an image needs root: sudo make release-test")
    if not sentences:
        return
    if os.environ.get("CI") == "true":
        pytest.fail("; ".join(sentences))
    pytest.skip("; ".join(sentences))


class Builder:
    """buildah with its own storage."""

    def __init__(self, directory: Path) -> None:
        configuration = directory / "storage.conf"
        configuration.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{directory / "storage"}"\n'
            f'runroot = "{directory / "run"}"\n'
        )
        self.environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(configuration)}

    def __call__(self, *words: str | Path, alone: bool = False) -> str:
        """Run buildah, with `alone` without a network; return its output."""
        command: Sequence[str | Path] = [
            *(("unshare", "--net") if alone else ()),
            *("buildah", *words),
        ]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def build(self, context: Path, tag: str, *words: str | Path, alone: bool = False) -> Image:
        """Build the Dockerfile in a folder."""
        # A chroot works on every machine; it has the network of buildah itself.
        self(
            *("build", "--isolation=chroot", "--network=host", "--pull-never", "--no-cache"),
            *(f"--tag=localhost/{tag}", "--build-arg=BASE=localhost/base", *words, context),
            alone=alone,
        )
        config = json.loads(self("inspect", "--type=image", f"localhost/{tag}"))["OCIv1"]["config"]
        return Image(Path(self("mount", self("from", "--pull-never", f"localhost/{tag}"))), config)


@pytest.fixture(scope="session")
def builder(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """Buildah with base images: Debian with Python, like the Dockerfile's default."""
    directory = tmp_path_factory.mktemp("builder")
    builder = Builder(directory)
    tar = directory / "base.tar"
    try:
        excluded = [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in LEFT_OUT]
        include = f"--include={','.join(PACKAGES)}"
        for architecture, flags in BASES.items():
            words = ["mmdebstrap", "--quiet", *flags, include, *excluded, "trixie", tar]
            done = subprocess.run(words, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            base = builder("from", "scratch")
            builder("add", "--quiet", base, tar, "/")
            builder("config", f"--arch={architecture}", base)
            builder("commit", "--quiet", "--rm", "--manifest=localhost/base", base)
            tar.unlink()
        base = builder("from", "scratch")
        builder("config", f"--arch={EMPTY}", base)
        builder("commit", "--quiet", "--rm", "--manifest=localhost/base", base)
        yield builder
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def dist(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a release."""
    directory = tmp_path_factory.mktemp("release") / "dist"
    command = ["make", "release", f"DIST={directory}", "BASE=localhost/base"]
    command.append(f"REGISTRY={REGISTRY}")
    done = subprocess.run(
        command, cwd=ROOT, env=builder.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


@pytest.fixture(scope="session")
def image(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The released image for amd64, which this machine can run."""
    (archive,) = dist.glob("*-image.tar")
    return unpack(archive, "amd64", tmp_path_factory.mktemp("image") / "amd64")


@pytest.fixture(scope="session")
def arm64_image(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The released image for arm64."""
    (archive,) = dist.glob("*-image.tar")
    return unpack(archive, "arm64", tmp_path_factory.mktemp("image") / "arm64")


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels for an offline build."""
    directory = tmp_path_factory.mktemp("wheels") / "wheelhouse"
    subprocess.run(["make", "wheelhouse", f"WHEELHOUSE={directory}"], cwd=ROOT, check=True)
    return directory


@pytest.fixture(scope="session")
def offline_image(
    builder: Builder, wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory
) -> Image:
    """The image, built without a network from a copy of the sources and a wheelhouse."""
    context = tmp_path_factory.mktemp("context")
    for name in SOURCES:
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, context / name, copy_function=shutil.copy, ignore=ignore)
        else:
            shutil.copy(ROOT / name, context)
    for name in ("Dockerfile", ".dockerignore"):
        shutil.copy(ROOT / name, context)
    shutil.copytree(wheelhouse, context / "wheelhouse")
    argument = "--build-arg=WHEELHOUSE=wheelhouse"
    return builder.build(context, "offline", argument, alone=True)


@pytest.fixture(scope="session")
def plane(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("plane")) as plane:
        install(plane)
        yield plane


@pytest.fixture
def start(image: Image, tmp_path: Path) -> Iterator[Start]:
    """Start a container whose /run is this folder of `tmp_path`."""
    started: list[Container] = []

    def start(name: str, *arguments: str, **options: object) -> Container:
        container = Container(image, tmp_path / name, *arguments, **options)
        started.append(container)
        return container.start()

    yield start
    for container in started:
        container.kill()
