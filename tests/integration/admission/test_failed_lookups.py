"""A webhook that may not look up numbers: the failurePolicy decides."""

from collections.abc import Callable, Iterator

import pytest

from dev.controlplane.plane import ControlPlane
from tests.integration.admission.connections import Start
from tests.integration.admission.site import PHONE
from tests.integration.harness.api import Api, ApiError, channel, eventually
from tests.integration.harness.release import ACCOUNTS, RIGHTS, given
from tests.integration.harness.webhook import (
    IMPOSSIBLE,
    PATIENCE,
    Authority,
    Configuration,
    Webhook,
)
from tests.integration.harness.world import World

FAILURES = "wazzup_webhook_lookup_failures_total"
MISSING = "the webhook may not list wazzupchannels.wazzup.dev in namespace '"


@pytest.fixture
def point(plane: ControlPlane) -> Iterator[Callable[[Webhook, str], None]]:
    """Let the API server call a webhook, with this failurePolicy."""
    configuration = Configuration(Api(plane.kubeconfig))

    def point(webhook: Webhook, policy: str) -> None:
        configuration.point(webhook.port, webhook.trusted, policy=policy)
        configuration.wait_refusing()

    try:
        yield point
    finally:
        configuration.remove()


def create(world: World, name: str, phone: str = PHONE) -> str:
    """Create a WazzupChannel; return the API server's refusal, or "" if there is none."""
    try:
        world.api.create(channel(name, phone))
    except ApiError as error:
        return f"{error.status}: {error.message}"
    return ""


def take_away_the_right_to_list(world: World, release: str) -> None:
    role = f"{RIGHTS}/clusterroles/{release}-webhook"
    rules = world.api.request("GET", role)["rules"]
    kept = [each for each in rules if each["resources"] != ["wazzupchannels"]]
    assert len(kept) == len(rules) - 1
    world.api.request("PATCH", role, {"rules": kept}, "application/merge-patch+json")
    eventually(
        lambda: not may_list(world, f"{ACCOUNTS}{release}-webhook"), "the right is gone", PATIENCE
    )


def may_list(world: World, account: str) -> bool:
    attributes = {
        "namespace": world.api.namespace,
        "verb": "list",
        "group": "wazzup.dev",
        "resource": "wazzupchannels",
    }
    review = world.api.request(
        "POST",
        "apis/authorization.k8s.io/v1/subjectaccessreviews",
        {"spec": {"user": account, "resourceAttributes": attributes}},
    )
    allowed: bool = review["status"]["allowed"]
    return allowed


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
def test_without_the_right_to_list_the_failure_policy_decides(
    plane: ControlPlane,
    start: Start,
    authority: Authority,
    point: Callable[[Webhook, str], None],
    world: World,
    policy: str,
) -> None:
    release = f"deprived-{policy.lower()}"
    webhook = start(authority, given=given(plane, release, "webhook"))
    point(webhook, policy)
    assert create(world, "support") == ""
    assert "is already declared" in create(world, "sales")
    assert webhook.count(FAILURES) == 0

    take_away_the_right_to_list(world, release)
    refusal = create(world, "sales")
    if policy == "Ignore":
        assert refusal == ""
    else:
        assert refusal.startswith('500: Internal error occurred: failed calling webhook "channel.')
        assert f"{MISSING}{world.api.namespace}'; grant its service account this" in refusal
    assert world.api.exists("wazzupchannel", "sales") == (policy == "Ignore")
    assert webhook.count(FAILURES, resource="wazzupchannels", cause="forbidden") == 1
    assert f"{MISSING}{world.api.namespace}'" in webhook.log()

    # What needs no lookup of numbers does not depend on the policy.
    assert "cannot be a phone number" in create(world, "impossible", IMPOSSIBLE)
    world.api.patch("wazzupchannel", "support", {"spec": {"active": False}})
    assert webhook.count(FAILURES) == 1
