"""A child process: start it, wait until it is ready, read its log, stop it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_EXEC_BOUND = Path(__file__).with_name("exec_bound.py")
_POLL = 0.05
# The kernel kills a child when the thread that started it ends, so one thread starts them all.
_SPAWNER = ThreadPoolExecutor(1, "spawner")


class StartError(Exception):
    """Something cannot be started; the message is a sentence for a person."""


class Process:
    """A child process that appends its output to `log` and can be restarted.

    It has its own process group, so that Ctrl-C on a terminal reaches only the parent, which stops
    its children in the right order. It is killed when the parent dies for any reason.
    """

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log_file = log
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def launch(
        self, command: Sequence[str | Path], env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        """Start `command`; its first part must be a path."""
        bound = [sys.executable, "-I", "-S", str(_EXEC_BOUND), str(os.getpid()), *map(str, command)]
        self._stopped = False
        self._child = _SPAWNER.submit(self._spawn, bound, env, cwd).result()

    def _spawn(
        self, command: Sequence[str], env: Mapping[str, str], cwd: Path | None
    ) -> subprocess.Popen[bytes]:
        with self.log_file.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id, after a start."""
        assert self._child, f"{self.name} was not started"
        return self._child.pid

    @property
    def runs(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.poll() is None

    def log(self) -> str:
        """Return its output so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def failure(self) -> str | None:
        """Return how it exited, or None if it runs or was stopped."""
        if self._child is None or self._stopped or (code := self._child.poll()) is None:
            return None
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        return f"{self.name} {how}"

    def wait_until(self, look: Callable[[], T], problem: str, seconds: float) -> T:
        """Return the first truthy result of `look`.

        Raises StartError with the end of the log if the process exits first, or after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not (result := look()):
            failure = self.failure()
            if not failure and time.monotonic() > deadline:
                failure = f"{problem} after {seconds:.0f} s"
            if failure:
                tail = log_tail(self.log())
                raise StartError(f"{failure}; its log is {self.log_file} and ends with:\n{tail}")
            time.sleep(_POLL)
        return result

    def wait(self, seconds: float | None = None) -> int:
        """Wait until it exits; return its exit code. Raises subprocess.TimeoutExpired."""
        assert self._child, f"{self.name} was not started"
        return self._child.wait(seconds)

    def terminate(self) -> None:
        """Send SIGTERM, once, and resume it if it is suspended."""
        if not self._stopped:
            self._stopped = True
            self.signal(signal.SIGTERM)
            self.resume()

    def stop(self, grace: float) -> int | None:
        """Send SIGTERM, and SIGKILL after `grace` seconds; return the exit code, if any."""
        self.terminate()
        if self._child is None:
            return None
        try:
            return self._child.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._child.returncode

    def kill(self) -> None:
        """Send SIGKILL and wait until it exits."""
        self._stopped = True
        self.signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()

    def suspend(self) -> None:
        """Send SIGSTOP, which freezes it until `resume`."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group, if it runs."""
        # After poll() has reaped the child, another process may have its id.
        if self._child is not None and self._child.poll() is None:
            os.killpg(self._child.pid, number)


def log_tail(text: str, lines: int = 15) -> str:
    """Return the last `lines` lines of a log, indented."""
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])
