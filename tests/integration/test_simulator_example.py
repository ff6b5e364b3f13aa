"""examples/ and examples/simulator, as in the quickstart."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.controlplane.plane import ControlPlane
from tests.integration.harness.api import Api, eventually
from tests.integration.harness.world import World
from wazzup_simulator.client import Simulator

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "examples" / "simulator" / "simulator.yaml"
PROGRAM = Path(sys.executable).with_name("wazzup-simulator")
MERGE = "application/merge-patch+json"


@pytest.fixture
def template() -> dict[str, Any]:
    """The Pod template of the Deployment."""
    deployment, _ = yaml.safe_load_all(MANIFEST.read_text())
    return deployment["spec"]["template"]


@pytest.fixture
def example(template: dict[str, Any]) -> Iterator[Simulator]:
    """Run the container's command on a free port."""
    (container,) = template["spec"]["containers"]
    local = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=8090": "--port=0"}
    arguments = [local.get(argument, argument) for argument in container["args"]]
    assert arguments != container["args"]
    command = [PROGRAM, *arguments]
    assert container["command"] == [PROGRAM.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield Simulator(process.stdout.readline().split()[-1])
        process.terminate()


def test_scanning_paying_and_losing_a_phone(example: Simulator, world: World) -> None:
    world.simulator, world.account = example, "default"
    world.controller()
    applied = world.kubectl("apply", "-f", str(ROOT / "examples"))
    assert applied.returncode == 0, applied.stderr
    interval = '{"spec": {"pollInterval": "5s"}}'
    patched = world.kubectl("patch", "wzacc", "default", "--type=merge", f"--patch={interval}")
    assert patched.returncode == 0, patched.stderr
    wait_for(world, delivery="Active", newsletter="Active", support="ScanQRCode")
    act(example, "scan", "12025550102")
    wait_for(world, delivery="Active", newsletter="Active", support="Active")
    act(example, "run-out-of-money")
    wait_for(world, delivery="NotPaidFor", newsletter="NotPaidFor", support="NotPaidFor")
    act(example, "pay")
    act(example, "lose-phone", "12025550102")
    wait_for(world, delivery="Active", newsletter="Active", support="NoConnectionWithPhone")


def act(simulator: Simulator, *words: str) -> None:
    command = [PROGRAM, "act", *words, f"--url={simulator.base_url}"]
    subprocess.run(command, check=True, timeout=30)


def wait_for(world: World, **states: str) -> None:
    """Wait until the example channels are in these states, and old-hotline is Off."""
    wanted = {**states, "old-hotline": "Off"}

    def look() -> bool:
        return wanted == {
            each["metadata"]["name"]: each["status"].get("state")
            for each in world.api.list("wazzupchannel")
        }

    eventually(look, f"the channels are {wanted}", 30)


def test_its_pod_is_admitted_under_the_restricted_profile(
    plane: ControlPlane, world: World, template: dict[str, Any]
) -> None:
    api, namespace = Api(plane.kubeconfig), world.api.namespace
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.request("PATCH", f"api/v1/namespaces/{namespace}", {"metadata": {"labels": labels}}, MERGE)
    account = {"metadata": {"name": "default"}}
    api.request("POST", f"api/v1/namespaces/{namespace}/serviceaccounts", account)
    path = f"api/v1/namespaces/{namespace}/pods"
    pod = {"metadata": {"name": "simulator"}, "spec": template["spec"]}
    made = api.request("POST", f"{path}?dryRun=All", pod)
    assert made["spec"]["containers"][0]["resources"]["limits"] == {"memory": "256Mi"}


def test_the_examples_do_not_include_the_simulator(world: World) -> None:
    dry = ("apply", "--dry-run=server", "--output=name", "--filename")
    objects = world.kubectl(*dry, str(ROOT / "examples"))
    assert objects.returncode == 0, objects.stderr
    assert "wazzupchannel.wazzup.dev/support\n" in objects.stdout
    assert "wazzup-simulator" not in objects.stdout
    simulator = world.kubectl(*dry, str(MANIFEST.parent))
    assert simulator.stdout == "deployment.apps/wazzup-simulator\nservice/wazzup-simulator\n"
