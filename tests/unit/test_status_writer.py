"""StatusWriter: requests, answers and warnings."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.unit.build import NOW, account, at, body, channel, path_of, resource_of
from tests.unit.fake_api import FakeApi, FakeClient
from wazzup_operator.kube import status as module
from wazzup_operator.kube.errors import ConnectionFailed, Refused
from wazzup_operator.kube.status import (
    CRD_RECHECK,
    IN_FLIGHT,
    NotWritten,
    StatusWriter,
    Written,
    merge_patch,
)
from wazzup_operator.resources.account import AccountStatus, ChannelCounts
from wazzup_operator.resources.base import Condition
from wazzup_operator.resources.channel import ActionStatus, ChannelStatus, Drift
from wazzup_operator.resources.codec import CHANNELS

READY = Condition(
    type="Ready", status="True", last_transition_time=NOW, reason="Active", message="It works."
)
ACTIVE = ChannelStatus(observed_generation=1, state="Active", channel_id="a", conditions=(READY,))
READY_JSON = CHANNELS.status_json(ACTIVE)["conditions"][0]
TO_SCAN = replace(ACTIVE, state="ScanQRCode", action=ActionStatus(summary="Scan.", url="https://w"))
RENAMED = replace(ACTIVE, drift=(Drift(field="displayName", declared="x", observed="y"),))
UP = AccountStatus(observed_generation=1, channels=ChannelCounts(declared=2, observed=3, ready=1))


@pytest.fixture
def clock(monkeypatch):
    """Set the writer's clock."""
    time = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: time.now))
    return time


class Server(FakeClient):
    """An API server that prunes the fields in `drops` and adds those in `extra`."""

    def __init__(self, *, drops=(), extra=None, fails=None):
        super().__init__(FakeApi())
        self.api.admit = self._admit
        self.drops = drops
        self.extra = extra or {}
        self.fails = fails
        self.seconds = 0
        self.calls = []
        self.running = self.most = 0
        self.writer = StatusWriter(self)

    def _admit(self, plural, body):
        kept = {key: value for key, value in body["status"].items() if key not in self.drops}
        return {**body, "status": kept | self.extra}

    def put(self, object_):
        """Store the object unless it exists; return it as stored."""
        resource, path = resource_of(object_), path_of(object_)
        found = self.api.find(path)
        if found is None or resource.decode(found) != object_:
            found = self.api.put(path, body(object_))
        return resource.decode(found)

    async def write(self, object_, status):
        """Store the object, then write the status."""
        return await self.writer.write(resource_of(object_), self.put(object_), status)

    async def stored(self, object_, status):
        """Write the status, which must succeed; return the object as stored."""
        outcome = await self.write(object_, status)
        assert isinstance(outcome, Written)
        return outcome.object

    async def before(self, verb, path, body):
        self.calls.append((path, body))
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.seconds)
        self.running -= 1
        if self.fails:
            raise self.fails.with_traceback(None)


