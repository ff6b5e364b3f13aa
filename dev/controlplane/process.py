"""Child processes that never outlive the process that started them."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_EXEC_BOUND = Path(__file__).with_name("exec_bound.py")


def spawn(
    command: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Starts `command`, whose first part is a path, with its output appended to `log`.

    The child leads a process group of its own, so that Ctrl-C on a terminal reaches only the
    parent, which then stops its children in the right order. On Linux the child is killed when the
    thread that started it ends, however it ends: start it from one that lives as long as it should.
    """
    launcher = [sys.executable, "-I", "-S", str(_EXEC_BOUND), str(os.getpid())]
    with log.open("ab") as output:
        return subprocess.Popen(
            [*launcher, *(str(part) for part in command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], grace: float) -> None:
    """Sends SIGTERM to the process's group, SIGKILL after `grace` seconds; returns at its end."""
    _signal_group(process, signal.SIGTERM)
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Sends SIGKILL to the process's group and returns at its end."""
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # Once poll() has reaped the child, its id may belong to somebody else.
    if process.poll() is None:
        os.killpg(process.pid, number)
