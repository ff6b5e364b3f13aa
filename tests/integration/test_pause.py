"""The annotation wazzup.dev/paused, on a channel and on an account."""

from tests.integration.harness.api import account, conditions, eventually, secret
from tests.integration.harness.world import World

PHONE = "+79865784457"
OTHER_PHONE = "+79865784458"
PATIENCE = 40.0


def pause(world: World, kind: str, name: str, value: str | None = "true") -> None:
    """Annotate an object with wazzup.dev/paused; None resumes it."""
    annotations = {"wazzup.dev/paused": value}
    world.api.patch(kind, name, {"metadata": {"annotations": annotations}})


def test_a_paused_channel_keeps_its_state(world: World) -> None:
    world.account_with_key()
    listed = world.add(PHONE, state="qridle")
    other = world.add(OTHER_PHONE, state="qridle")
    world.declare("support", PHONE)
    world.declare("sales", OTHER_PHONE)
    world.controller("--progress-deadline=2s").wait_ready()
    eventually(lambda: world.condition("support", "Stalled"), "it stalls", PATIENCE)

    pause(world, "wazzupchannel", "support")
    status = world.wait_reason("support", "Paused", seconds=PATIENCE)
    assert conditions(status) == {"Ready": ("Unknown", "Paused"), "Synced": ("Unknown", "Paused")}
    assert (status["state"], status["channelID"]) == ("ScanQRCode", listed.id)
    assert status["observedGeneration"] == 1

    # Only observedGeneration changes; "sales" shows that the account has been listed.
    world.simulator.act(listed, "scan")
    world.simulator.act(other, "scan")
    world.api.request_listing()
    world.wait_reason("sales", "Active", seconds=PATIENCE)
    assert world.status("support") == status
    world.api.patch("wazzupchannel", "support", {"spec": {"active": False}})
    eventually(lambda: world.status("support")["observedGeneration"] == 2, "observed", PATIENCE)
    for each in (*status["conditions"], status):
        each["observedGeneration"] = 2
    assert world.status("support") == status

    # The end of a pause restarts the progress deadline.
    world.simulator.act(listed, "logout")
    world.api.patch("wazzupchannel", "support", {"spec": {"active": True}})
    eventually(lambda: world.status("support")["observedGeneration"] == 3, "observed", PATIENCE)
    pause(world, "wazzupchannel", "support", None)
    status = world.wait_reason("support", "ScanQRCode", seconds=PATIENCE)
    assert conditions(status) == {
        "Ready": ("False", "ScanQRCode"),
        "Synced": ("True", "UpToDate"),
        "Reconciling": ("True", "ScanQRCode"),
    }


def test_a_paused_account_is_not_listed(world: World) -> None:
    second = f"{world.account}-2"
    world.simulator.add_account([f"key-{second}"], id=second)
    world.account_with_key()
    world.api.create(secret(f"key-{second}", name="second"))
    world.api.create(account("second", secret="second"))
    listed = world.add(PHONE, state="active")
    world.declare("support", PHONE)
    world.declare("not-added", OTHER_PHONE)
    world.controller().wait_ready()
    world.wait_reason("support", "Active", seconds=PATIENCE)

    pause(world, "wazzupaccount", "default")
    status = world.wait_reason("default", "Paused", "wazzupaccount", seconds=PATIENCE)
    assert conditions(status) == {"Ready": ("Unknown", "Paused")}
    for name, state in (("support", "Active"), ("not-added", "NotAdded")):
        status = world.wait_reason(name, "Paused", seconds=PATIENCE)
        assert conditions(status) == {
            "Ready": ("Unknown", "Paused"),
            "Synced": ("Unknown", "Paused"),
        }
        assert status["state"] == state
    requests = world.requests()

    # Neither the interval nor a request has it listed.
    world.simulator.act(listed, "logout")
    world.api.request_listing()
    others = world.simulator.requests(second).total
    eventually(
        lambda: world.simulator.requests(second).total >= others + 2,
        "the other account is listed twice",
        PATIENCE,
    )
    assert world.requests() == requests
    # Changed specs are still observed.
    world.api.patch("wazzupchannel", "support", {"spec": {"displayName": "Support"}})
    eventually(lambda: world.status("support")["observedGeneration"] == 2, "observed", PATIENCE)
    assert conditions(world.status("support"))["Ready"] == ("Unknown", "Paused")
    assert world.status("support")["state"] == "Active"

    pause(world, "wazzupaccount", "default", None)
    world.wait_reason("support", "ScanQRCode", seconds=PATIENCE)
    world.wait_reason("not-added", "NotAdded", seconds=PATIENCE)
    world.wait_reason("default", "UpToDate", "wazzupaccount", seconds=PATIENCE)
    assert world.requests() > requests
