"""What the demo plays on: a control plane, a simulated Wazzup and the operator, each a process."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from dev.controlplane import process
from dev.controlplane.errors import log_tail
from dev.controlplane.kubectl import kubectl_path
from dev.controlplane.plane import ControlPlane
from dev.controlplane.port import Port
from wazzup_simulator.client import Channel, Simulator

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
USER = "wazzup-operator"
"""Whom dev/demo/rbac.yaml gives rights to."""

_GRACE = 5.0
_START_DEADLINE = 30.0
_POLL = 0.05


class DemoError(Exception):
    """The demo cannot go on; the message is a sentence for a person."""


class Stage:
    """Everything that runs. All files are in `directory`; `with` stops what was started."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.plane = ControlPlane(directory / "controlplane", audit=False)
        self.metrics = f"127.0.0.1:{_free_port()}"
        self._health = f"127.0.0.1:{_free_port()}"
        self.wazzup = Simulator("")

    def __enter__(self) -> Self:
        self._stack.enter_context(self.plane)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def environment(self) -> Mapping[str, str]:
        """Of every command: our kubectl first, none of the user's settings, no proxy."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.lower().endswith("_proxy") and not name.startswith("WAZZUP_OPERATOR_")
        }
        return {
            **kept,
            "PATH": os.pathsep.join([str(BIN), str(kubectl_path().parent), kept.get("PATH", "")]),
            "KUBECONFIG": str(self.plane.kubeconfig),
            "KUBECACHEDIR": str(self._directory / "kubectl-cache"),
            "KUBERC": "off",
        }

    def start_wazzup(self) -> None:
        """Start the simulator with the one key that the example Secret holds."""
        secret = yaml.safe_load((ROOT / "examples/01-secret.yaml").read_text())
        key = secret["stringData"]["apiKey"]
        self._start("wazzup-simulator", ["--port=0", f"--api-key={key}"], self.environment)
        deadline = time.monotonic() + _START_DEADLINE
        while "listening on " not in (said := self.log("wazzup-simulator").read_text()):
            if self.failure() or time.monotonic() > deadline:
                raise DemoError("The simulator did not start.")
            time.sleep(_POLL)
        self.wazzup = Simulator(said.split("listening on ")[1].split()[0])

    def start_operator(self) -> str:
        """Start the controller as the user of dev/demo/rbac.yaml; return the command."""
        flags = [
            "controller",
            f"--wazzup-url={self.wazzup.base_url}",
            f"--metrics-address={self.metrics}",
            f"--health-address={self._health}",
        ]
        kubeconfig = self.plane.kubeconfig_for(USER)
        self._start("wazzup-operator", flags, {**self.environment, "KUBECONFIG": str(kubeconfig)})
        return f"KUBECONFIG={kubeconfig} wazzup-operator {' '.join(flags)} &"

    def channel(self, phone: str) -> Channel:
        """The channel in the simulated Wazzup that has this number."""
        return next(each for each in self.wazzup.channels() if each.row["plainId"] == phone)

    def log(self, name: str) -> Path:
        """Where a process writes what it says."""
        return self._directory / f"{name}.log"

    def failure(self) -> str | None:
        """Which process ended although nobody stopped it, in a sentence."""
        for name, started in self._processes.items():
            if (code := started.poll()) is not None:
                return f"{name} ended with exit code {code}."
        return self.plane.failure()

    def last_words(self) -> str:
        """The ends of the logs."""
        names = [name for name in self._processes if self.log(name).exists()]
        return "\n".join(
            f"{name} said last:\n{log_tail(self.log(name).read_text(errors='replace'))}"
            for name in names
        )

    def _start(self, name: str, arguments: list[str], env: Mapping[str, str]) -> None:
        started = process.spawn([BIN / name, *arguments], self.log(name), env=env, cwd=ROOT)
        self._processes[name] = started
        self._stack.callback(process.stop, started, _GRACE)


def _free_port() -> int:
    port = Port()
    port.release()
    return port.number
