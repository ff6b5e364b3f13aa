"""Scrapes of controller, webhook and API server in many situations."""

import contextlib

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.harness.api import Api, ApiError, account, channel, eventually
from tests.integration.harness.webhook import (
    IMPOSSIBLE,
    PATIENCE,
    Authority,
    Configuration,
    Webhook,
    review,
    stored,
)
from tests.integration.harness.world import World


def scrape_controller(world: World) -> list[str]:
    world.account_with_key()
    world.values = ("webhook.enabled=true",)  # has it maintain a certificate
    controller = world.controller("--stale-after=1s")
    states = {"a": "active", "b": "qridle", "c": "disabled", "d": "notEnoughMoney"}
    for number, (name, state) in enumerate(states.items()):
        world.declare(name, f"+7986578445{number}", active=name != "c")
        world.add(f"7986578445{number}", state=state)
    world.declare("e", "+79865784459")
    world.add("79865784458", state="active")  # unmanaged
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
    for path in ("/channel", "/unknown"):
        status, _ = webhook.post(path, b"{")
        assert status == 400
    return webhook.metrics()


CALLS = (
    "apiserver_admission_webhook_fail_open_count",
    "apiserver_admission_webhook_rejection_count",
)
WEBHOOKS = ("channel.wazzup.dev", "account.wazzup.dev")


def scrape_api_server(api: Api, webhook: Webhook) -> str:
    """Let the API server refuse an object for the webhook, and fail to call it with either policy.

    It fails because the configuration's caBundle is wrong. Returns its metrics about calls.
    """
    configuration = Configuration(api)
    try:
        configuration.point(webhook.port, webhook.trusted)
        configuration.wait_refusing()
        for policy, metric in zip(("Ignore", "Fail"), CALLS, strict=True):
            before = _failed_calls(api, metric)
            configuration.point(webhook.port, Authority().certificate, policy=policy)
            eventually(
                lambda metric=metric, before=before: _all_rise(api, metric, before),
                f"calls fail with failurePolicy {policy}",
                PATIENCE,
            )
    finally:
        configuration.remove()
    return _calls(api)


def _all_rise(api: Api, metric: str, before: dict[str, float]) -> bool:
    """Create an object of each kind; return whether more calls of both webhooks have failed."""
    for body in (channel("x", "+79865784457"), account()):
        with contextlib.suppress(ApiError):
            api.request("POST", api.path(body["kind"].lower()), body, dryRun="All")
    after = _failed_calls(api, metric)
    return all(after[name] > before[name] for name in WEBHOOKS)


def _failed_calls(api: Api, metric: str) -> dict[str, float]:
    """Return how many calls of each webhook have failed."""
    counts = dict.fromkeys(WEBHOOKS, 0.0)
    for family in text_string_to_metric_families(_calls(api)):
        for sample in family.samples:
            if sample.name == metric and sample.labels.get("error_type") != "no_error":
                counts[sample.labels["name"]] += sample.value
    return counts


def _calls(api: Api) -> str:
    """Return the samples about calls. Without their types, the parser keeps their names."""
    lines: list[str] = api.request("GET", "metrics")["text"].splitlines()
    return "".join(f"{line}\n" for line in lines if line.startswith(CALLS) and "wazzup" in line)
