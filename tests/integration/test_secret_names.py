"""The controller reads only Secrets that the chart's rbac.secretNames names."""

from tests.integration.harness.api import account, secret
from tests.integration.harness.world import World

PATIENCE = 60
"""The controller retries a Secret within 30 s."""


def test_another_secret_than_those_of_the_chart(world: World) -> None:
    world.values = ()
    world.account_with_key()
    second = f"second-{world.key}"
    world.simulator.change_account(world.account, keys=[world.key, second])
    world.api.create(secret(second, "sales"))
    world.api.create(account("sales", "sales"))
    controller = world.controller()

    world.wait_reason("default", "UpToDate", "wazzupaccount", PATIENCE)
    world.wait_reason("sales", "SecretNotFound", "wazzupaccount", PATIENCE)
    assert world.condition("sales", "Ready", "wazzupaccount")["message"] == (
        'The operator may not read the Secret "sales". Add "sales" to the chart value'
        " rbac.secretNames, or allow the controller's service account to get it."
    )

    world.values = ("rbac.secretNames={wazzup,sales}",)
    world.apply_release()
    world.wait_reason("sales", "UpToDate", "wazzupaccount", PATIENCE)
    assert controller.stop() == 0
