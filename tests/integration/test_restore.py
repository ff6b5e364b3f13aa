"""Etcd is restored from a snapshot: resource versions are lower than those that watches came to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.controlplane.plane import ControlPlane
from tests.integration.harness.api import Api, eventually
from tests.integration.harness.controller import Controller
from tests.integration.harness.crds import install, served
from tests.integration.harness.release import NAMESPACE
from tests.integration.harness.rights import RECORDER
from tests.integration.harness.world import World
from wazzup_simulator.client import Channel

PHONES = ("+79865784457", "+79865784458", "+79865784459")
PATIENCE = 60.0


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane for these tests alone."""
    with ControlPlane(tmp_path_factory.mktemp("restored")) as plane:
        install(plane)
        yield plane
    RECORDER.look(plane.audit_log)


def be_lost(world: World) -> None:
    """Delete and create an object, and let versions rise."""
    world.api.delete("wazzupchannel", "deleted")
    world.declare("created", PHONES[1])
    world.wait_reason("created", "Active")
    for number in range(50):
        labels = {"touched": str(number)}
        world.api.patch("wazzupchannel", "kept", {"metadata": {"labels": labels}})


def wait_renewed(world: World, times: int) -> None:
    """Wait until the Lease is renewed; the standby looks at it more often."""
    path = f"apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{world.api.namespace}"

    def version() -> str:
        return str(world.api.request("GET", path)["metadata"]["resourceVersion"])

    for _ in range(times):
        before = version()
        eventually(lambda before=before: version() != before, "the Lease is renewed")


def restore(world: World, snapshot: Path, *, killed: bool) -> None:
    if killed:
        world.plane.kill_apiserver()
    else:
        world.plane.stop_apiserver()
    world.plane.restore_etcd(snapshot)
    world.plane.start_apiserver()
    eventually(lambda: served(Api(world.plane.kubeconfig)), "the kinds are served", PATIENCE)


def declare(world: World) -> Channel:
    """Declare "kept" and "deleted"; return the second's channel."""
    world.account_with_key()
    *_, deleted = [world.add(phone, state="active") for phone in PHONES]
    world.declare("kept", PHONES[0])
    world.declare("deleted", PHONES[2])
    return deleted


def change(world: World, channel: Channel) -> None:
    """Change a restored object's channel in Wazzup, and create an object."""
    world.simulator.patch_channel(channel, state="qridle")
    world.declare("new", PHONES[1])


REASONS = {"kept": "Active", "deleted": "ScanQRCode", "new": "Active"}


def is_right(world: World, *controllers: Controller) -> bool:
    """Return whether every status is right and exactly the objects that exist are counted."""
    ready = {name: world.condition(name, "Ready") or {} for name in REASONS}
    counted = sum(each.count("wazzup_channels") for each in controllers)
    return {name: each.get("reason") for name, each in ready.items()} == REASONS and counted == 3


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_without_election_the_controller_lists_again(world: World, killed: bool) -> None:
    channel = declare(world)
    controller = world.controller("--no-leader-elect")
    for name in ("kept", "deleted"):
        world.wait_reason(name, "Active")
    snapshot = world.plane.save_etcd()
    be_lost(world)
    restore(world, snapshot, killed=killed)
    change(world, channel)
    eventually(lambda: is_right(world, controller), "every status is right", PATIENCE)
    assert controller.runs
    assert "Cannot list or watch wazzupchannels" in controller.log()


def test_leader_and_standby_start_again(world: World) -> None:
    channel = declare(world)
    replicas = [world.controller(pod=name) for name in ("one", "two")]
    for replica in replicas:
        replica.wait_ready()
    for name in ("kept", "deleted"):
        world.wait_reason(name, "Active")
    snapshot = world.plane.save_etcd()
    be_lost(world)
    wait_renewed(world, 3)
    restore(world, snapshot, killed=True)
    change(world, channel)

    def restarted_and_right() -> bool:
        for replica in replicas:
            if not replica.runs:
                assert replica.wait(0) == 1
                replica.start()
        return is_right(world, *replicas)

    eventually(restarted_and_right, "every status is right", PATIENCE)
    # The leader may have exited before, because it could not renew the Lease.
    went_back = "went back to an older version: etcd was restored"
    assert any(went_back in replica.log() for replica in replicas)
