"""A hostile tenant, in a process of its own: python -m tests.drills.tenant KUBECONFIG GROUP ID.

It works in its namespace at full speed until it is stopped, and prints each second what it has
done. GROUP is the API group of its objects, ID a channel of its Wazzup account.
"""

import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.integration.harness.api import JSON, Api, account, channel

USER = NAMESPACE = "hostile"
OBJECTS = 5000
BIG_EACH = 10
"""One object in so many has large annotations."""

BIG = 100 * 2**10
"""Bytes of each of two annotations; the API server allows 256 KiB in all."""

REWRITE_PAUSE = 0.2
"""Seconds between two large writes: more would fill etcd's quota, whatever the operator does."""

IMPOSSIBLE = "+99912345678"

done: Counter[str] = Counter()
"""Requests by what they do; `refused` counts those that were not answered with 2xx."""


class Tenant:
    """Requests of one user to one namespace, over open connections."""

    def __init__(self, session: aiohttp.ClientSession, group: str, channel_id: str) -> None:
        self._session = session
        self._group = group
        self._root = f"/apis/{group}/v1/namespaces/{NAMESPACE}"
        self._channel_id = channel_id
        self._numbers = itertools.cycle(range(OBJECTS))
        self._stored: set[int] = set()

    def tasks(self) -> list[Callable[[], Awaitable[None]]]:
        """Return the loops to run at once; a loop that is listed several times is faster."""
        return [
            *[self._create] * 6,
            *[self._recreate] * 2,
            *[self._request_listings] * 4,
            *[self._review] * 8,
            self._annotate,
        ]

    async def prepare(self) -> None:
        """Create an account with a key."""
        await self._send("account", "POST", "wazzupaccounts", self._of_group(account()))

    async def _create(self) -> None:
        """Create the next object; once all exist, recreate one."""
        number = next(self._numbers)
        if number in self._stored:
            await self._recreate()
            return
        await self._send("creations", "POST", "wazzupchannels", self._object(number))
        self._stored.add(number)
        done["objects"] = len(self._stored)

    async def _recreate(self) -> None:
        """Delete an object and create it again."""
        number = random.choice(list(self._stored) or [0])
        await self._send("deletions", "DELETE", f"wazzupchannels/{_name(number)}")
        await self._send("creations", "POST", "wazzupchannels", self._object(number))

    async def _request_listings(self) -> None:
        """Request listings of the account, and of the account of an object."""
        now = {"metadata": {"annotations": {"wazzup.dev/requested-at": str(time.time_ns())}}}
        number = done["requests for a listing"] % OBJECTS
        for target in ("wazzupaccounts/default", f"wazzupchannels/{_name(number)}"):
            await self._send("requests for a listing", "PATCH", target, now)

    async def _review(self) -> None:
        """Create an object without storing it: with a new, a taken or an impossible number."""
        number = done["dry runs"]
        phone = (_phone(OBJECTS + number % 10**6), _phone(number % OBJECTS), IMPOSSIBLE)[number % 3]
        body = self._of_group(channel("dry-run", phone))
        await self._send("dry runs", "POST", "wazzupchannels?dryRun=All", body)

    async def _annotate(self) -> None:
        """Rewrite the annotations of a large object."""
        number = done["large annotations"] * BIG_EACH % OBJECTS
        body = {"metadata": {"annotations": _annotations(done["large annotations"])}}
        await self._send("large annotations", "PATCH", f"wazzupchannels/{_name(number)}", body)
        await asyncio.sleep(REWRITE_PAUSE)

    def _object(self, number: int) -> JSON:
        """Return an object that claims the one channel, or refers to an invented account."""
        invented = {"accountRef": {"name": f"invented-{number}"}}
        spec = invented if number % 2 else {"channelID": self._channel_id}
        body = channel(_name(number), _phone(number), **spec)
        if number % BIG_EACH == 0:
            body["metadata"]["annotations"] = _annotations(0)
        return self._of_group(body)

    def _of_group(self, body: JSON) -> JSON:
        return {**body, "apiVersion": f"{self._group}/v1"}

    async def _send(self, what: str, method: str, target: str, body: JSON | None = None) -> None:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        data = None if body is None else json.dumps(body)
        try:
            async with self._session.request(
                method, f"{self._root}/{target}", data=data, headers={"Content-Type": kind}
            ) as answer:
                await answer.read()
                refused = answer.status >= 300
        except (OSError, aiohttp.ClientError, TimeoutError):
            refused = True
        done[what] += 1
        done["refused"] += refused


def _name(number: int) -> str:
    """Return a name; large objects follow each other in a list."""
    return f"{'small' if number % BIG_EACH else 'big'}-{number}"


def _phone(number: int) -> str:
    return f"+7998{number:07d}"


def _annotations(version: int) -> dict[str, str]:
    return {f"{domain}/note": str(version % 10) * BIG for domain in ("example.com", "wazzup.dev")}


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[aiohttp.ClientSession]:
    api = Api(kubeconfig)
    connector = aiohttp.TCPConnector(ssl=api.tls, limit=0)
    timeout = aiohttp.ClientTimeout(30)
    async with aiohttp.ClientSession(
        f"https://{api.address}", connector=connector, timeout=timeout
    ) as session:
        yield session


async def _repeat(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await work()


async def main(kubeconfig: Path, group: str, channel_id: str) -> None:
    async with connected(kubeconfig) as session, asyncio.TaskGroup() as tasks:
        tenant = Tenant(session, group, channel_id)
        await tenant.prepare()
        for work in tenant.tasks():
            tasks.create_task(_repeat(work))
        while True:
            await asyncio.sleep(1)
            print(json.dumps(done), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
