"""Several objects that declare one number: the oldest keeps the channel."""

import json
import time
from datetime import datetime

import pytest

from tests.integration.harness.api import JSON, ApiError, channel, conditions, eventually
from tests.integration.harness.world import World

PHONE = "+79865784457"
PATIENCE = 40.0
TAKEOVER = 1 + 3.0
"""Seconds: a changed object is planned within 1 s, and a busy machine gets 3 s more."""


def message(status: JSON) -> str:
    return next(each["message"] for each in status["conditions"] if each["type"] == "Ready")


def assert_duplicate(status: JSON, progress: str = "Stalled") -> None:
    assert status["state"] == "Unknown"
    assert "channelID" not in status
    assert conditions(status) == {
        "Ready": ("False", "DuplicatePhoneNumber"),
        "Synced": ("True", "UpToDate"),
        progress: ("True", "DuplicatePhoneNumber"),
    }


def declare_later(world: World, after: JSON, name: str, phone: str, **spec: object) -> JSON:
    """Declare an object in a later second: creationTimestamp has whole seconds."""
    born = datetime.fromisoformat(after["metadata"]["creationTimestamp"]).timestamp()
    eventually(lambda: time.time() >= born + 1, "the next second has begun")
    return world.declare(name, phone, **spec)


def test_the_older_of_two_objects_keeps_the_channel_until_it_is_deleted(world: World) -> None:
    world.account_with_key()
    listed = world.add(PHONE, state="active")
    world.controller().wait_ready()
    older = world.declare("support", PHONE)
    declare_later(world, older, "sales", PHONE)

    status = world.wait_reason("sales", "DuplicatePhoneNumber", seconds=PATIENCE)
    assert_duplicate(status)
    assert '"support"' in message(status)
    assert "Delete one of the two objects" in status["action"]["summary"]
    assert world.wait_reason("support", "Active", seconds=PATIENCE)["channelID"] == listed.id

    deleted = time.monotonic()
    world.api.delete("wazzupchannel", "support")
    status = world.wait_reason("sales", "Active", seconds=PATIENCE)
    assert time.monotonic() - deleted < TAKEOVER
    assert status["channelID"] == listed.id
    assert conditions(status) == {"Ready": ("True", "Active"), "Synced": ("True", "UpToDate")}


def test_two_keys_of_one_wazzup_account_in_two_namespaces(world: World) -> None:
    other = world.elsewhere()
    world.account_with_key()
    listed = world.add(PHONE, state="active")
    controller = world.controller()
    controller.wait_ready()
    watched = f"accounts in {world.api.namespace}, {other.api.namespace}\n"
    eventually(lambda: watched in controller.log(), "both are named", PATIENCE)
    older = world.declare("front-desk", PHONE)
    declare_later(other, older, "night-shift", PHONE)

    status = other.wait_reason("night-shift", "DuplicatePhoneNumber", seconds=PATIENCE)
    assert_duplicate(status)
    assert "in another namespace" in message(status)
    assert world.wait_reason("front-desk", "Active", seconds=PATIENCE)["channelID"] == listed.id
    shown = json.dumps([other.api.get("wazzupaccount", "default")["status"], status])
    shown += json.dumps([event["note"] for event in other.api.list("event")])
    assert "front-desk" not in shown
    assert world.api.namespace not in shown

    # A restart changes nothing, in whatever order the accounts are listed.
    for each, ready in ((world, 1), (other, 0)):
        eventually(
            lambda each=each, ready=ready: (
                each.status("default", "wazzupaccount").get("channels")
                == {"declared": 1, "observed": 1, "ready": ready}
            ),
            "the account has counted its channels",
            PATIENCE,
        )
    before = patches(world, other)
    assert all(before)
    controller.stop()
    requests = world.requests()
    controller = world.controller()
    controller.wait_ready()
    eventually(lambda: world.requests() >= requests + 2, "both accounts are listed", PATIENCE)
    settle(world, other)
    assert patches(world, other) == before

    deleted = time.monotonic()
    world.api.delete("wazzupchannel", "front-desk")
    status = other.wait_reason("night-shift", "Active", seconds=PATIENCE)
    assert time.monotonic() - deleted < TAKEOVER
    assert status["channelID"] == listed.id

    # Recreated, it is the younger one, and its status does not name the other namespace's object.
    declare_later(world, other.api.get("wazzupchannel", "night-shift"), "front-desk", PHONE)
    status = world.wait_reason("front-desk", "DuplicatePhoneNumber", seconds=PATIENCE)
    assert_duplicate(status)
    assert "night-shift" not in json.dumps(status)
    assert conditions(other.status("night-shift"))["Ready"] == ("True", "Active")
    for each in (world, other):
        assert "unmanaged" not in each.status("default", "wazzupaccount")


