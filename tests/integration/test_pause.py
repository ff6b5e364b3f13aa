"""The annotation wazzup.dev/paused, on a channel and on an account."""

import time
from datetime import datetime

from tests.integration.harness.api import JSON, account, eventually, secret
from tests.integration.harness.world import World

PHONE = "+79865784457"
OTHER_PHONE = "+79865784458"
PATIENCE = 40.0


def conditions(status: JSON) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}


def annotate(world: World, kind: str, name: str, **annotations: str | None) -> None:
    named = {f"wazzup.dev/{key}": value for key, value in annotations.items()}
    world.api.patch(kind, name, {"metadata": {"annotations": named}})


def look(world: World) -> None:
    """Have the account listed now, so as not to wait for its next poll."""
    annotate(world, "wazzupaccount", "default", **{"requested-at": str(time.time_ns())})


def wait_next_second(after: JSON) -> None:
    """Wait until what is created now is younger: creationTimestamp has whole seconds."""
    born = datetime.fromisoformat(after["metadata"]["creationTimestamp"]).timestamp()
    eventually(lambda: time.time() >= born + 1, "the next second has begun")


def test_a_paused_channel_keeps_its_state_until_the_end_of_the_pause(world: World) -> None:
    world.account_with_key()
    listed = world.add(PHONE, state="qridle")
    other = world.add(OTHER_PHONE, state="qridle")
    world.declare("support", PHONE)
    world.declare("sales", OTHER_PHONE)
    world.controller("--progress-deadline=2s").wait_ready()
    eventually(lambda: world.condition("support", "Stalled"), "it stalls", PATIENCE)

    annotate(world, "wazzupchannel", "support", paused="true")
    status = world.wait_reason("support", "Paused", seconds=PATIENCE)
    assert conditions(status) == {"Ready": ("Unknown", "Paused"), "Synced": ("Unknown", "Paused")}
    assert (status["state"], status["channelID"]) == ("ScanQRCode", listed.id)
    assert status["observedGeneration"] == 1

    # Nothing but the generation moves, whatever happens in Wazzup; "sales" shows that it is seen.
    world.simulator.act(listed, "scan")
    world.simulator.act(other, "scan")
    look(world)
    world.wait_reason("sales", "Active", seconds=PATIENCE)
    assert world.status("support") == status
    world.api.patch("wazzupchannel", "support", {"spec": {"active": False}})
    eventually(lambda: world.status("support")["observedGeneration"] == 2, "it is seen", PATIENCE)
    for each in (*status["conditions"], status):
        each["observedGeneration"] = 2
    assert world.status("support") == status

    # The end of a pause starts the clock of the deadline again.
    world.simulator.act(listed, "logout")
    world.api.patch("wazzupchannel", "support", {"spec": {"active": True}})
    eventually(lambda: world.status("support")["observedGeneration"] == 3, "it is seen", PATIENCE)
    annotate(world, "wazzupchannel", "support", paused=None)
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

    annotate(world, "wazzupaccount", "default", paused="true")
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

    # Not by its interval, and not on request either.
    world.simulator.act(listed, "logout")
    look(world)
    others = world.simulator.requests(second).total
    eventually(
        lambda: world.simulator.requests(second).total >= others + 2,
        "the other account is listed twice more",
        PATIENCE,
    )
    assert world.requests() == requests
    # Its specs are still seen.
    world.api.patch("wazzupchannel", "support", {"spec": {"displayName": "Support"}})
    eventually(lambda: world.status("support")["observedGeneration"] == 2, "it is seen", PATIENCE)
    assert conditions(world.status("support"))["Ready"] == ("Unknown", "Paused")
    assert world.status("support")["state"] == "Active"

    annotate(world, "wazzupaccount", "default", paused=None)
    world.wait_reason("support", "ScanQRCode", seconds=PATIENCE)
    world.wait_reason("not-added", "NotAdded", seconds=PATIENCE)
    world.wait_reason("default", "UpToDate", "wazzupaccount", seconds=PATIENCE)
    assert world.requests() > requests


def test_a_paused_object_keeps_its_claim(world: World) -> None:
    other = world.elsewhere()
    world.account_with_key()
    listed = world.add(PHONE, state="active")
    world.add(OTHER_PHONE, state="active")

    controller = world.controller()
    controller.wait_ready()
    seen = world.declare("seen", PHONE)
    world.wait_reason("seen", "Active", seconds=PATIENCE)
    annotate(world, "wazzupchannel", "seen", paused="true")
    never_seen = world.declare("never-seen", OTHER_PHONE, annotations={"wazzup.dev/paused": "true"})
    for name in ("seen", "never-seen"):
        world.wait_reason(name, "Paused", seconds=PATIENCE)
    wait_next_second(seen)
    wait_next_second(never_seen)
    world.declare("younger", PHONE)
    world.declare("younger-still", OTHER_PHONE)
    other.declare("younger-elsewhere", PHONE)

    losers = ((world, "younger"), (world, "younger-still"), (other, "younger-elsewhere"))
    for each, name in losers:
        status = each.wait_reason(name, "DuplicatePhoneNumber", seconds=PATIENCE)
        assert (status["state"], status.get("channelID")) == ("Unknown", None)

    # Also where a new process sees the younger ones at the same time as the paused one.
    before = {name: each.status(name) for each, name in losers}
    controller.kill()
    requests = world.requests()
    world.controller().wait_ready()
    eventually(lambda: world.requests() >= requests + 2, "both accounts are listed", PATIENCE)
    for each in (world, other):
        look(each)
    eventually(lambda: world.requests() >= requests + 4, "and listed again", PATIENCE)
    assert {name: each.status(name) for each, name in losers} == before
    status = world.status("seen")
    assert (status["state"], status["channelID"]) == ("Active", listed.id)
    assert conditions(status)["Ready"] == ("Unknown", "Paused")

    annotate(world, "wazzupchannel", "seen", paused=None)
    assert world.wait_reason("seen", "Active", seconds=PATIENCE)["channelID"] == listed.id
