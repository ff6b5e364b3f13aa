"""Several replicas in an integration test."""

from tests.drills.drill import Replica
from tests.integration.harness.world import World


def replica(world_: World, number: int) -> Replica:
    """Return replica-<number>, not started yet."""
    name = f"replica-{number}"
    replica = Replica(
        name,
        world_.release.kubeconfig,
        world_.directory / f"{name}.log",
        *world_.release.arguments,
    )
    world_.controllers.append(replica)
    return replica
