"""What Argo CD and Flux think of objects: the examples' checks, in the programs' own code."""

import json
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from dev.controlplane.binaries import program
from tests.integration.harness.api import JSON
from tests.integration.harness.world import ROOT

HEALTH = ROOT / "examples/argocd/resource_customizations/wazzup.dev/_/health.lua"
FLUX = [ROOT / "examples/flux/operator.yaml", ROOT / "examples/flux/kustomizations.yaml"]


class Verdict(NamedTuple):
    """Argo CD's health, kstatus's status, and Flux's with our healthCheckExprs."""

    argo: str
    kstatus: str
    flux: str


HEALTHY = Verdict("Healthy", "Current", "Current")
PROGRESSING = Verdict("Progressing", "InProgress", "InProgress")
DEGRADED = Verdict("Degraded", "Failed", "Failed")
PAUSED = Verdict("Suspended", "InProgress", "Current")
DELETING = Verdict("Progressing", "Terminating", "InProgress")


def verdicts(objects: Sequence[JSON]) -> list[Verdict]:
    """Return the verdict on each object."""
    return [
        Verdict(each["argo"]["status"], each["kstatus"], each["flux"]) for each in _judge(objects)
    ]


def argo_health(objects: Sequence[JSON]) -> list[JSON]:
    """Return Argo CD's health of each object: status and message."""
    return [each["argo"] for each in _judge(objects)]


def _judge(objects: Sequence[JSON]) -> list[JSON]:
    done = subprocess.run(
        [_program(), HEALTH, *FLUX],
        input="".join(f"{json.dumps(each)}\n" for each in objects),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@cache
def _program() -> Path:
    return program("verdicts")
