"""The operator, its control plane and its Wazzup."""

from tests.integration.harness.fixtures import plane, simulator, world

__all__ = ["plane", "simulator", "world"]
