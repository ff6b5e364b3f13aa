"""The fixtures of the integration tests."""

from tests.integration.harness.fixtures import plane, simulator, world

__all__ = ["plane", "simulator", "world"]
