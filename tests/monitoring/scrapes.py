"""Scrapes of controller and webhook in many situations."""

from tests.integration.harness.api import account, channel
from tests.integration.harness.webhook import IMPOSSIBLE, Webhook, review, stored
from tests.integration.harness.world import World


def scrape_controller(world: World) -> list[str]:
    world.account_with_key()
    controller = world.controller("--stale-after=1s")
    states = {"a": "active", "b": "qridle", "c": "disabled", "d": "notEnoughMoney"}
    for number, (name, state) in enumerate(states.items()):
        world.declare(name, f"+7986578445{number}", active=name != "c")
        world.add(f"7986578445{number}", state=state)
    world.declare("e", "+79865784459")
    world.wait_reason("a", "Active")
    world.wait_reason("e", "NotAdded")
    texts = [controller.metrics()]
    world.simulator.add_fault("status", account=world.account, code=503)
    world.wait_reason("default", "AccountUnreachable", "wazzupaccount")
    world.wait_reason("a", "AccountUnreachable", seconds=40)  # stale: three pollIntervals
    texts.append(controller.metrics())
    world.simulator.clear_faults()
    controller.stop()
    controller.start()
    world.wait_reason("a", "Active", seconds=60)
    texts.append(controller.metrics())
    return texts


def scrape_webhook(webhook: Webhook, namespace: str) -> str:
    webhook.wait_ready()
    good, bad = (stored(channel("x", phone), namespace) for phone in ("+79865784457", IMPOSSIBLE))
    assert webhook.review(review("CREATE", good))["allowed"]
    assert not webhook.review(review("CREATE", bad))["allowed"]
    webhook.review(review("CREATE", stored(account(), namespace)))
    status, _ = webhook.post("/channel", b"{")
    assert status == 400
    return webhook.metrics()
