"""The unit tests' fake API server gives the same answers as a real one."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.harness.api import JSON, channel
from tests.integration.harness.world import World
from tests.unit.fake_api import FakeApi, FakeClient, Watch
from wazzup_operator.kube.client import KubeClient, path
from wazzup_operator.kube.errors import Refused
from wazzup_operator.resources.base import API_VERSION

NAMESPACE = "session"
SPEC = {"active": True, "transport": "whatsapp", "accountRef": {"name": "default"}}


class Session:
    """Requests to an API server, and its answers; versions are numbered in the order seen."""

    def __init__(self, client: Any, namespace: str, delete: Callable[[str], object]) -> None:
        self.client, self.namespace, self.delete = client, namespace, delete
        self.answers: list[Any] = []
        self.versions: list[str] = []

    def at(self, *rest: str) -> str:
        return path(API_VERSION, "wazzupchannels", self.namespace, *rest)

    async def record(self, request: Any) -> JSON:
        """Record the answer to a request."""
        try:
            body: JSON = await request
        except Refused as refusal:
            self.answers.append(refusal.status)
            return {}
        metadata = body["metadata"]
        if metadata["resourceVersion"] not in self.versions:
            self.versions.append(metadata["resourceVersion"])
        version = self.versions.index(metadata["resourceVersion"])
        self.answers.append((version, metadata["generation"], body["spec"], body.get("status")))
        return body

    async def create(self, name: str, number: str) -> JSON:
        body = channel(name, number, **SPEC)
        body["status"] = {"observedGeneration": -1}
        return await self.record(self.client.create(self.at(), body))

    async def patch(self, name: str, body: JSON) -> JSON:
        return await self.record(self.client.merge_patch(self.at(*name.split("/")), body))

    async def list(self, **query: str) -> JSON:
        page: JSON = await self.client.get(self.at(), query)
        self.answers.append([each["metadata"]["name"] for each in page["items"]])
        return page

    async def run(self) -> None:
        """Create, read, write, delete and watch."""
        one = await self.create("one", "+79865784457")
        await self.create("one", "+79865784457")
        await self.create("two", "+79865784458")
        await self.record(self.client.get(self.at("one")))
        await self.record(self.client.get(self.at("none")))
        page = await self.list(limit="1")
        await self.list(limit="1", **{"continue": page["metadata"]["continue"]})
        await self.list(fieldSelector="spec.phoneNumber=+79865784458")
        await self.writes(one["metadata"])
        self.delete("two")
        await self.record(self.client.get(self.at("two")))
        await self.watch(page["metadata"]["resourceVersion"])

    async def writes(self, metadata: JSON) -> None:
        state = {"status": {"state": "Active", "action": {"summary": "Act.", "by": "phone"}}}
        await self.patch("one", {"spec": {"displayName": "Support"}})
        await self.patch("one", {"spec": {"displayName": None}, **state})
        await self.patch("one", {"metadata": {"annotations": {"wazzup.dev/paused": "true"}}})
        await self.patch("one/status", {"spec": {"active": False}, **state})
        await self.patch("one/status", state)
        await self.patch("one/status", {"status": {"action": {"summary": "Wait."}}})
        await self.patch("one/status", {"status": {"action": None}})
        await self.patch("none/status", state)
        outdated = {"resourceVersion": metadata["resourceVersion"]}
        await self.patch("one/status", {"metadata": outdated, "status": {"state": "Off"}})
        another = {"uid": "00000000-0000-4000-8000-000000000000"}
        await self.patch("one/status", {"metadata": another, "status": {"state": "Off"}})
        await self.patch("one", {"metadata": another, "spec": {"displayName": "Sales"}})

    async def watch(self, version: str) -> None:
        query = {"watch": "1", "timeoutSeconds": "1", "resourceVersion": version}
        events: list[Any] = []
        async with self.client.watch(self.at(), query, 10) as watch:
            async for event in watch:
                metadata = event["object"]["metadata"]
                events.append((event["type"], metadata["name"], metadata["generation"]))
                if event["type"] == "DELETED" and isinstance(watch, Watch):
                    watch.end("over")  # as the timeout ends the real one
        self.answers.append(events)


async def test_the_fake_answers_alike(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(world.plane.kubeconfig))
    client = await KubeClient.connect(lambda *_: None)
    try:
        real = Session(
            client, world.api.namespace, lambda name: world.api.delete("wazzupchannel", name)
        )
        await real.run()
    finally:
        await client.close()
    api = FakeApi()
    fake = Session(FakeClient(api), NAMESPACE, lambda name: api.delete(fake.at(name)))
    await fake.run()
    assert fake.answers == real.answers
