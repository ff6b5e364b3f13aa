"""An API server that crashes, forgets, lacks the CRDs or has older ones.

It is one for these tests alone, since they kill it.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import yaml

from dev.controlplane.plane import ControlPlane
from tests.integration.harness.api import JSON, Api, ApiError, eventually
from tests.integration.harness.controller import Controller
from tests.integration.harness.rights import RECORDER
from tests.integration.harness.world import ROOT, World, served

CRDS = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NAMES = ("wazzupaccounts.wazzup.dev", "wazzupchannels.wazzup.dev")
PHONES = ("+79865784457", "+79865784458", "+79865784459")
PATIENCE = 60.0


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane without the CRDs."""
    with ControlPlane(tmp_path_factory.mktemp("killed")) as plane:
        yield plane
    RECORDER.look(plane.audit_log)


@pytest.fixture
def kinds(plane: ControlPlane) -> None:
    """The CRDs of this version are applied."""
    if not served(Api(plane.kubeconfig)):
        define(plane)


@pytest.fixture
def older_kinds(plane: ControlPlane) -> Iterator[None]:
    """CRDs are applied that know neither status.action nor status.drift."""

    def without_action_and_drift(crd: JSON) -> None:
        (version,) = crd["spec"]["versions"]
        status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
        for field in ("action", "drift"):
            status["properties"].pop(field, None)

    undefine(plane)
    define(plane, without_action_and_drift)
    yield
    undefine(plane)


def define(plane: ControlPlane, edit: Callable[[JSON], None] = lambda crd: None) -> None:
    """Apply the CRDs, which must not be there, and wait until the kinds are served."""
    api = Api(plane.kubeconfig)
    for name in NAMES:
        crd = yaml.safe_load((ROOT / "crds" / f"{name.split('.')[0]}.yaml").read_text())
        edit(crd)
        api.request("POST", CRDS, crd)
    eventually(lambda: served(api), "the kinds are served", PATIENCE)


def undefine(plane: ControlPlane) -> None:
    """Take the CRDs away, where they are, and all objects with them."""
    api = Api(plane.kubeconfig)

    def gone(name: str) -> bool:
        try:
            api.request("DELETE", f"{CRDS}/{name}")
        except ApiError as error:
            if error.status == 404:
                return True
            raise
        return False

    for name in NAMES:
        eventually(lambda name=name: gone(name), f"{name} is gone", PATIENCE)


