"""A control plane and a simulator per session; a namespace and an account per test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.controlplane.plane import ControlPlane
from tests.integration.harness.api import Api
from tests.integration.harness.crds import install
from tests.integration.harness.rights import RECORDER
from tests.integration.harness.world import (
    World,
    assert_no_secrets_printed,
    create_namespace,
)
from wazzup_simulator.client import Simulator


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("plane")) as plane:
        install(plane)
        yield plane
    RECORDER.look(plane.audit_log)


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    with Simulator.launch() as simulator:
        yield simulator


@pytest.fixture
def world(
    plane: ControlPlane, simulator: Simulator, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[World]:
    name = create_namespace(plane, simulator, request)
    world = World(plane, simulator, Api(plane.kubeconfig, name), tmp_path, name)
    try:
        yield world
        assert_no_secrets_printed(world)
    finally:
        for controller in world.controllers:
            controller.stop()
        simulator.clear_faults()
