"""A control plane and a simulated Wazzup with many objects."""

import asyncio
import contextlib
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from dev.controlplane.plane import ControlPlane
from dev.processes.operator import BIN
from dev.processes.port import free_port
from dev.processes.process import Process, StartError
from wazzup_operator.kube.client import KubeClient, path
from wazzup_operator.kube.errors import KubeError, Refused
from wazzup_operator.resources.base import API_VERSION
from wazzup_simulator.client import Channel, Simulator

JSON = dict[str, Any]

CRDS = Path(__file__).parents[2] / "crds"
CHANNELS = path(API_VERSION, "wazzupchannels")
ACCOUNTS = path(API_VERSION, "wazzupaccounts")
TIMES = {"lastTransitionTime": "2026-01-01T00:00:00Z", "stateSince": "2026-01-01T00:00:00Z"}

_KEYS = "/registry/wazzup.dev/"
_IN_FLIGHT = 16
_ID = "00000000-0000-4000-8000-{:012d}"
_WITHOUT_NUMBER = _ID.format(0)
_CONDITIONS = {
    "Ready": ("Active", "The channel is active and carries messages."),
    "Synced": ("UpToDate", "This status comes from a current listing of the Wazzup account."),
}


def namespace(account: int) -> str:
    """Return the namespace of an account."""
    return f"bench-{account}"


def key(account: int) -> str:
    """Return the API key of an account."""
    return f"bench-{account}"


def channel_path(account: int, index: int) -> str:
    """Return the API path of a WazzupChannel."""
    return path(API_VERSION, "wazzupchannels", namespace(account), f"channel-{index}")


def account_path(account: int) -> str:
    """Return the API path of a WazzupAccount."""
    return path(API_VERSION, "wazzupaccounts", namespace(account), "default")


@dataclass(frozen=True)
class Fleet:
    """Accounts, each in its own namespace, with as many channels each; all channels are active.

    If `synced`, the objects have their statuses. If `contested`, spec.channelID of all objects is
    the id of one channel without a number.
    """

    accounts: int
    channels: int
    synced: bool = False
    contested: bool = False

    @property
    def objects(self) -> int:
        """The number of WazzupChannels."""
        return self.accounts * self.channels

    def place(self, nth: int) -> tuple[int, int]:
        """Return the account and the index of the n-th channel, taking accounts in turns."""
        return nth % self.accounts, nth // self.accounts

    def number(self, account: int, index: int) -> int:
        """Return the phone number of a channel."""
        return 79_000_000_000 + account * self.channels + index

    def channel(self, account: int, index: int) -> Channel:
        """Return a channel in the simulator."""
        return Channel(f"account-{account}", _ID.format(self.number(account, index)), {})

    def stored(self) -> Iterator[tuple[str, bytes]]:
        """Yield the WazzupChannels by key, as the API server stores them in etcd."""
        for account in range(self.accounts):
            for index in range(self.channels):
                place = f"wazzupchannels/{namespace(account)}/channel-{index}"
                yield f"{_KEYS}{place}", orjson.dumps(self._object(account, index))

    def _object(self, account: int, index: int) -> JSON:
        number = self.number(account, index)
        spec: JSON = {
            "phoneNumber": f"+{number}",
            "active": True,
            "accountRef": {"name": "default"},
            "transport": "whatsapp",
        }
        if self.contested:
            spec["channelID"] = _WITHOUT_NUMBER
        managed = [_managed("kubectl", {"spec": spec})]
        status: JSON = {"observedGeneration": -1}
        if self.synced:
            status = expected_status(number) | {"stateSince": TIMES["stateSince"]}
            for condition in status["conditions"]:
                condition["lastTransitionTime"] = TIMES["lastTransitionTime"]
            managed.append(_managed("wazzup-operator", {"status": status}, "status"))
        metadata = {
            "name": f"channel-{index}",
            "namespace": namespace(account),
            "uid": _ID.format(number),
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": managed,
        }
        kind = {"apiVersion": API_VERSION, "kind": "WazzupChannel"}
        return kind | {"metadata": metadata, "spec": spec, "status": status}


def expected_status(number: int) -> JSON:
    """Return the status of an active channel, without times."""
    return {
        "observedGeneration": 1,
        "account": "default",
        "state": "Active",
        "upstreamState": "active",
        "channelID": _ID.format(number),
        "plainID": str(number),
        "displayName": str(number),
        "conditions": [
            {
                "type": kind,
                "status": "True",
                "observedGeneration": 1,
                "reason": reason,
                "message": message,
            }
            for kind, (reason, message) in _CONDITIONS.items()
        ],
    }


def _managed(manager: str, fields: JSON, subresource: str = "") -> JSON:
    entry = {
        "apiVersion": API_VERSION,
        "fieldsType": "FieldsV1",
        "fieldsV1": _owned(fields),
        "manager": manager,
        "operation": "Update",
        "time": "2026-01-01T00:00:00Z",
    }
    return entry | ({"subresource": subresource} if subresource else {})


