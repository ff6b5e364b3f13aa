"""The processes of the demo: a control plane, a simulated Wazzup and the operator."""

import base64
import os
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self, TypeVar

import yaml

from dev.controlplane.binaries import kubectl_path
from dev.controlplane.plane import ControlPlane
from dev.processes.operator import BIN, Operator
from dev.processes.port import free_port
from dev.processes.process import Process, log_tail
from wazzup_simulator.client import Channel, Simulator

P = TypeVar("P", bound=Process)

ROOT = Path(__file__).parents[2]
MANIFEST = "deploy/install.yaml"
NAMESPACE = "wazzup-operator-system"
"""The namespace of the manifest."""

RELEASE = "wazzup-operator"
"""The prefix of the manifest's names, and the name of the webhook configuration."""

WEBHOOK = f"{RELEASE}-webhook"
"""The name of the webhook's service account and Service."""

CERTIFICATE = f"{WEBHOOK}-certificate"
"""The Secret with the webhook's certificate."""

_GRACE = 5.0
_PATIENCE = 60.0


class DemoError(Exception):
    """The demo cannot continue; the message is a sentence for a person."""


class Stage:
    """All processes of the demo, with their files in `directory`; `with` stops them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.files = directory / "files"
        self._stack = ExitStack()
        self._processes: list[Process] = []
        self.plane = ControlPlane(directory / "controlplane", audit=False)
        self.metrics = f"127.0.0.1:{free_port()}"
        self.webhook_port = free_port()
        self.wazzup = Simulator("")

    def __enter__(self) -> Self:
        self._stack.enter_context(self.plane)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of every command: the pinned kubectl, no proxy, no user settings."""
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
        """Start the simulator with the API key of the example Secret."""
        secret = yaml.safe_load((ROOT / "examples/01-secret.yaml").read_text())
        key = secret["stringData"]["apiKey"]
        simulator = self._add(Process("wazzup-simulator", self.log("wazzup-simulator")))
        command: list[str | Path] = [BIN / "wazzup-simulator", "--port=0", f"--api-key={key}"]
        simulator.launch(command, self.environment, ROOT)
        simulator.wait_until(
            lambda: "listening on " in simulator.log(), "the simulator does not listen", _PATIENCE
        )
        self.wazzup = Simulator(simulator.log().split("listening on ")[1].split()[0])

    def start_operator(self) -> str:
        """Start the controller as its service account; return the command."""
        return self._start(
            "controller",
            f"--wazzup-url={self.wazzup.base_url}",
            f"--leader-elect-resource-namespace={NAMESPACE}",
            f"--webhook-secret={NAMESPACE}/{CERTIFICATE}",
            f"--webhook-service={WEBHOOK}",
            f"--webhook-configuration={RELEASE}",
            f"--metrics-address={self.metrics}",
        )

    def start_webhook(self) -> str:
        """Start the webhook as its service account; return the command.

        Copies the certificate to a directory first, as a kubelet would mount it.
        """
        directory = self._directory / "tls"
        directory.mkdir()
        for file in ("tls.crt", "tls.key"):
            (directory / file).write_bytes(self._secret_file(file))
        return self._start(
            "webhook",
            f"--cert-dir={directory}",
            f"--webhook-address=127.0.0.1:{self.webhook_port}",
            f"--metrics-address=127.0.0.1:{free_port()}",
        )

    def _start(self, subcommand: str, *flags: str) -> str:
        """Start a process of the operator, wait until it is ready, and return the command."""
        flags = (*flags, f"--health-address=127.0.0.1:{free_port()}")
        kubeconfig = self.plane.kubeconfig_for_account(NAMESPACE, f"{RELEASE}-{subcommand}")
        env = {**self.environment, "KUBECONFIG": str(kubeconfig)}
        log = self.log(subcommand)
        process = self._add(Operator(subcommand, log, *flags, env=env, cwd=ROOT))
        process.start()
        process.wait_ready()
        return f"KUBECONFIG={kubeconfig} wazzup-operator {subcommand} {' '.join(flags)} &"

    def _secret_file(self, name: str) -> bytes:
        """Return a file of the webhook's Secret once the controller has written it."""
        key = name.replace(".", r"\.")
        command = ["kubectl", "get", "secret", CERTIFICATE, "-n", NAMESPACE]

        def look() -> bytes:
            done = subprocess.run(
                [*command, "-o", f"jsonpath={{.data.{key}}}"],
                env=self.environment,
                capture_output=True,
                check=False,
            )
            return base64.b64decode(done.stdout)

        controller = self._processes[-1]
        problem = "the controller has not issued the webhook's certificate"
        return controller.wait_until(look, problem, _PATIENCE)

    def channel(self, phone: str) -> Channel:
        """Return the channel with this number in the simulated Wazzup."""
        return next(each for each in self.wazzup.channels() if each.row["plainId"] == phone)

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self._directory / f"{name}.log"

    def failure(self) -> str | None:
        """Return a sentence about a process that exited unexpectedly, or None."""
        for process in self._processes:
            if failure := process.failure():
                return f"{failure}."
        return self.plane.failure()

    def log_tails(self) -> str:
        """Return the last lines of all logs."""
        return "\n".join(
            f"The log of {process.name} ends with:\n{log_tail(process.log())}"
            for process in self._processes
        )

    def _add(self, process: P) -> P:
        self._processes.append(process)
        self._stack.callback(process.stop, _GRACE)
        return process
