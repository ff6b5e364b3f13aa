"""A story of twelve steps, and after each what Argo CD and Flux think of the objects."""

import time
from collections.abc import Callable
from typing import NamedTuple

from tests.integration.harness.api import JSON, account, eventually, secret
from tests.integration.harness.verdicts import (
    DEGRADED,
    DELETING,
    HEALTHY,
    PAUSED,
    PROGRESSING,
    Verdict,
    verdicts,
)
from tests.integration.harness.world import World

PHONE = "+447700900102"
PATIENCE = 60


class Step(NamedTuple):
    """What happens, and then the reasons of Ready and the verdicts."""

    happens: Callable[[World], None]
    reason: str | None
    channel: Verdict
    account: tuple[str, Verdict] | None


def declare(world: World) -> None:
    world.declare("support", PHONE)


def start_the_operator(world: World) -> None:
    world.controller().wait_ready()


def create_the_account(world: World) -> None:
    assert verdicts([world.api.create(account())]) == [PROGRESSING]


def create_the_secret(world: World) -> None:
    world.api.create(secret(world.key))
    world.api.request_listing()


def add_the_number_in_wazzup(world: World) -> None:
    world.add(PHONE, state="qridle")
    world.api.request_listing()


def scan_the_code(world: World) -> None:
    set_state(world, "active")


def declare_it_off(world: World) -> None:
    set_active(world, False)


def turn_it_off_in_wazzup(world: World) -> None:
    set_state(world, "disabled")


def declare_it_on_while_meta_blocks_it(world: World) -> None:
    set_active(world, True)
    set_state(world, "blocked")


def pause_the_account(world: World) -> None:
    set_paused(world, "true")


def resume_while_the_battery_is_flat(world: World) -> None:
    set_state(world, "phoneUnavailable")
    # With a request: otherwise the last listing counts for some seconds, with the number blocked.
    set_paused(world, None)


def wait_past_the_deadline(world: World) -> None:
    check_every_version(world)
    assert world.controllers[0].stop() == 0
    world.controller("--progress-deadline=1s").wait_ready()
    eventually(lambda: world.condition("support", "Stalled"), "it stalls", PATIENCE)


LISTED = ("UpToDate", HEALTHY)
NO_SECRET = ("SecretNotFound", PROGRESSING)
STORY = [
    Step(declare, None, PROGRESSING, None),
    Step(start_the_operator, "AccountNotFound", PROGRESSING, None),
    Step(create_the_account, "SecretNotFound", PROGRESSING, NO_SECRET),
    Step(create_the_secret, "NotAdded", PROGRESSING, LISTED),
    Step(add_the_number_in_wazzup, "ScanQRCode", PROGRESSING, LISTED),
    Step(scan_the_code, "Active", HEALTHY, LISTED),
    Step(declare_it_off, "StillActive", PROGRESSING, LISTED),
    Step(turn_it_off_in_wazzup, "Off", HEALTHY, LISTED),
    Step(declare_it_on_while_meta_blocks_it, "Blocked", DEGRADED, LISTED),
    Step(pause_the_account, "Paused", PAUSED, ("Paused", PAUSED)),
    Step(resume_while_the_battery_is_flat, "NoConnectionWithPhone", PROGRESSING, LISTED),
    Step(wait_past_the_deadline, "NoConnectionWithPhone", DEGRADED, LISTED),
]


def test_a_story_of_twelve_steps(world: World) -> None:
    for step in STORY:
        step.happens(world)
        channel = wait_for(world, "wazzupchannel", "support", step.reason)
        assert verdicts([channel]) == [step.channel], step
        if step.account:
            reason, verdict = step.account
            found = wait_for(world, "wazzupaccount", "default", reason)
            assert verdicts([found]) == [verdict], step

    hold(world, ["example.com/hold"])
    world.api.delete("wazzupchannel", "support")
    assert verdicts([world.api.get("wazzupchannel", "support")]) == [DELETING]
    hold(world, [])


def hold(world: World, finalizers: list[str]) -> None:
    world.api.patch("wazzupchannel", "support", {"metadata": {"finalizers": finalizers}})


def wait_for(world: World, kind: str, name: str, reason: str | None) -> JSON:
    """Return the object once its status has this reason and is for its generation."""

    def look() -> JSON | None:
        body = world.api.get(kind, name)
        observed = body["status"]["observedGeneration"] == body["metadata"]["generation"]
        return body if reason_of(body) == reason and (observed or reason is None) else None

    return eventually(look, f"{name} is Ready={reason}", PATIENCE)


def reason_of(body: JSON) -> str | None:
    conditions = body["status"].get("conditions", [])
    return next((each["reason"] for each in conditions if each["type"] == "Ready"), None)


def set_state(world: World, state: str) -> None:
    (channel,) = world.simulator.channels(world.account)
    world.simulator.patch_channel(channel, state=state)
    world.api.request_listing()


def set_active(world: World, active: bool) -> None:
    """Change spec.active; until the operator has seen that, the object is in progress."""
    changed = world.api.patch("wazzupchannel", "support", {"spec": {"active": active}})
    assert verdicts([changed]) == [PROGRESSING]


def set_paused(world: World, value: str | None) -> None:
    annotations = {"wazzup.dev/paused": value, "wazzup.dev/requested-at": str(time.time_ns())}
    world.api.patch("wazzupaccount", "default", {"metadata": {"annotations": annotations}})


def check_every_version(world: World) -> None:
    """Check each version of the channel until now, within the progress deadline."""
    versions = [
        entry["responseObject"]
        for verb in ("create", "patch")
        for entry in world.writes(verb)
        if entry["responseStatus"]["code"] < 300
    ]
    assert len(versions) > len(STORY)
    for body, verdict in zip(versions, verdicts(versions), strict=True):
        # Paused: until the operator has seen the end of a pause.
        if body["spec"]["active"] and body["status"].get("state") != "Active" and verdict != PAUSED:
            assert not {"Healthy", "Current"} & set(verdict), body
        if {"Degraded", "Failed"} & set(verdict):
            assert reason_of(body) == "Blocked", body
