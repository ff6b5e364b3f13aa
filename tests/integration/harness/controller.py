"""The controller as a process, started as a user would start it."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from tests.integration.harness.api import eventually

COMMAND = Path(sys.executable).parent / "wazzup-operator"


class Controller:
    """One `wazzup-operator controller`; its log goes to a file."""

    process = "controller"

    def __init__(
        self, kubeconfig: Path, log: Path, *flags: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log_file = log
        host = pod_address()
        listening = ("--metrics-address=:8080", "--health-address=:8081")
        # Of what is told twice, the last holds.
        self._flags = [bound(flag, host) for flag in (*listening, *flags)]
        told = dict(flag.split("=", 1) for flag in self._flags if "=" in flag)
        self._metrics, self._health = told["--metrics-address"], told["--health-address"]
        self._kubeconfig = kubeconfig
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    COMMAND,
                    self.process,
                    *self._flags,
                ],
                env={**os.environ, **self._environment, "KUBECONFIG": str(self._kubeconfig)},
                stderr=log,
                stdout=log,
            )

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """End it as Kubernetes does; return its exit code."""
        assert self._process
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=15)

    def log(self) -> str:
        return self.log_file.read_text()

    def probe(self, path: str) -> tuple[int, str]:
        """Return status and body of a health endpoint; 0 while nothing listens."""
        return _get(f"http://{self._health}{path}")

    def metrics(self) -> str:
        status, text = _get(f"http://{self._metrics}/metrics")
        assert status in (0, 200), text
        return text

    def count(self, metric: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in self.metrics().splitlines()
            if re.match(rf"{metric}[{{ ]", line)
            and all(f'{key}="{value}"' in line for key, value in labels.items())
        )

    def wait_ready(self) -> None:
        eventually(lambda: self.probe("/readyz")[0] == 200, "the controller is ready")


def pod_address() -> str:
    """Return an address for a Pod: there are millions on this machine."""
    return ".".join(["127", *(str(random.randint(1, 254)) for _ in range(3))])


def bound(flag: str, host: str) -> str:
    """Return a flag with this host where it names a port of every address."""
    return re.sub(r"^(--[a-z-]*address=):", rf"\g<1>{host}:", flag)


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""
