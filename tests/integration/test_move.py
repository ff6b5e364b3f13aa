"""An object moved between two accounts and back."""

import re
from collections.abc import Mapping
from typing import Any

from tests.integration.harness.api import JSON, account, conditions, eventually, secret
from tests.integration.harness.controller import Controller
from tests.integration.harness.world import World
from wazzup_simulator.client import Channel

PHONE = "+79865784457"
PATIENCE = 40.0


class Site:
    """Two accounts with one number each, and a younger object in another namespace.

    The younger object waits for the first account's channel: its account has another key of the
    same Wazzup account.
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

    def move(self, name: str | None) -> None:
        """Point the object to another account; None is the default one."""
        reference = None if name is None else {"name": name}
        self.world.api.patch("wazzupchannel", "support", {"spec": {"accountRef": reference}})

    def wait(self, expected: Mapping[str, Any]) -> JSON:
        """Wait for the status of the newest generation."""

        def look() -> JSON | None:
            status = processed(self.world)
            return (
                status if status and conditions(status)["Ready"][1] == expected["state"] else None
            )

        status = eventually(look, f"the object is {expected['state']}", PATIENCE)
        channel: Channel = expected["channel"]
        assert (status["state"], status["channelID"]) == (expected["state"], channel.id)
        assert status["plainID"] == PHONE[1:]
        return status

    def assert_moved(self, name: str, *, waiting: str, **expected: Any) -> None:
        """Check both objects, both accounts and the metrics once the object is in an account."""
        status = self.wait(expected)
        assert status["account"] == name
        assert conditions(status)["Synced"] == ("True", "UpToDate")
        claimed = self.other.wait_reason("waiting", waiting, seconds=PATIENCE)
        assert claimed.get("channelID") == (self.first_channel.id if waiting == "Active" else None)
        eventually(
            lambda: self.counts() == {(name, expected["state"])},
            f"the metrics count one object in {name}, which is {expected['state']}",
            PATIENCE,
        )
        for each in ("default", "second"):
            counts = {
                "declared": int(each == name),
                "observed": 1,
                "ready": int(each == name and expected["state"] == "Active"),
            }
            # An object always declares the first account's channel: this one, or the younger one.
            unmanaged = {self.second_channel.id} if each == "second" != name else set()
            eventually(
                lambda each=each, expected=(counts, unmanaged): self.account(each) == expected,
                f"{each} has {counts} and {unmanaged or 'nothing'} unmanaged",
                PATIENCE,
            )

    def account(self, name: str) -> tuple[JSON | None, set[str]]:
        """Return an account's counts and its unmanaged channels."""
        status = self.world.status(name, "wazzupaccount")
        return status.get("channels"), {each["channelID"] for each in status.get("unmanaged", [])}

    def counts(self) -> set[tuple[str, str]]:
        """Return account and state of the namespace's objects, which two metrics agree on."""
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


def test_an_object_is_moved_between_two_accounts_and_back(world: World) -> None:
    site = Site(world)
    first = {"state": "Active", "channel": site.first_channel, "waiting": "DuplicatePhoneNumber"}
    second = {"state": "ScanQRCode", "channel": site.second_channel, "waiting": "Active"}
    site.assert_moved("default", **first)

    site.move("second")
    site.assert_moved("second", **second)
    site.move(None)
    site.assert_moved("default", **first)

    site.controller.kill()
    site.move("second")
    site.controller = site.start()
    site.assert_moved("second", **second)
    site.move("default")  # and restart in the middle of it
    site.controller.stop()
    site.controller = site.start()
    site.assert_moved("default", **first)


def test_moved_back_it_has_its_own_of_two_channels_again(world: World) -> None:
    """Without its record it would be an AmbiguousChannel."""
    world.account_with_key()
    own = world.add(PHONE, state="active")
    world.declare("support", PHONE)
    world.controller().wait_ready()
    world.wait_reason("support", "Active", seconds=PATIENCE)
    world.simulator.add_channel(PHONE[1:], account=world.account, state="active", duplicate=True)
    world.api.request_listing()
    eventually(lambda: observed(world) == 2, "both channels are listed", PATIENCE)

    refer(world, "missing")
    world.wait_reason("support", "AccountNotFound", seconds=PATIENCE)
    refer(world, "default")
    before = world.wait_reason("support", "Active", seconds=PATIENCE)
    assert before["channelID"] == own.id

    annotate(world, "wazzupchannel", "support", {"wazzup.dev/paused": "true"})
    world.wait_reason("support", "Paused", seconds=PATIENCE)
    for name in ("missing", "default"):
        refer(world, name)
        status = eventually(lambda: processed(world), "the move is seen", PATIENCE)
        assert conditions(status)["Ready"] == ("Unknown", "Paused")
        changed = {key for key in before | status if before.get(key) != status.get(key)}
        assert changed == {"observedGeneration", "conditions"}
    annotate(world, "wazzupchannel", "support", {"wazzup.dev/paused": None})
    assert world.wait_reason("support", "Active", seconds=PATIENCE)["channelID"] == own.id


def observed(world: World) -> int:
    """Return how many channels the account's status counts; it is written after its channels."""
    channels: JSON = world.status("default", "wazzupaccount").get("channels", {})
    return channels.get("observed", 0)


def refer(world: World, name: str) -> None:
    world.api.patch("wazzupchannel", "support", {"spec": {"accountRef": {"name": name}}})


def annotate(world: World, kind: str, name: str, annotations: Mapping[str, str | None]) -> None:
    world.api.patch(kind, name, {"metadata": {"annotations": annotations}})


def processed(world: World) -> JSON | None:
    """Return the status if it is for the newest generation."""
    body = world.api.get("wazzupchannel", "support")
    status: JSON = body["status"]
    return status if status["observedGeneration"] == body["metadata"]["generation"] else None
