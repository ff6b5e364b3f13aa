"""Accounts with two channels each, and the Events about them."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.integration.harness.api import JSON, account, eventually, secret
from tests.integration.harness.world import World
from wazzup_simulator.client import Channel, Request

PATIENCE = 30


class Site:
    """A Wazzup account with two channels, and objects for them.

    The objects are named "<name>-a" (active) and "<name>-b" (waiting for a scan).
    """

    def __init__(self, world: World, name: str, number: int) -> None:
        self.world, self.name = world, name
        self.id = f"{world.account}-{name}"
        world.simulator.add_account([f"key-{self.id}"], id=self.id)
        self.a = self._add(f"+7986578{number:02d}01", "active", "a")
        self.b = self._add(f"+7986578{number:02d}02", "qridle", "b")
        world.api.create(secret(f"key-{self.id}", name))
        world.api.create(account(name, name))

    def _add(self, phone: str, state: str, suffix: str) -> Channel:
        name = f"{self.name}-{suffix}"
        self.world.declare(name, phone, accountRef={"name": self.name})
        return self.world.simulator.add_channel(phone.lstrip("+"), account=self.id, state=state)

    def wait_listed(self) -> None:
        self.wait("a", "Active")
        self.wait("b", "ScanQRCode")
        self.world.wait_reason(self.name, "UpToDate", "wazzupaccount", PATIENCE)

    def wait(self, suffix: str, reason: str, seconds: float = PATIENCE) -> JSON:
        return self.world.wait_reason(f"{self.name}-{suffix}", reason, seconds=seconds)

    def fault(self, kind: str, **parameters: Any) -> None:
        self.world.simulator.add_fault(kind, account=self.id, **parameters)

    def requests(self) -> list[Request]:
        return self.world.simulator.requests(self.id).requests

    def wait_listings(self, enough: Callable[[list[Request]], bool], what: str) -> list[Request]:
        """Wait until the recorded requests are enough; return them."""
        return eventually(
            lambda: enough(found := self.requests()) and found, f"{self.name}: {what}", PATIENCE
        )

    def wait_over(self, times: int) -> None:
        """Wait until a fault has occurred this many times and another request has followed."""

        def over(requests: list[Request]) -> bool:
            faulty = [number for number, each in enumerate(requests) if each.fault]
            return len(faulty) == times and len(requests) > faulty[-1] + 1

        self.wait_listings(over, "the fault is over")

    def bodies(self) -> list[JSON]:
        return [self.world.api.get("wazzupchannel", f"{self.name}-{each}") for each in "ab"]


def sites(world: World, *names: str) -> dict[str, Site]:
    return {name: Site(world, name, number) for number, name in enumerate(names)}


def count_events(world: World) -> dict[tuple[str, str, str], int]:
    """Count Events by name of the object, type and reason."""
    return dict(
        Counter(
            (each["regarding"]["name"], each["type"], each["reason"])
            for each in world.api.list("event")
        )
    )


def status_writes(world: World) -> list[JSON]:
    return [each for each in world.writes() if each["objectRef"].get("subresource") == "status"]
