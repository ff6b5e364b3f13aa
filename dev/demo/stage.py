"""What the demo plays on: a control plane, a simulated Wazzup and the operator, each a process."""

import base64
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from dev.controlplane.binaries import helm, kubectl_path
from dev.controlplane.plane import ControlPlane
from dev.processes.port import free_port
from dev.processes.process import Process, log_tail
from wazzup_simulator.client import Channel, Simulator

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
USER = "wazzup-operator"
"""Whom dev/demo/rbac.yaml gives rights to."""

WEBHOOK = "wazzup-webhook"
"""The same for dev/demo/webhook.yaml, and what Secret and Service are called."""

_GRACE = 5.0
_PATIENCE = 60.0
_POLL = 0.05


class DemoError(Exception):
    """The demo cannot go on; the message is a sentence for a person."""


class Stage:
    """Everything that runs. All files are in `directory`; `with` stops what was started."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._processes: dict[str, Process] = {}
        self.plane = ControlPlane(directory / "controlplane", audit=False)
        self.metrics = f"127.0.0.1:{free_port()}"
        self._health = f"127.0.0.1:{free_port()}"
        self.webhook_port = free_port()
        self.wazzup = Simulator("")

    def __enter__(self) -> Self:
        self._stack.enter_context(self.plane)
        programs = self._directory / "bin"
        programs.mkdir()
        (programs / "helm").symlink_to(helm())
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
            "PATH": os.pathsep.join(
                [
                    str(BIN),
                    str(self._directory / "bin"),
                    str(kubectl_path().parent),
                    kept.get("PATH", ""),
                ]
            ),
            "HELM_CACHE_HOME": str(self._directory / "helm"),
            "HELM_CONFIG_HOME": str(self._directory / "helm"),
            "KUBECONFIG": str(self.plane.kubeconfig),
            "KUBECACHEDIR": str(self._directory / "kubectl-cache"),
            "KUBERC": "off",
        }

    def start_wazzup(self) -> None:
        """Start the simulator with the one key that the example Secret holds."""
        secret = yaml.safe_load((ROOT / "examples/01-secret.yaml").read_text())
        key = secret["stringData"]["apiKey"]
        self._start("wazzup-simulator", ["--port=0", f"--api-key={key}"], self.environment)
        log = self.log("wazzup-simulator")
        self._until(lambda: "listening on " in log.read_text(), "The simulator did not start.")
        self.wazzup = Simulator(log.read_text().split("listening on ")[1].split()[0])

    def start_operator(self) -> str:
        """Start the controller as the user of dev/demo/rbac.yaml; return the command."""
        flags = [
            "controller",
            f"--wazzup-url={self.wazzup.base_url}",
            "--leader-elect-resource-namespace=default",
            f"--metrics-address={self.metrics}",
            f"--health-address={self._health}",
            f"--webhook-secret=default/{WEBHOOK}",
            f"--webhook-service={WEBHOOK}",
            "--webhook-configuration=wazzup",
        ]
        kubeconfig = self.plane.kubeconfig_for(USER)
        self._start("wazzup-operator", flags, {**self.environment, "KUBECONFIG": str(kubeconfig)})
        return f"KUBECONFIG={kubeconfig} wazzup-operator {' '.join(flags)} &"

    def start_webhook(self) -> str:
        """Mount its certificate, start the webhook and wait until it is ready; return the command.

        Mounting is what a kubelet does; there is none here.
        """
        directory = self._directory / "tls"
        directory.mkdir()
        for file in ("tls.crt", "tls.key"):
            (directory / file).write_bytes(self._secret_file(file))
        health = f"127.0.0.1:{free_port()}"
        flags = [
            "webhook",
            f"--cert-dir={directory}",
            f"--webhook-address=127.0.0.1:{self.webhook_port}",
            f"--health-address={health}",
            f"--metrics-address=127.0.0.1:{free_port()}",
        ]
        kubeconfig = self.plane.kubeconfig_for(WEBHOOK)
        environment = {**self.environment, "KUBECONFIG": str(kubeconfig)}
        self._start(WEBHOOK, flags, environment, program="wazzup-operator")
        self._until(lambda: _answers(f"http://{health}/readyz"), "The webhook is not ready.")
        return f"KUBECONFIG={kubeconfig} wazzup-operator {' '.join(flags)} &"

    def _secret_file(self, name: str) -> bytes:
        """Return a file of the webhook's Secret, once the controller has made it."""
        key = name.replace(".", r"\.")
        command = ["kubectl", "get", "secret", WEBHOOK, "-o", f"jsonpath={{.data.{key}}}"]
        found = b""

        def look() -> bool:
            nonlocal found
            done = subprocess.run(command, env=self.environment, capture_output=True, check=False)
            found = base64.b64decode(done.stdout)
            return bool(found)

        self._until(look, "The controller has not made the webhook's certificate.")
        return found

    def _until(self, done: Callable[[], bool], problem: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not done():
            if (failure := self.failure()) or time.monotonic() > deadline:
                raise DemoError(failure or problem)
            time.sleep(_POLL)

    def channel(self, phone: str) -> Channel:
        """The channel in the simulated Wazzup that has this number."""
        return next(each for each in self.wazzup.channels() if each.row["plainId"] == phone)

    def log(self, name: str) -> Path:
        """Where a process writes what it says."""
        return self._directory / f"{name}.log"

    def failure(self) -> str | None:
        """Which process ended although nobody stopped it, in a sentence."""
        for started in self._processes.values():
            if failure := started.failure():
                return f"{failure}."
        return self.plane.failure()

    def last_words(self) -> str:
        """The ends of the logs."""
        names = [name for name in self._processes if self.log(name).exists()]
        return "\n".join(
            f"{name} said last:\n{log_tail(self.log(name).read_text(errors='replace'))}"
            for name in names
        )

    def _start(
        self, name: str, arguments: list[str], env: Mapping[str, str], program: str | None = None
    ) -> None:
        command: list[str | Path] = [BIN / (program or name), *arguments]
        started = self._processes[name] = Process(name, self.log(name))
        started.launch(command, env, ROOT)
        self._stack.callback(started.stop, _GRACE)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - one of ours
            return bool(answer.status == 200)
    except OSError:
        return False
