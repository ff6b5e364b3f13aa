"""Contents and size of the image."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.release.container import ROOT, Container, Image

pytestmark = pytest.mark.timeout(1200)  # the first test waits for the release
MB = 1_000_000
PRODUCT = "opt/wazzup-operator"
MOST = {PRODUCT: 65.5 * MB, ".": 195.5 * MB}
"""Maximum sizes: 10 % above those measured on amd64."""

COMPILERS = {"cc", "gcc", "g++", "c++", "clang", "ld", "as", "make", "cargo", "rustc", "go"}
INSTALLERS = ("pip", "setuptools", "wheel", "ensurepip", "pkg_resources")
ELF_AARCH64 = 183
UNCHECKED_HASH = b"\x01\0\0\0"
"""Flags of bytecode that is not compared with its source."""

LOOK_AROUND = """
import errno, os
lines = dict(line.rstrip().split(":", 1) for line in open("/proc/self/status"))
print(os.getpid(), os.getuid(), os.getgid(), os.getgroups())
print(*(lines[each].strip() for each in ("CapPrm", "CapEff", "NoNewPrivs")))
for folder in ("/", "/tmp", "/run", "/opt/wazzup-operator"):
    try:
        open(f"{folder}/x", "w")
    except OSError as error:
        print(folder, errno.errorcode[error.errno])
"""

IMPORT_ALL = """
import importlib, os, pkgutil, sys
for package in ("wazzup_operator", "wazzup_simulator", "kubernetes.aio.config"):
    path = importlib.import_module(package).__path__
    for found in pkgutil.walk_packages(path, f"{package}."):
        if not found.name.endswith(("__main__", "_test")):
            importlib.import_module(found.name)
for module in list(sys.modules.values()):
    cached = getattr(getattr(module, "__spec__", None), "cached", None)
    if cached and not os.path.exists(cached):
        print("no bytecode:", module.__name__)
print(len([name for name in sys.modules if name.startswith("wazzup_")]), "modules")
"""


def python(image: Image, directory: Path, program: str) -> list[str]:
    """Run a program with the image's Python; return the lines that it prints."""
    container = Container(image, directory / "python", "-c", program, entrypoint=["python"])
    return container.output().splitlines()


