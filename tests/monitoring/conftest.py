"""The operator as the integration tests have it."""

from tests.integration.harness.fixtures import plane, simulator, world

__all__ = ["plane", "simulator", "world"]