class TestRequest:
    """The PATCH."""

    async def test_one_patch_of_the_differences_for_this_version(self):
        server = Server()
        old = server.put(channel(status=TO_SCAN))
        await server.write(old, ACTIVE)
        assert server.calls == [
            (
                "/apis/wazzup.dev/v1/namespaces/shop/wazzupchannels/support/status",
                {
                    "metadata": {
                        "uid": "uid-shop-support",
                        "resourceVersion": old.metadata.resource_version,
                    },
                    "status": {"state": "Active", "action": None},
                },
            )
        ]

    async def test_an_account(self):
        server = Server()
        old = server.put(replace(account(), status=UP))
        new = replace(UP, channels=replace(UP.channels, ready=2), last_sync_time=at(1))
        await server.write(old, new)
        ((path, body),) = server.calls
        assert path == "/apis/wazzup.dev/v1/namespaces/shop/wazzupaccounts/default/status"
        assert body == {
            "metadata": {
                "uid": "uid-shop-default",
                "resourceVersion": old.metadata.resource_version,
            },
            "status": {"channels": {"ready": 2}, "lastSyncTime": "2026-11-22T10:01:00Z"},
        }

    @pytest.mark.parametrize(
        ("old", "new", "patch"),
        [
            ({}, {}, {}),
            ({}, {"a": 1}, {"a": 1}),
            ({"a": 1}, {}, {"a": None}),
            ({"a": 1}, {"a": 1}, {}),
            ({"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 2}),
            ({"a": {"x": 1, "y": 1}}, {"a": {"x": 2, "z": 3}}, {"a": {"y": None, "x": 2, "z": 3}}),
            ({"a": {"x": 1}}, {"a": {"x": 1}}, {}),
            ({"a": {"x": 1}}, {"a": 1}, {"a": 1}),
            ({"a": 1}, {"a": {"x": 1}}, {"a": {"x": 1}}),
            ({"a": [1, 2]}, {"a": [2]}, {"a": [2]}),
        ],
    )
    def test_merge_patch(self, old, new, patch):
        assert merge_patch(old, new) == patch

    @pytest.mark.looptime
    async def test_concurrent_writes_are_limited(self):
        server = Server()
        server.seconds = 1
        many = [channel(f"c{number}", account=f"a{number % 2}") for number in range(100)]
        await asyncio.gather(*(server.write(each, ACTIVE) for each in many))
        assert server.most == IN_FLIGHT
        assert len(server.calls) == 100

    async def test_two_concurrent_writes_of_one_object(self):
        """The loops of the accounts that it was moved from and to."""
        server = Server()
        server.seconds = 1
        old = server.put(channel())
        moved = server.api.edit(path_of(old), {"spec": {"accountRef": {"name": "second"}}})
        outdated, written = await asyncio.gather(
            server.writer.write(CHANNELS, old, ACTIVE),
            server.writer.write(CHANNELS, CHANNELS.decode(moved), ACTIVE),
        )
        assert outdated is NotWritten.OUTDATED
        assert isinstance(written, Written)
        assert server.most == 2
        assert server.writer.stuck() is None


class TestAnswer:
    """Outcomes."""

    @pytest.mark.parametrize(("old", "new"), [(channel(), ACTIVE), (account(), UP)])
    async def test_a_write_returns_the_stored_object(self, old, new):
        server = Server()
        old = server.put(old)
        outcome = await server.write(old, new)
        assert outcome.object.status == new
        assert outcome.object == server.put(outcome.object), "this is what is stored"
        assert outcome.object.metadata.resource_version != old.metadata.resource_version

    async def test_a_changed_object_is_outdated(self):
        server = Server()
        old = server.put(channel())
        server.api.edit(path_of(old), {"spec": {"active": False}})
        assert await server.writer.write(CHANNELS, old, ACTIVE) is NotWritten.OUTDATED

    async def test_a_deleted_object_is_outdated(self):
        server = Server()
        old = server.put(channel())
        server.api.delete(path_of(old))
        assert await server.writer.write(CHANNELS, old, ACTIVE) is NotWritten.OUTDATED
        server.put(channel(uid="another"))
        assert await server.writer.write(CHANNELS, old, ACTIVE) is NotWritten.OUTDATED

    @pytest.mark.parametrize(
        ("failure", "outcome"),
        [
            (Refused(400, "no"), NotWritten.REFUSED),
            (Refused(403, "no"), NotWritten.REFUSED),
            (Refused(422, "no"), NotWritten.REFUSED),
            (Refused(429, "no"), NotWritten.REFUSED),
            (Refused(500, "no"), NotWritten.REFUSED),
            (ConnectionFailed("unreachable"), NotWritten.UNREACHABLE),
        ],
        ids=lambda value: str(getattr(value, "status", "")),
    )
    async def test_a_failure(self, failure, outcome):
        assert await Server(fails=failure).write(channel(), ACTIVE) is outcome

    @pytest.mark.parametrize(
        "extra",
        [
            pytest.param({"newField": 1}, id="a field of the status"),
            pytest.param(
                {"action": {"summary": "Scan.", "url": "https://w", "newField": 1}},
                id="a field within",
            ),
        ],
    )
    async def test_additional_fields_are_ignored(self, extra, caplog):
        server = Server(extra=extra)
        outcome = await server.write(channel(), TO_SCAN)
        assert isinstance(outcome, Written)
        assert outcome.object.status == TO_SCAN
        assert isinstance(await server.write(outcome.object, TO_SCAN), Written)
        assert caplog.messages == []


@pytest.mark.looptime
class TestTooMany:
    """An API server that asks to wait (429)."""

    async def test_the_longest_retry_after_counts(self):
        server = Server()

        async def refuse(path, body):
            await asyncio.sleep(1)
            raise Refused(429, "too many", retry_after=float(path.split("/")[-2]))

        server.merge_patch = refuse
        await asyncio.gather(*(server.write(channel(wait), ACTIVE) for wait in ("30", "2")))
        assert server.writer.retry_after() == pytest.approx(30)


class TestOlderCRD:
    """An API server that prunes fields missing from its CRD."""

    async def test_a_write_returns_what_was_kept(self):
        outcome = await Server(drops=["action"]).write(channel(), TO_SCAN)
        assert isinstance(outcome, Written)
        assert outcome.object.status == replace(TO_SCAN, action=None)

    async def test_each_field_is_logged_once(self, caplog):
        server = Server(drops=["action", "drift", "state"])
        for number, status in enumerate([TO_SCAN, TO_SCAN, RENAMED, TO_SCAN]):
            await server.write(channel(f"c{number}"), status)
        logged = [message.split(" in the status")[0] for message in caplog.messages]
        assert logged == [
            "The API server did not keep action",
            "The API server did not keep state",
            "The API server did not keep drift",
        ]
        assert "apply the CRDs" in caplog.messages[0]

    async def test_each_kind_is_logged(self, caplog):
        server = Server(drops=["conditions"])
        await server.write(channel(), ACTIVE)
        await server.write(account(), replace(UP, conditions=(READY,)))
        of_channel, of_account = caplog.messages
        assert "conditions in the status of a WazzupChannel" in of_channel
        assert "conditions in the status of a WazzupAccount" in of_account

    @pytest.mark.parametrize(
        "stored",
        [
            {"action": {"summary": "Scan."}},
            {"action": {"summary": "Scan.", "url": None}},
            {"conditions": []},
            {"conditions": [READY_JSON | {"reason": "Other"}]},
            {"conditions": [READY_JSON, READY_JSON]},
        ],
    )
    async def test_a_partly_pruned_field_counts_as_pruned(self, stored, caplog):
        server = Server(extra=stored)
        assert isinstance(await server.write(channel(), TO_SCAN), Written)
        (field,) = stored
        assert f"did not keep {field} in" in caplog.text

    async def test_it_is_not_written_again_before_the_recheck(self, clock, caplog):
        server = Server(drops=["action"])
        stored = await server.stored(channel(), TO_SCAN)
        for seconds in (0, 1, CRD_RECHECK / 2, CRD_RECHECK - 1):
            clock.now = 1000 + seconds
            assert await server.write(stored, TO_SCAN) is NotWritten.NOT_KEPT
        assert len(server.calls) == 1
        clock.now = 1000 + CRD_RECHECK
        stored = await server.stored(stored, TO_SCAN)
        assert len(server.calls) == 2
        assert await server.write(stored, TO_SCAN) is NotWritten.NOT_KEPT
        assert len(caplog.messages) == 1

    async def test_a_newer_crd_is_noticed_at_the_recheck(self, clock):
        server = Server(drops=["action"])
        stored = await server.stored(channel(), TO_SCAN)
        server.drops = []
        clock.now += CRD_RECHECK
        stored = await server.stored(stored, TO_SCAN)
        assert stored.status == TO_SCAN

    async def test_entries_expire(self, clock):
        server = Server(drops=["action"])
        for number in range(100):
            clock.now += 1
            await server.stored(channel(f"c{number}"), TO_SCAN)
        assert len(server.writer._not_kept) == 100
        clock.now += CRD_RECHECK - 50
        await server.stored(channel("last"), TO_SCAN)
        assert len(server.writer._not_kept) == 51

    @pytest.mark.usefixtures("clock")
    async def test_another_status_is_written(self):
        server = Server(drops=["action"])
        stored = await server.stored(channel(), TO_SCAN)
        await server.stored(stored, replace(TO_SCAN, state="WrongPhone"))
        assert len(server.calls) == 2

    @pytest.mark.usefixtures("clock")
    async def test_it_overwrites_another_writer_s_status(self):
        server = Server(drops=["action"])
        stored = await server.stored(channel(), TO_SCAN)
        await server.stored(replace(stored, status=RENAMED), TO_SCAN)
        assert len(server.calls) == 2

    @pytest.mark.usefixtures("clock")
    async def test_another_object_is_written(self):
        server = Server(drops=["action"])
        stored = await server.stored(channel(), TO_SCAN)
        other = replace(stored, metadata=replace(stored.metadata, uid="other"))
        await server.stored(other, TO_SCAN)
        assert len(server.calls) == 2


class TestWarnings:
    """Logged refusals."""

    async def logged(self, caplog, server, failure, old=None):
        """Return the log messages of a write that fails with this, or succeeds."""
        caplog.clear()
        server.fails = failure
        old = old or channel()
        await server.write(old, ACTIVE if hasattr(old, "account_key") else UP)
        return caplog.messages

    @pytest.mark.parametrize(
        ("failure", "sentence"),
        [
            (Refused(422, "+79865784457 is bad"), "the API server refused (422)"),
            (ConnectionFailed("unreachable"), "unreachable"),
            (
                Refused(403, "no"),
                "the API server refused (403); grant the operator patch on"
                " wazzupchannels/status there",
            ),
            (
                Refused(400, 'admission webhook "a.example" denied the request: +79865784457'),
                'the API server refused (400, by admission webhook "a.example")',
            ),
            (
                Refused(422, "ValidatingAdmissionPolicy 'frozen' with binding 'all' denied it"),
                "the API server refused (422, by ValidatingAdmissionPolicy 'frozen')",
            ),
            (
                Refused(
                    422,
                    'wazzupchannels.wazzup.dev "support" is forbidden: ValidatingAdmissionPolicy'
                    " 'frozen' with binding 'all' denied it",
                ),
                "the API server refused (422, by ValidatingAdmissionPolicy 'frozen')",
            ),
            (
                Refused(
                    422, "status.displayName: Invalid value: \"admission webhook '79865784457'"
                ),
                "the API server refused (422)",
            ),
        ],
        ids=["422", "unreachable", "403", "webhook", "policy", "forbidden", "quoted"],
    )
    async def test_once_until_a_success(self, failure, sentence, caplog):
        server = Server()
        sentence = f"Cannot write the status of WazzupChannel shop/support: {sentence}"
        assert await self.logged(caplog, server, failure) == [sentence]
        assert await self.logged(caplog, server, failure) == []
        assert await self.logged(caplog, server, failure, channel("other")) == []
        assert await self.logged(caplog, server, None) == []
        assert await self.logged(caplog, server, failure) == [sentence]

    async def test_each_kind_separately(self, caplog):
        server = Server()
        no = Refused(403, "no")
        assert len(await self.logged(caplog, server, no)) == 1
        assert len(await self.logged(caplog, server, no, account())) == 1
        assert await self.logged(caplog, server, None, account()) == []
        assert await self.logged(caplog, server, no) == []
        assert len(await self.logged(caplog, server, no, account())) == 1

    @pytest.mark.parametrize("status", [404, 409])
    async def test_a_changed_or_deleted_object_is_not_logged(self, status, caplog):
        server = Server()
        assert await self.logged(caplog, server, Refused(status, "no")) == []

    async def test_alternating_refusals_are_each_logged_once(self, caplog):
        server = Server()
        one, other = Refused(422), Refused(500)
        counts = [len(await self.logged(caplog, server, each)) for each in (one, other) * 2]
        assert counts == [1, 1, 0, 0]
