"""A server that runs as a child process and can be started again."""

import http.client
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from dev.controlplane import process
from dev.controlplane.errors import ControlPlaneError, log_tail
from dev.controlplane.port import Port

_START_DEADLINE = 60.0
_STOP_GRACE = 5.0
_POLL = 0.05


class Server(ABC):
    """A server on a port of its own, which writes what it says to a log in `directory`."""

    name: ClassVar[str]

    def __init__(self, directory: Path) -> None:
        self.log = directory / f"{self.name}.log"
        self.port = Port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it serves; the same every time it is started."""
        return f"https://127.0.0.1:{self.port.number}"

    @abstractmethod
    def command(self, program: Path) -> list[str]:
        """How to run `program` as this server."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it serves everything; raises OSError while nothing answers."""

    def start(self, program: Path) -> None:
        """Runs `program` and returns once it is ready.

        Raises ControlPlaneError when it ends before that or is not ready within a minute.
        """
        # etcd takes every ETCD_* variable for a setting; it is told all it needs by flags.
        env = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        self._process = process.spawn(self.command(program), self.log, env=env)
        deadline = time.monotonic() + _START_DEADLINE
        while not self._answers():
            problem = self.failure()
            if not problem and time.monotonic() > deadline:
                problem = f"{self.name} is not ready after {_START_DEADLINE:.0f} s"
            if problem:
                end = log_tail(self.log.read_text(errors="replace"))
                raise ControlPlaneError(f"{problem}; its log is {self.log} and ends with:\n{end}")
            time.sleep(_POLL)

    def stop(self) -> None:
        """Ends it with SIGTERM, after some seconds with SIGKILL; does nothing when it is not up."""
        if self._process is not None:
            self.resume()  # while it is suspended it would not hear of SIGTERM
            process.stop(self._process, _STOP_GRACE)
            self._process = None

    def kill(self) -> None:
        """Ends it with SIGKILL; does nothing when it is not up."""
        if self._process is not None:
            process.kill(self._process)
            self._process = None

    def suspend(self) -> None:
        """Lets it do nothing until `resume`, with SIGSTOP; does nothing when it is not up."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on after `suspend`; does nothing when it is not up or was not suspended."""
        self._send(signal.SIGCONT)

    def failure(self) -> str | None:
        """How it ended although nobody stopped it, or None."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how}"

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            return self.is_ready()
        except (OSError, http.client.HTTPException):
            return False
