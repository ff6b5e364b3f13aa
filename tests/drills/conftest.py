"""A control plane per module, which drills may break, and a simulator per drill."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.controlplane.plane import ControlPlane
from tests.drills import duration, figures
from tests.drills.drill import Drill
from tests.integration.harness.api import Api
from tests.integration.harness.crds import install
from tests.integration.harness.rights import RECORDER
from tests.integration.harness.world import assert_no_secrets_printed, create_namespace
from wazzup_simulator.client import Simulator


def pytest_report_header() -> str:
    return f"drills: durations scaled by {duration.SCALE:g} (DRILL_SCALE)"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for full, scaled in sorted(duration.shortened.items()):
        terminalreporter.write_line(f"drills: shortened from {full:g} s to {scaled:g} s")


failed: set[str] = set()
"""Ids of failed drills."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        failed.add(report.nodeid)
    if report.when == "teardown":
        figures.end(success=report.nodeid not in failed)


def pytest_sessionfinish(exitstatus: int) -> None:
    if duration.SCALE == 1 and not duration.shortened and figures.passed:
        figures.write()
    if exitstatus == 0 and (difference := RECORDER.finish()):
        pytest.exit(difference, returncode=1)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("drill")) as plane:
        install(plane)
        yield plane
    RECORDER.look(plane.audit_log)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """One per drill: it keeps a limited number of requests, and the judge needs all."""
    with Simulator.launch() as simulator:
        yield simulator


@pytest.fixture
def drill(
    plane: ControlPlane, simulator: Simulator, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Drill]:
    # Short: the user name in the client certificate has at most 64 characters.
    name = create_namespace(plane, simulator, request, length=23)
    drill = Drill(plane, simulator, Api(plane.kubeconfig, name), tmp_path, name)
    try:
        yield drill
        assert_no_secrets_printed(drill)
        if drill._truth:
            figures.judged(request.node.name, drill._truth.writes().total())
    finally:
        simulator.clear_faults()
        drill.close()
