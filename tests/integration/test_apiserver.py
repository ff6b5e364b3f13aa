"""An API server that crashes, loses its history, or serves no CRDs or older ones."""

from collections.abc import Iterator

import pytest

from dev.controlplane.plane import ControlPlane
from tests.integration.harness.api import JSON, Api, eventually
from tests.integration.harness.crds import install, served, uninstall
from tests.integration.harness.rights import RECORDER
from tests.integration.harness.world import World

PHONES = ("+79865784457", "+79865784458", "+79865784459")
PATIENCE = 60.0


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane without the CRDs, which these tests may kill."""
    with ControlPlane(tmp_path_factory.mktemp("killed")) as plane:
        yield plane
    RECORDER.look(plane.audit_log)


@pytest.fixture
def kinds(plane: ControlPlane) -> None:
    """Apply the CRDs of this version."""
    if not served(Api(plane.kubeconfig)):
        install(plane)


@pytest.fixture
def older_kinds(plane: ControlPlane) -> Iterator[None]:
    """Apply CRDs without status.action and status.drift."""

    def without_action_and_drift(crd: JSON) -> None:
        (version,) = crd["spec"]["versions"]
        status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
        for field in ("action", "drift"):
            status["properties"].pop(field, None)

    uninstall(plane)
    install(plane, without_action_and_drift)
    yield
    uninstall(plane)


def test_crds_applied_after_the_operator_started(world: World) -> None:
    uninstall(world.plane)
    controller = world.controller()

    def sentence() -> str:
        status, text = controller.probe("/readyz")
        return text if status == 503 and "CRD" in text else ""

    text = eventually(sentence, "/readyz reports the missing CRDs", PATIENCE)
    assert text.strip() in {
        f"The API server does not serve {kind} in namespace {world.api.namespace};"
        " apply the CRDs of this version"
        ' (chart value crds.enabled, or the output of "wazzup-operator crds")'
        for kind in ("wazzupaccounts", "wazzupchannels")
    }
    assert controller.probe("/healthz")[0] == 200

    install(world.plane)
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
        "the account counts its channels",
        PATIENCE,
    )
    before = len(world.operator_patches())
    for _ in range(4):
        requests = world.requests()
        world.api.request_listing()
        eventually(lambda requests=requests: world.requests() > requests, "it is listed", PATIENCE)
    assert len(world.operator_patches()) == before
    for field in ("action", "drift"):
        lines = [line for line in controller.log().splitlines() if f"did not keep {field}" in line]
        assert len(lines) == 1, lines
        assert "apply the CRDs" in lines[0]


@pytest.mark.usefixtures("kinds")
def test_the_next_listing_overwrites_a_status_that_somebody_else_wrote(world: World) -> None:
    world.account_with_key()
    listed = world.add(PHONES[0], state="active")
    world.declare("support", PHONES[0])
    world.controller().wait_ready()
    right = world.wait_reason("support", "Active", seconds=PATIENCE)
    world.wait_reason("default", "UpToDate", "wazzupaccount", PATIENCE)

    for wrong in ({"state": "Blocked", "channelID": "another", "plainID": None}, None):
        world.api.patch("wazzupchannel", "support", {"status": wrong}, "status")
        world.api.request_listing()
        eventually(
            lambda: world.status("support").get("channelID") == listed.id, "it is right", PATIENCE
        )
        assert untimed(world.status("support")) == untimed(right)
    # One for the new object, one for each wrong status, one for the account.
    assert len(world.operator_patches()) == 4


def untimed(status: JSON) -> JSON:
    """Return a status without its times."""
    conditions = [
        {key: value for key, value in each.items() if key != "lastTransitionTime"}
        for each in status["conditions"]
    ]
    return {**status, "stateSince": None, "conditions": conditions}