def test_configuration_and_labels(image: Image) -> None:
    config = image.config
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["wazzup-operator"]
    assert "Cmd" not in config
    assert config["WorkingDir"] == "/"
    labels = config["Labels"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert labels["org.opencontainers.image.title"] == project["name"]
    assert labels["org.opencontainers.image.description"].startswith("Shows whether each")
    assert labels["org.opencontainers.image.licenses"] == project["license"]
    assert labels["org.opencontainers.image.version"] == project["version"]
    head = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(head, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert labels["org.opencontainers.image.revision"].removesuffix("-dirty") == commit.strip()


def test_no_installer_and_no_compiler(image: Image) -> None:
    programs = {
        path.name
        for folder in ("bin", "usr/bin", "usr/sbin", "usr/local/bin", f"{PRODUCT}/bin")
        for path in (image.root / folder).glob("*")
    }
    assert "python3" in programs
    assert not programs & COMPILERS
    assert not [name for name in programs if name.startswith(("pip", "easy_install"))]
    folders = {path for path in image.root.rglob("*") if path.name in INSTALLERS and path.is_dir()}
    assert {path.relative_to(image.root) for path in folders} == set()
    assert not [path for path in image.files() if path.suffix == ".whl"]


@pytest.mark.parametrize("interpreter", ["python", "/usr/bin/python3"])
def test_no_python_has_an_installer(image: Image, tmp_path: Path, interpreter: str) -> None:
    program = f"import importlib.util as u; print([m for m in {INSTALLERS} if u.find_spec(m)])"
    container = Container(image, tmp_path / "run", "-c", program, entrypoint=[interpreter])
    assert container.output() == "[]\n"


def test_no_setuid_and_setgid_programs(image: Image) -> None:
    assert [path for path in image.files() if path.lstat().st_mode & 0o6000] == []


def test_the_processes_are_confined(image: Image, tmp_path: Path) -> None:
    """The other tests of processes rely on this."""
    assert python(image, tmp_path, LOOK_AROUND) == [
        "1 65532 65532 []",
        "0000000000000000 0000000000000000 1",
        "/ EROFS",
        "/tmp EROFS",
        "/run EROFS",
        "/opt/wazzup-operator EROFS",
    ]


def test_all_modules_can_be_imported_and_are_compiled(image: Image, tmp_path: Path) -> None:
    (last,) = python(image, tmp_path, IMPORT_ALL)
    count, words = last.split(" ", 1)
    assert words == "modules"
    assert int(count) > 70


def test_bytecode_has_no_timestamps(image: Image) -> None:
    sources = list(image.site_packages().rglob("*.py"))
    assert len(sources) > 1000
    standard = list(image.root.glob("usr/lib/python3.*/*.py"))
    assert len(standard) > 100
    for source in (*sources, *standard):
        compiled = list(source.parent.glob(f"__pycache__/{source.stem}.cpython-*.pyc"))
        assert len(compiled) == 1, source
        assert compiled[0].read_bytes()[4:8] == UNCHECKED_HASH, source


def test_builds_are_reproducible(image: Image, offline_image: Image) -> None:
    """With and without a network, at different times, from files with different times."""
    here, there = image.tree(), offline_image.tree()
    assert {name for name in here | there if here.get(name) != there.get(name)} == set()
    assert len(here) > 5000
    labels = [dict(each.config["Labels"]) for each in (image, offline_image)]
    assert labels[1].pop("org.opencontainers.image.revision") == "unknown"
    del labels[0]["org.opencontainers.image.revision"]
    assert labels[0] == labels[1]
    assert image.environment == offline_image.environment


def test_arm64_has_the_same_program(image: Image, arm64_image: Image) -> None:
    """Apart from machine code and the description of its wheels."""

    def program(image: Image) -> dict[str, str]:
        return {
            name: digest
            for name, digest in image.tree().items()
            if name.startswith(PRODUCT) and not (name.endswith(".so") or ".dist-info/" in name)
        }

    here, there = program(image), program(arm64_image)
    assert {name for name in here | there if here.get(name) != there.get(name)} == set()
    assert len(here) > 2000
    assert image.config == arm64_image.config


def test_arm64_has_only_its_own_machine_code(arm64_image: Image) -> None:
    machines = dict(machine_code(arm64_image))
    assert set(machines.values()) == {ELF_AARCH64}
    assert len([name for name in machines if name.is_relative_to(arm64_image.root / PRODUCT)]) > 10


def machine_code(image: Image) -> Iterator[tuple[Path, int]]:
    for path in image.files():
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                header = file.read(20)
            if header.startswith(b"\x7fELF"):
                yield path, int.from_bytes(header[18:20], "little")


def test_the_arm64_program_runs(arm64_image: Image) -> None:
    """In emulation, which building it does not need."""
    emulator = shutil.copy(str(shutil.which("qemu-aarch64-static")), arm64_image.root / "emulator")
    try:
        program = ("/opt/wazzup-operator/bin/python", "/opt/wazzup-operator/bin/wazzup-operator")
        command = ["chroot", arm64_image.root, "/emulator", *program, "crds"]
        done = subprocess.run(command, capture_output=True, text=True)
    finally:
        Path(emulator).unlink()
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed_crds()


def test_the_wheelhouse_serves_arm64(wheelhouse: Path, tmp_path: Path) -> None:
    """Install from it what the Dockerfile installs, as if on the other architecture."""
    words = ["install", "--quiet", "--no-compile", "--only-binary=:all:", f"--target={tmp_path}"]
    words += ["--no-index", f"--find-links={wheelhouse}", "--python-version=3.13"]
    platforms = re.findall(r"manylinux_2_\d+", (ROOT / "Dockerfile").read_text())
    words += [f"--platform={each}_aarch64" for each in platforms]
    words += ["--require-hashes", f"--requirement={ROOT / 'requirements' / 'runtime.txt'}"]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    libraries = list(tmp_path.rglob("*.so"))
    assert len(libraries) > 10
    for library in libraries:
        with library.open("rb") as file:
            header = file.read(20)
        assert int.from_bytes(header[18:20], "little") == ELF_AARCH64, library


def test_size(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    packages = image.site_packages().relative_to(image.root)
    folders = [each for each in (image.root / packages).iterdir() if each.is_dir()]
    weights = {each.name: image.weigh(str(packages / each.name)) for each in folders}
    largest = sorted(weights, key=lambda name: -weights[name])[:8]
    parts = [(each, image.weigh(each)) for each in MOST]
    parts += [(f"  {each}", weights[each]) for each in largest]
    with capsys.disabled():
        for name, weight in parts:
            print(f"\n{weight / MB:8.1f} MB  {name}", end="")  # noqa: T201
    for name, most in MOST.items():
        # Less than half would mean that something else was measured.
        assert most / 2 < image.weigh(name) < most, name


def test_it_prints_its_version(image: Image, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = Container(image, tmp_path / "run", "version").output()
    assert project["version"] in said


def test_it_prints_the_crds(image: Image, tmp_path: Path) -> None:
    assert Container(image, tmp_path / "run", "crds").output() == printed_crds()


def printed_crds() -> str:
    command = [Path(sys.executable).parent / "wazzup-operator", "crds"]
    here = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert here.count("kind: CustomResourceDefinition") == 2
    return here