@contextmanager
def frozen(controller: Controller) -> Iterator[None]:
    """Let the process do nothing during the block."""
    os.kill(controller.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(controller.pid, signal.SIGCONT)


def look(world: World) -> None:
    """Have the account listed now, so as not to wait for its next poll."""
    annotations = {"wazzup.dev/requested-at": str(time.time_ns())}
    world.api.patch("wazzupaccount", "default", {"metadata": {"annotations": annotations}})


def writes(world: World) -> int:
    """Return how often the operator tried to write anything in this namespace."""
    found = world.writes("patch", "wazzupchannels") + world.writes("patch", "wazzupaccounts")
    return len(world.by_operator(found))


def lists(world: World) -> int:
    """Return how often the operator listed the channel objects."""
    found = world.writes("list", "wazzupchannels")
    return len(world.by_operator(found))


@pytest.mark.usefixtures("kinds")
def test_an_api_server_that_was_away_and_forgot(world: World) -> None:
    world.account_with_key()
    listed = [world.add(phone, state="active") for phone in PHONES]
    for name, phone in zip(("logs-out", "goes", "made-anew"), PHONES, strict=True):
        world.declare(name, phone)
    other = world.add("+79865784450", state="qridle")
    # A leader would end, as it is away for longer than the renewDeadline; a drill shows that.
    controller = world.controller("--no-leader-elect")
    controller.wait_ready()
    for name in ("logs-out", "goes", "made-anew"):
        world.wait_reason(name, "Active", seconds=PATIENCE)
    assert controller.count("wazzup_channels", state="Active") == 3
    before = lists(world)

    world.plane.kill_apiserver()
    world.simulator.act(listed[0], "logout")
    world.simulator.act(listed[1], "untick")

    def failures() -> float:
        return controller.count("rest_client_requests_total", code="<error>")

    # That takes 10 to 15 seconds, as it is tried less and less often.
    eventually(lambda: failures() >= 15, "it is tried again and again", PATIENCE)
    assert controller.probe("/healthz")[0] == 200

    with frozen(controller):
        world.plane.start_apiserver()
        world.api.delete("wazzupchannel", "goes")
        world.api.delete("wazzupchannel", "made-anew")
        world.declare("made-anew", "+79865784450")
        # All this is forgotten, so that going on with the watch is answered with 410.
        world.plane.compact()
        world.plane.stop_apiserver()
        world.plane.start_apiserver()

    assert world.wait_reason("logs-out", "ScanQRCode", seconds=PATIENCE)["state"] == "ScanQRCode"
    status = world.wait_reason("made-anew", "ScanQRCode", seconds=PATIENCE)
    assert status["channelID"] == other.id
    eventually(
        lambda: controller.count("wazzup_channels") == 2, "the deleted one is gone", PATIENCE
    )
    assert controller.count("wazzup_channels", state="ScanQRCode") == 2
    assert lists(world) == before + 1

    # The watch is back, too.
    world.api.patch("wazzupchannel", "logs-out", {"spec": {"active": False}})
    status = world.wait_reason("logs-out", "NotConnected", seconds=PATIENCE)
    assert status["observedGeneration"] == 2
    assert "Traceback" not in controller.log()


def test_the_crds_come_after_the_operator(world: World) -> None:
    undefine(world.plane)
    controller = world.controller()

    def sentence() -> str:
        status, text = controller.probe("/readyz")
        return text if status == 503 and "CRD" in text else ""

    text = eventually(sentence, "it says what is missing", PATIENCE)
    assert text.strip() in {
        f"The API server does not serve {kind} of this version; apply the CRDs (crds/)"
        for kind in ("wazzupaccounts", "wazzupchannels")
    }
    assert controller.probe("/healthz")[0] == 200

    define(world.plane)
    world.account_with_key()
    world.add(PHONES[0], state="active")
    world.declare("support", PHONES[0])
    controller.wait_ready()
    world.wait_reason("support", "Active", seconds=PATIENCE)
    assert controller.probe("/readyz") == (200, "ok\n")


@pytest.mark.usefixtures("older_kinds")
def test_crds_older_than_the_operator(world: World) -> None:
    world.account_with_key()
    names = ("first", "second", "third")
    for name, phone in zip(names, PHONES, strict=True):
        world.add(phone, state="qridle")
        world.declare(name, phone)
    world.add("+79865784450", state="active", name="Sales")
    world.declare("renamed", "+79865784450", displayName="Support")
    controller = world.controller()
    controller.wait_ready()

    for name in names:
        status = world.wait_reason(name, "ScanQRCode", seconds=PATIENCE)
        assert status["state"] == "ScanQRCode"
        assert "action" not in status
    status = world.wait_reason("renamed", "Active", seconds=PATIENCE)
    assert status["displayName"] == "Sales"
    assert "drift" not in status

    eventually(
        lambda: (
            world.status("default", "wazzupaccount").get("channels")
            == {"declared": 4, "observed": 4, "ready": 1}
        ),
        "the account has counted its channels",
        PATIENCE,
    )
    before = writes(world)
    for _ in range(4):
        requests = world.requests()
        look(world)
        eventually(lambda requests=requests: world.requests() > requests, "it is listed", PATIENCE)
    assert writes(world) == before
    for field in ("action", "drift"):
        lines = [line for line in controller.log().splitlines() if f"did not keep {field}" in line]
        assert len(lines) == 1, lines
        assert "apply the CRDs" in lines[0]


@pytest.mark.usefixtures("kinds")
def test_a_status_that_somebody_else_wrote_is_put_right_by_the_next_listing(world: World) -> None:
    world.account_with_key()
    listed = world.add(PHONES[0], state="active")
    world.declare("support", PHONES[0])
    world.controller().wait_ready()
    right = world.wait_reason("support", "Active", seconds=PATIENCE)

    for wrong in ({"state": "Blocked", "channelID": "another", "plainID": None}, None):
        world.api.patch("wazzupchannel", "support", {"status": wrong}, "status")
        look(world)
        eventually(
            lambda: world.status("support").get("channelID") == listed.id, "put right", PATIENCE
        )
        assert untimed(world.status("support")) == untimed(right)
    # One for the new object, one for each wrong status; one for the account.
    assert writes(world) == 4


def untimed(status: JSON) -> JSON:
    """Return a status without its times, which tell when the operator saw it."""
    conditions = [
        {key: value for key, value in each.items() if key != "lastTransitionTime"}
        for each in status["conditions"]
    ]
    return {**status, "stateSince": None, "conditions": conditions}