def patches(*worlds: World) -> list[int]:
    """Count the operator's PATCHes in each namespace."""
    return [len(world.operator_patches()) for world in worlds]


def settle(*worlds: World, times: int = 3) -> None:
    """Have every account listed this many times."""
    for _ in range(times):
        before = worlds[0].requests()
        for world in worlds:
            world.api.request_listing()
        eventually(
            lambda before=before: worlds[0].requests() >= before + len(worlds),
            "the accounts are listed again",
            PATIENCE,
        )


def test_a_replacement_is_reconciling_until_the_deadline(world: World) -> None:
    world.account_with_key()
    world.add(PHONE, state="active")
    world.controller("--progress-deadline=4s").wait_ready()
    older = world.declare("support", PHONE)
    replaces = {"wazzup.dev/replaces": "support"}
    helpdesk = declare_later(world, older, "helpdesk", PHONE, annotations=replaces)
    another = {"wazzup.dev/replaces": "reception"}
    declare_later(world, helpdesk, "stranger", PHONE, annotations=another)

    status = world.wait_reason("helpdesk", "DuplicatePhoneNumber", seconds=PATIENCE)
    assert_duplicate(status, progress="Reconciling")
    since = world.condition("helpdesk", "Reconciling")
    assert since
    assert_duplicate(world.wait_reason("stranger", "DuplicatePhoneNumber", seconds=PATIENCE))

    stalled = eventually(lambda: world.condition("helpdesk", "Stalled"), "it stalls", PATIENCE)
    assert_duplicate(world.status("helpdesk"))
    waited = datetime.fromisoformat(stalled["lastTransitionTime"]) - datetime.fromisoformat(
        since["lastTransitionTime"]
    )
    assert 4 <= waited.total_seconds() <= 4 + TAKEOVER

    world.api.delete("wazzupchannel", "support")
    world.wait_reason("helpdesk", "Active", seconds=PATIENCE)


def test_one_number_with_two_channels(world: World) -> None:
    world.account_with_key()
    first = world.add(PHONE, state="disabled")
    second = world.simulator.add_channel(
        PHONE[1:], account=world.account, state="active", duplicate=True
    )
    world.declare("support", PHONE)
    world.controller().wait_ready()
    # Only one of them is not disabled.
    assert world.wait_reason("support", "Active", seconds=PATIENCE)["channelID"] == second.id

    # The recorded channel is kept while it is not disabled.
    world.simulator.patch_channel(first, state="qridle")
    world.simulator.act(second, "lose-phone")
    world.api.request_listing()
    status = world.wait_reason("support", "NoConnectionWithPhone", seconds=PATIENCE)
    assert status["channelID"] == second.id

    # Without a record, either could be meant.
    world.api.delete("wazzupchannel", "support")
    world.declare("new", PHONE)
    status = world.wait_reason("new", "AmbiguousChannel", seconds=PATIENCE)
    assert first.id in message(status)
    assert second.id in message(status)
    assert "spec.channelID" in status["action"]["summary"]
    assert status["state"] == "Unknown"
    assert "channelID" not in status
    assert conditions(status) == {
        "Ready": ("False", "AmbiguousChannel"),
        "Synced": ("True", "UpToDate"),
        "Stalled": ("True", "AmbiguousChannel"),
    }

    # spec.channelID decides, once.
    world.api.patch("wazzupchannel", "new", {"spec": {"channelID": first.id}})
    status = world.wait_reason("new", "ScanQRCode", seconds=PATIENCE)
    assert status["channelID"] == first.id
    for value in (second.id, None):
        with pytest.raises(ApiError, match="or removed unless") as refusal:
            world.api.patch("wazzupchannel", "new", {"spec": {"channelID": value}})
        assert refusal.value.status == 422


def test_an_object_being_deleted_gives_its_channel_up(world: World) -> None:
    world.account_with_key()
    listed = world.add(PHONE, state="active")
    body = channel("support", PHONE)
    body["metadata"]["finalizers"] = ["example.org/hold"]
    older = world.api.create(body)
    declare_later(world, older, "sales", PHONE)
    world.controller().wait_ready()
    world.wait_reason("support", "Active", seconds=PATIENCE)
    world.wait_reason("sales", "DuplicatePhoneNumber", seconds=PATIENCE)

    world.api.delete("wazzupchannel", "support")
    assert world.api.exists("wazzupchannel", "support")
    status = world.wait_reason("sales", "Active", seconds=PATIENCE)
    assert status["channelID"] == listed.id

    world.api.patch("wazzupchannel", "support", {"metadata": {"finalizers": None}})
    assert not world.api.exists("wazzupchannel", "support")
    settle(world, times=1)
    assert conditions(world.status("sales"))["Ready"] == ("True", "Active")
