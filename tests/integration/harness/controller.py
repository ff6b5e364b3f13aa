"""The controller as a process."""

import os
from collections.abc import Mapping
from pathlib import Path

from dev.processes.operator import Operator

GRACE = 15.0
"""Seconds in which it must exit after SIGTERM; Kubernetes waits for 30."""


class Controller(Operator):
    """One `wazzup-operator controller`; its log goes to a file."""

    def __init__(
        self,
        kubeconfig: Path,
        log: Path,
        *flags: str,
        environment: Mapping[str, str] | None = None,
        subcommand: str = "controller",
    ) -> None:
        env = {**os.environ, **(environment or {}), "KUBECONFIG": str(kubeconfig)}
        super().__init__(subcommand, log, *flags, env=env)

    def stop(self, grace: float = GRACE) -> int:
        """Send SIGTERM and wait; return the exit code."""
        self.terminate()
        return self.wait(grace)
