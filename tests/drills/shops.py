"""Well-behaved tenants: their channels change, and they wait for the statuses."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp

from dev.controlplane.plane import ControlPlane
from tests.drills.vitals import repeated
from tests.integration.harness.api import JSON, Api, account, channel, eventually, secret
from tests.integration.harness.load import until
from wazzup_simulator.client import Channel, Simulator

SHOPS = [f"shop-{number}" for number in range(10)]
CHANGING = [f"changing-{number}" for number in range(20)]
STILL = [f"still-{number}" for number in range(2)]
"""Objects of each shop whose QR code must be scanned throughout, so an alert fires."""

CHANGE_INTERVAL = 0.1
PATIENCE = 120.0
"""Seconds in which every status must be right after the last change."""

WATCH = "/apis/wazzup.dev/v1/wazzupchannels?watch=1&labelSelector=shop&timeoutSeconds=3600"

Key = tuple[str, str]
"""Namespace and name of an object."""


class Shops:
    """A namespace with an account and channels for each shop."""

    def __init__(self, plane: ControlPlane, simulator: Simulator) -> None:
        self._plane = plane
        self._simulator = simulator
        self._channels: dict[Key, Channel] = {}
        self._states: dict[Key, str] = {}
        self._pending: set[Key] = set()
        """Channels that have changed and whose status is still the old one."""

        self._seen: list[tuple[Key, float]] = []
        """When each status arrived."""

    def make(self) -> None:
        """Create everything, in Wazzup and in Kubernetes; wait for the statuses."""
        for number, shop in enumerate(SHOPS):
            self._make(shop, f"79{number:02d}")
        eventually(lambda: all(map(self._all_known, SHOPS)), "the shops' statuses", PATIENCE)

    def _make(self, shop: str, prefix: str) -> None:
        api = Api(self._plane.kubeconfig, shop)
        api.request("POST", "api/v1/namespaces", {"metadata": {"name": shop}})
        self._simulator.add_account([f"key-{shop}"], id=shop)
        phones = {name: f"{prefix}{n:07d}" for n, name in enumerate([*CHANGING, *STILL])}
        rows = [{"phone": phone, "state": "qridle"} for phone in phones.values()]
        added = {each.row["plainId"]: each for each in self._simulator.add_channels(rows, shop)}
        api.create(secret(f"key-{shop}"))
        api.create(account())
        for name, phone in phones.items():
            body = channel(name, f"+{phone}")
            body["metadata"]["labels"] = {"shop": shop}
            api.create(body)
        for name in CHANGING:
            self._channels[shop, name] = added[phones[name]]
            self._states[shop, name] = "qridle"

    def _all_known(self, shop: str) -> bool:
        listed = Api(self._plane.kubeconfig, shop).list("wazzupchannel")
        return all(each["status"].get("upstreamState") == "qridle" for each in listed)

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[list["Delay"]]:
        """Change channels during the block; yield a list for the delays of their statuses."""
        delays: list[Delay] = []
        self._seen.clear()
        async with self._watching():
            async with repeated(CHANGE_INTERVAL, self._change):
                yield delays
            await until(lambda: not self._pending, "every change is in a status", PATIENCE)
        delays += self._delays()

    async def _change(self) -> None:
        """Change a channel whose status is right."""
        settled = self._channels.keys() - self._pending
        if not settled:
            return
        key = random.choice(list(settled))
        self._states[key] = "active" if self._states[key] == "qridle" else "qridle"
        self._pending.add(key)
        await asyncio.to_thread(
            self._simulator.patch_channel, self._channels[key], state=self._states[key]
        )

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        reading = asyncio.create_task(self._watch())
        try:
            yield
            assert not reading.done(), reading.exception()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _watch(self) -> None:
        """Look at every object, and at each new version.

        The API server closes watches that it cannot serve fast enough; a new one shows everything.
        """
        api = Api(self._plane.kubeconfig)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(f"https://{api.address}", timeout=timeout) as session:
            while True:
                async with session.get(WATCH, ssl=api.tls) as answer:
                    try:
                        async for line in answer.content:
                            self._look(json.loads(line)["object"])
                    finally:
                        _abort(answer)

    def _look(self, body: JSON) -> None:
        key = body["metadata"]["namespace"], body["metadata"]["name"]
        shown = body.get("status", {}).get("upstreamState")
        if key in self._pending and shown == self._states[key]:
            self._pending.remove(key)
            self._seen.append((key, time.time()))

    def _delays(self) -> list["Delay"]:
        changes: dict[str, list[float]] = {}
        for each in self._simulator.history():
            changes.setdefault(each.channel, []).append(each.time)
        listings = {
            shop: [each.time for each in self._simulator.requests(shop).requests] for shop in SHOPS
        }
        return [
            Delay.of(seen, changes[self._channels[key].id], listings[key[0]])
            for key, seen in self._seen
        ]


class Delay(NamedTuple):
    """Seconds until a status, from the change in Wazzup and from the listing that showed it."""

    after_change: float
    after_listing: float

    @classmethod
    def of(cls, seen: float, changes: Sequence[float], listings: Sequence[float]) -> "Delay":
        """Return the delay of a status that was seen at this time."""
        changed = max(each for each in changes if each <= seen)
        before = [each for each in listings if each <= seen]
        # A request just before the change may show it too.
        listed = min((each for each in before if each >= changed), default=before[-1])
        return cls(seen - changed, seen - listed)


def _abort(answer: aiohttp.ClientResponse) -> None:
    """Close the connection now; closing TLS in order takes until after the test."""
    if answer.connection and answer.connection.transport:
        answer.connection.transport.abort()
