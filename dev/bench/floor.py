"""The bare client: list and watch the objects, and PATCH each status.

It uses the operator's client library and sends the same requests, but has no Store, no models and
no Wazzup, so it is the lower bound for the operator. `python -m dev.bench.floor COUNT`.
"""

import asyncio
import sys

from dev.bench.cluster import channels_path, connected, each
from wazzup_operator.kube.client import KubeClient

STATUS = {
    "observedGeneration": 1,
    "state": "Active",
    "conditions": [
        {
            "type": type_,
            "status": "True",
            "observedGeneration": 1,
            "reason": "Active",
            "message": "The channel is active and carries messages.",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for type_ in ("Ready", "Synced")
    ],
}


async def _watch(client: KubeClient, version: str, count: int) -> None:
    query = {"watch": "1", "resourceVersion": version}
    async with client.watch(channels_path(), query, 60) as events:
        async for _ in events:
            count -= 1
            if not count:
                return


async def main(count: int) -> None:
    """List all objects, PATCH each status, and wait for each watch event."""
    async with connected() as client:
        query = {"limit": "500"}
        page = await client.get(channels_path(), query)
        while token := page["metadata"].get("continue"):
            page = await client.get(channels_path(), {**query, "continue": token})
        watching = asyncio.create_task(_watch(client, page["metadata"]["resourceVersion"], count))
        await each(
            range(count),
            lambda index: client.merge_patch(
                channels_path(f"channel-{index}", "status"), {"status": STATUS}
            ),
        )
        await watching


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
