"""The operator as the integration tests have it, and several replicas of it."""

from tests.drills.conftest import Replica
from tests.integration.conftest import (
    World,
    plane,
    simulator,
    world,
)

__all__ = ["plane", "replica", "simulator", "world"]


def replica(world_: World, number: int) -> Replica:
    """Return replica-<number>, which is yet to be started; it competes with the others."""
    name = f"replica-{number}"
    replica = Replica(
        name,
        world_.release.kubeconfig,
        world_.directory / f"{name}.log",
        *world_.release.arguments,
    )
    world_.controllers.append(replica)
    return replica
