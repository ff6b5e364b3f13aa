import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.controlplane.binaries import kubectl_path
from dev.controlplane.plane import ControlPlane
from dev.processes.process import StartError

DEADLINE = 60.0
RUN = """
import signal, sys
from dev.controlplane.plane import ControlPlane
with ControlPlane(sys.argv[1]):
    print("ready", flush=True)
    signal.pause()
"""


def kubectl(kubeconfig: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    cache = kubeconfig.with_name("kubectl-cache")
    return subprocess.run(
        [kubectl_path(), "--kubeconfig", kubeconfig, "--cache-dir", cache, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("plane")) as started:
        yield started


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return sorted(int(child) for task in tasks for child in task.read_text().split())


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


@contextlib.contextmanager
def exit_of(*pids: int) -> Iterator[None]:
    """Check that all of `pids` exit during the block or soon after."""
    with contextlib.ExitStack() as opened:
        handles = {os.pidfd_open(pid): pid for pid in pids}
        for handle in handles:
            opened.callback(os.close, handle)
        yield
        deadline = time.monotonic() + DEADLINE
        waiting = set(handles)
        while waiting:
            ended = select.select(waiting, [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ended, f"still running: {[handles[each] for each in waiting]}"
            waiting.difference_update(ended)


def test_nothing_outlives_a_killed_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        try:
            assert select.select([parent.stdout], [], [], DEADLINE)[0], "it does not start"
            assert parent.stdout.readline() == "ready\n"
            servers = children(parent.pid)
            assert len(servers) == 2
            with exit_of(*servers):
                parent.kill()
        finally:
            parent.kill()


def test_it_names_the_server_that_died(tmp_path: Path) -> None:
    others = children(os.getpid())
    with ControlPlane(tmp_path) as plane:
        assert plane.failure() is None
        servers = set(children(os.getpid())).difference(others)
        (pid,) = (each for each in servers if "kube-apiserver" in command_of(each))
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + DEADLINE
        while not (failure := plane.failure()):
            assert time.monotonic() < deadline
        log = tmp_path / "kube-apiserver.log"
        assert failure == f"kube-apiserver was killed by signal 9; its log is {log}."


def test_a_directory_in_use_is_refused(plane: ControlPlane) -> None:
    with pytest.raises(StartError, match="Another control plane uses"):
        ControlPlane(plane.kubeconfig.parent).start()
    assert kubectl(plane.kubeconfig, "get", "--raw", "/readyz").stdout == "ok"


def test_etcd_can_be_suspended_and_stopped_while_it_is(tmp_path: Path) -> None:
    others = children(os.getpid())
    with ControlPlane(tmp_path) as plane:
        read = ["get", "namespace", "default", "--request-timeout=1s"]
        plane.suspend_etcd()
        assert kubectl(plane.kubeconfig, *read).returncode == 1
        plane.resume_etcd()
        deadline = time.monotonic() + DEADLINE
        while (answer := kubectl(plane.kubeconfig, *read)).returncode:
            assert time.monotonic() < deadline, answer.stderr
        plane.suspend_etcd()
        servers = set(children(os.getpid())).difference(others)
        assert len(servers) == 2
        with exit_of(*servers):
            plane.stop()
