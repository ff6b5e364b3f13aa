"""Objects and channels for the benchmarks, in the control plane and the simulator."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from wazzup_operator.kube.client import KubeClient, path
from wazzup_operator.kube.errors import KubeError
from wazzup_operator.resources.base import API_VERSION
from wazzup_simulator.client import Simulator

CRDS = Path(__file__).parents[2] / "crds"
NAMESPACE = "bench"
KEY = "bench"
IN_FLIGHT = 16


@asynccontextmanager
async def connected() -> AsyncIterator[KubeClient]:
    """Yield a client for the API server in KUBECONFIG."""
    client = await KubeClient.connect(lambda method, code, host, duration: None)
    try:
        yield client
    finally:
        await client.close()


async def each(items: Iterable[int], work: Callable[[int], Awaitable[object]]) -> None:
    """Run `work` on every item, a few at a time."""
    pending = iter(items)

    async def worker() -> None:
        for item in pending:
            await work(item)

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


def channels_path(*rest: str) -> str:
    """Return the API path of the WazzupChannels."""
    return path(API_VERSION, "wazzupchannels", NAMESPACE, *rest)


async def fill(simulator: Simulator, count: int) -> None:
    """Install the CRDs and create `count` channels, in the simulator and as objects."""
    numbers = [f"7900{index:07d}" for index in range(count)]
    simulator.add_channels([{"phone": number, "state": "active"} for number in numbers])
    async with connected() as client:
        for file in CRDS.glob("*.yaml"):
            definition = yaml.safe_load(file.read_text())
            await client.create(
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition
            )
        await _until_served(client)
        await client.create(path("v1", "namespaces"), {"metadata": {"name": NAMESPACE}})
        key = base64.b64encode(KEY.encode()).decode()
        await client.create(
            path("v1", "secrets", NAMESPACE),
            {"metadata": {"name": "wazzup"}, "data": {"apiKey": key}},
        )
        await client.create(
            path(API_VERSION, "wazzupaccounts", NAMESPACE),
            {
                "apiVersion": API_VERSION,
                "kind": "WazzupAccount",
                "metadata": {"name": "default"},
                "spec": {"apiKeySecretRef": {"name": "wazzup"}},
            },
        )

        async def create(index: int) -> None:
            await client.create(
                channels_path(),
                {
                    "apiVersion": API_VERSION,
                    "kind": "WazzupChannel",
                    "metadata": {"name": f"channel-{index}"},
                    "spec": {"phoneNumber": f"+{numbers[index]}"},
                },
            )

        await each(range(count), create)


async def _until_served(client: KubeClient) -> None:
    for _ in range(100):
        try:
            for plural in ("wazzupchannels", "wazzupaccounts"):
                await client.get(path(API_VERSION, plural))
            return
        except KubeError:
            await asyncio.sleep(0.1)
    raise SystemExit("the CRDs are not served within 10 s")


async def clear_statuses(count: int) -> None:
    """Remove all statuses, as if the objects were new."""
    async with connected() as client:
        await each(
            range(count),
            lambda index: client.merge_patch(
                channels_path(f"channel-{index}", "status"), {"status": None}
            ),
        )
