"""The launcher of child processes."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.processes.process import Process, StartError

DEADLINE = 30.0
FOREVER = "import signal; print('ready', flush=True); signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FOREVER}"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process("a program", tmp_path / "log")
    yield process
    process.kill()


def launch(process: Process, code: str) -> None:
    process.launch([sys.executable, "-c", code], os.environ)


def ready(process: Process) -> None:
    process.wait_until(lambda: "ready" in process.log(), "it is not ready", DEADLINE)


def test_a_restarted_process_appends_to_its_log(process: Process) -> None:
    for times in (1, 2):
        launch(process, FOREVER)
        process.wait_until(lambda n=times: process.log().count("ready") == n, "no", DEADLINE)
        assert process.stop(DEADLINE) == -signal.SIGTERM
        assert not process.runs
        assert process.failure() is None


def test_a_process_that_ignores_sigterm_is_killed(process: Process) -> None:
    launch(process, STUBBORN)
    ready(process)
    assert process.stop(0.5) == -signal.SIGKILL


def test_an_early_exit_shows_the_end_of_the_log(process: Process) -> None:
    launch(process, "for line in range(40): print('line', line)\nraise SystemExit('no such thing')")
    with pytest.raises(StartError) as info:
        ready(process)
    first, *tail = str(info.value).splitlines()
    assert first == (f"a program exited with code 1; its log is {process.log_file} and ends with:")
    assert tail[-1].strip() == "no such thing"
    assert "line 0" not in str(info.value)


def test_a_process_that_is_never_ready_is_reported(process: Process) -> None:
    launch(process, FOREVER)
    with pytest.raises(StartError, match="no answer after 0 s; its log is "):
        process.wait_until(lambda: False, "no answer", 0.3)


def test_a_killed_process_has_failed(process: Process) -> None:
    launch(process, FOREVER)
    ready(process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(DEADLINE)
    assert process.failure() == "a program was killed by signal 9"
