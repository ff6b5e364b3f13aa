"""An object that is moved between two accounts and back."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.integration.harness.api import JSON, account, eventually, secret
from tests.integration.harness.controller import Controller
from tests.integration.harness.world import World
from wazzup_simulator.client import Channel

PHONE = "+79865784457"
PATIENCE = 40.0


class Site:
    """Two accounts with one number each; in another namespace a younger object wants the first's.

    The account there has a second key of the first one's account in Wazzup.
    """

    def __init__(self, world: World) -> None:
        self.world, self.other = world, world.elsewhere()
        self.second = f"{world.account}-2"
        world.simulator.add_account([f"key-{self.second}"], id=self.second)
        world.account_with_key()
        world.api.create(secret(f"key-{self.second}", name="second"))
        world.api.create(account("second", secret="second"))
        self.first_channel = world.add(PHONE, state="active")
        self.second_channel = world.simulator.add_channel(
            PHONE[1:], account=self.second, state="qridle"
        )
        self.controller = self.start()
        older = world.declare("support", PHONE)
        self.wait({"state": "Active", "channel": self.first_channel})
        born = older["metadata"]["creationTimestamp"]
        younger = self.other.declare("waiting", PHONE)
        while younger["metadata"]["creationTimestamp"] == born:
            self.other.api.delete("wazzupchannel", "waiting")
            younger = self.other.declare("waiting", PHONE)

    def start(self) -> Controller:
        controller = self.world.controller()
        controller.wait_ready()
        return controller

    def move(self, name: str | None, **spec: object) -> None:
        """Let the object refer to another account; None: to the default one."""
        reference = None if name is None else {"name": name}
        self.world.api.patch(
            "wazzupchannel", "support", {"spec": {"accountRef": reference, **spec}}
        )

    def wait(self, expected: Mapping[str, Any]) -> JSON:
        """Wait for a whole answer to the newest generation; return the status."""
        reason = expected.get("reason", expected["state"])

        def look() -> JSON | None:
            body = self.world.api.get("wazzupchannel", "support")
            status: JSON = body["status"]
            if status["observedGeneration"] != body["metadata"]["generation"]:
                return None
            return status if condition(status, "Ready")[1] == reason else None

        status = eventually(look, f"the object is {reason}", PATIENCE)
        channel: Channel | None = expected.get("channel")
        assert status["state"] == expected["state"]
        assert status.get("channelID") == (channel and channel.id)
        assert ("plainID" in status) == (channel is not None)
        return status

    def at(self, name: str, *, waiting: str, **expected: Any) -> JSON:
        """Assert everything there is to be seen once the object is in this account."""
        status = self.wait(expected)
        reason = expected.get("reason", expected["state"])
        assert status["account"] == name
        synced = expected.get("synced", ("True", "UpToDate"))
        assert condition(status, "Synced") == synced
        claimed = self.other.wait_reason("waiting", waiting, seconds=PATIENCE)
        assert claimed.get("channelID") == (self.first_channel.id if waiting == "Active" else None)
        eventually(
            lambda: self.counts() == {(name, expected["state"])},
            f"the metrics tell of one object in {name}, which is {expected['state']}",
            PATIENCE,
        )
        for each in ("default", "second"):
            counts = {
                "declared": int(each == name),
                "observed": 1,
                "ready": int(each == name and reason == "Active"),
            }
            # The first's channel is somebody's in any case: the other namespace's object's.
            alone = {self.second_channel.id} if each == "second" != name else set()
            eventually(
                lambda each=each, counts=counts, alone=alone: self.account(each) == (counts, alone),
                f"{each} has {counts} and {alone or 'nothing'} unmanaged",
                PATIENCE,
            )
        return status

    def account(self, name: str) -> tuple[JSON | None, set[str]]:
        status = self.world.status(name, "wazzupaccount")
        return status.get("channels"), {each["channelID"] for each in status.get("unmanaged", [])}

    def counts(self) -> set[tuple[str, str]]:
        """Return account and state of each object of the namespace, by both metrics."""
        found: dict[str, list[tuple[str, str]]] = {
            "wazzup_channels": [],
            "wazzup_channel_state": [],
        }
        for line in self.controller.metrics().splitlines():
            metric, _, rest = line.partition("{")
            labels = dict(re.findall(r'(\w+)="([^"]*)"', rest))
            if metric in found and labels["namespace"] == self.world.api.namespace:
                found[metric] += [(labels["account"], labels["state"])] * round(
                    float(line.split()[-1])
                )
        assert found["wazzup_channels"] == found["wazzup_channel_state"]
        return set(found["wazzup_channels"])


def condition(status: JSON, type_: str) -> tuple[str, str]:
    (found,) = (each for each in status.get("conditions", []) if each["type"] == type_)
    return found["status"], found["reason"]


@pytest.fixture
def site(world: World) -> Site:
    return Site(world)


def test_an_object_is_moved_between_two_accounts_and_back(site: Site) -> None:
    first = {"state": "Active", "channel": site.first_channel, "waiting": "DuplicatePhoneNumber"}
    second = {"state": "ScanQRCode", "channel": site.second_channel, "waiting": "Active"}
    site.at("default", **first)

    site.move("second")
    site.at("second", **second)
    site.move(None)
    site.at("default", **first)

    site.controller.kill()
    site.move("second")
    site.controller = site.start()
    site.at("second", **second)
    site.move("default")  # in the middle of which it ends
    site.controller.stop()
    site.controller = site.start()
    site.at("default", **first)


OUTAGES = {
    "no such account": ("third", "AccountNotFound", ("False", "AccountNotFound")),
    "no Secret": ("keyless", "SecretNotFound", ("False", "SecretNotFound")),
    "a wrong key": ("locked", "CredentialsInvalid", ("False", "CredentialsInvalid")),
    "a pause": ("paused", "Paused", ("Unknown", "Paused")),
}


def test_nothing_of_the_former_account_is_shown_where_nothing_can_be_seen(site: Site) -> None:
    first = {"state": "Active", "channel": site.first_channel, "waiting": "DuplicatePhoneNumber"}
    site.world.api.create(account("keyless", secret="keyless"))
    site.world.api.create(secret("key-of-nobody", name="locked"))
    site.world.api.create(account("locked", secret="locked"))
    paused = account("paused", secret="second")
    paused["metadata"]["annotations"] = {"wazzup.dev/paused": "true"}
    site.world.api.create(paused)
    for name, reason, synced in OUTAGES.values():
        site.move(name)
        site.at(name, state="Unknown", reason=reason, synced=synced, waiting="Active")
        site.move("default")
        site.at("default", **first)


def test_a_declared_id_changes_with_the_account(site: Site) -> None:
    first = {"state": "Active", "channel": site.first_channel, "waiting": "DuplicatePhoneNumber"}
    site.move("second", channelID=site.second_channel.id)
    second = {"state": "ScanQRCode", "channel": site.second_channel, "waiting": "Active"}
    site.at("second", **second)
    site.move("default", channelID=site.first_channel.id)
    site.at("default", **first)
    # It is the other account's: there is no such channel, and no falling back to the number.
    site.move("second")
    site.at("second", state="NotAdded", waiting="Active")
    site.move(None)
    site.at("default", **first)