def _owned(value: Any) -> JSON:
    if isinstance(value, dict):
        return {f"f:{name}": _owned(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return {f'k:{{"type":"{item["type"]}"}}': {".": {}, **_owned(item)} for item in value}
    return {}


@asynccontextmanager
async def connected() -> AsyncIterator[KubeClient]:
    """Yield a client for the API server in KUBECONFIG."""
    client = await KubeClient.connect(lambda method, code, host, duration: None)
    try:
        yield client
    finally:
        await client.close()


async def list_channels(client: KubeClient) -> tuple[list[JSON], str]:
    """Return all WazzupChannels and the version of the list.

    An API server without time for its clients ends watches and refuses lists.
    """
    async with asyncio.timeout(300):
        while True:
            with contextlib.suppress(KubeError):
                return await _list_channels(client)
            await asyncio.sleep(1)


async def _list_channels(client: KubeClient) -> tuple[list[JSON], str]:
    items: list[JSON] = []
    query = {"limit": "500"}
    while True:
        page = await client.get(CHANNELS, query)
        items += page["items"]
        if not (token := page["metadata"].get("continue")):
            return items, page["metadata"]["resourceVersion"]
        query["continue"] = token


async def changed_channels(client: KubeClient) -> AsyncIterator[JSON | None]:
    """Yield None once the watch begins, then every WazzupChannel that changes."""
    _, version = await list_channels(client)
    yield None
    while True:
        with contextlib.suppress(KubeError):
            query = {"watch": "1", "resourceVersion": version}
            async with client.watch(CHANNELS, query, 600) as events:
                async for event in events:
                    if event["type"] == "ERROR":
                        break
                    yield event["object"]
        items, version = await list_channels(client)
        for item in items:
            yield item


class Cluster:
    """A control plane that is emptied and filled again for each fleet."""

    simulator: Simulator

    def __init__(self, plane: ControlPlane, directory: Path) -> None:
        self.plane = plane
        self.directory = directory
        asyncio.run(_install_crds())

    @contextmanager
    def filled(self, fleet: Fleet) -> Iterator[None]:
        """Replace all objects by a fleet's, and run a simulator that lists its channels."""
        self.plane.erase(_KEYS)
        port = free_port()
        process = Process("the simulator", self.directory / f"simulator-{port}.log")
        process.launch([BIN / "wazzup-simulator", f"--port={port}"], os.environ)
        try:
            process.wait_until(lambda: "listening on" in process.log(), "no simulator", 30)
            self.simulator = Simulator(f"http://127.0.0.1:{port}")
            for account in range(fleet.accounts):
                self._add_account(fleet, account)
            asyncio.run(_create_accounts(fleet))
            self.plane.store(fleet.stored())
            yield
        finally:
            process.kill()

    def _add_account(self, fleet: Fleet, account: int) -> None:
        name = f"account-{account}"
        self.simulator.add_account([key(account)], id=name)
        if fleet.contested:
            contested = {"phone": "1", "state": "active", "channelId": _WITHOUT_NUMBER}
            [added] = self.simulator.add_channels([contested], name)
            self.simulator.patch_channel(added, plainId=None)
            return
        numbers = [fleet.number(account, index) for index in range(fleet.channels)]
        rows = [
            {"phone": str(number), "state": "active", "channelId": _ID.format(number)}
            for number in numbers
        ]
        self.simulator.add_channels(rows, name)


async def until(look: Callable[[], Awaitable[bool]], problem: str, seconds: float) -> None:
    """Wait until `look` returns True."""
    try:
        async with asyncio.timeout(seconds):
            while not await look():  # noqa: ASYNC110 - another process has no asyncio.Event
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise StartError(f"{problem} after {seconds:.0f} s") from None


async def _install_crds() -> None:
    async with connected() as client:
        for file in CRDS.glob("*.yaml"):
            definition = yaml.safe_load(file.read_text())
            await client.create(
                path("apiextensions.k8s.io/v1", "customresourcedefinitions"), definition
            )
        await until(lambda: _served(client), "the CRDs are not served", 30)


async def _served(client: KubeClient) -> bool:
    try:
        for collection in (CHANNELS, ACCOUNTS):
            await client.get(collection)
    except KubeError:
        return False
    return True


async def _create_accounts(fleet: Fleet) -> None:
    async with connected() as client:

        async def create(account: int) -> None:
            where = namespace(account)
            encoded = b64encode(key(account).encode()).decode()
            secret = {"metadata": {"name": "wazzup"}, "data": {"apiKey": encoded}}
            with contextlib.suppress(Refused):  # an earlier fleet had it
                await client.create(path("v1", "namespaces"), {"metadata": {"name": where}})
                await client.create(path("v1", "secrets", where), secret)
            body = {
                "apiVersion": API_VERSION,
                "kind": "WazzupAccount",
                "metadata": {"name": "default"},
                "spec": {"apiKeySecretRef": {"name": "wazzup"}, "pollInterval": "10s"},
            }
            await client.create(path(API_VERSION, "wazzupaccounts", where), body)

        await _each(range(fleet.accounts), create)


async def _each(items: Iterable[int], work: Callable[[int], Awaitable[object]]) -> None:
    """Run `work` on every item, a few at a time."""
    pending = iter(items)

    async def worker() -> None:
        for item in pending:
            await work(item)

    await asyncio.gather(*(worker() for _ in range(_IN_FLIGHT)))
