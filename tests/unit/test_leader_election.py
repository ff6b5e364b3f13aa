"""The Lease: who leads, and until when it may act. The time and the API server are not real."""

import asyncio
import random
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from tests.unit.fake_api import FakeApi, FakeClient
from tests.unit.virtual_time import now
from wazzup_operator.controller.app import hand_over
from wazzup_operator.controller.reconciler import Reconciler
from wazzup_operator.kube.errors import ConnectionFailed, LeadershipLost, Refused
from wazzup_operator.kube.leader_election import LeaderElector
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.settings import ElectionSettings

SETTINGS = ElectionSettings(
    lease=NamespacedName("system", "operator"),
    lease_duration=timedelta(seconds=15),
    renew_deadline=timedelta(seconds=10),
    retry_period=timedelta(seconds=2),
)
PATH = "/apis/coordination.k8s.io/v1/namespaces/system/leases/operator"


class Server(FakeApi):
    """An API server with room for one Lease."""

    def __init__(self):
        super().__init__()
        self.replicas = []

    def look(self):
        """See that only one may act, in an instant in which another might have begun to."""
        acting = [each.name for each in self.replicas if each.acts]
        assert len(acting) <= 1, acting

    @property
    def lease(self):
        return self.find(PATH)

    def change(self, **spec):
        """Let somebody with kubectl change it."""
        self.edit(PATH, {"spec": spec})

    def touch(self):
        """Let somebody with kubectl annotate it."""
        self.edit(PATH, {"metadata": {"annotations": {"touched": str(self.version)}}})

    @property
    def writes(self):
        return len(self.changes["leases"])

    @property
    def holder(self):
        return self.lease["spec"]["holderIdentity"]


class Client(FakeClient):
    """A replica's way to the API server. `trouble` is raised; `hangs` waits for ever."""

    def __init__(self, server):
        super().__init__(server)
        self.trouble = None
        self.hangs = False
        self.loses_answers = False
        self.takes = 0.01
        self.knows_it = False

    async def before(self, verb, path, body):
        await asyncio.sleep(0.01)
        if self.hangs:
            await asyncio.Event().wait()
        if self.trouble:
            raise self.trouble.with_traceback(None)

    async def get(self, path, query=None):
        lease = await super().get(path, query)
        self.knows_it = True
        return lease

    async def after(self, verb, path, stored):
        await asyncio.sleep(self.takes)
        self.knows_it = True
        asyncio.get_running_loop().call_soon(self.api.look)
        if self.loses_answers:
            raise ConnectionFailed("it broke off")


class Events:
    def __init__(self, server):
        self.server = server
        self.told = []

    def record(self, reference, type_, reason, note):
        assert reference["kind"] == "Lease"
        assert reference["uid"] == self.server.lease["metadata"]["uid"]
        self.told.append((type_, reason, note))


class Replica:
    """A replica of that name, competing for the Lease."""

    def __init__(self, server, name):
        self.name = name
        server.replicas.append(self)
        self.client = Client(server)
        self.events = Events(server)
        self.elector = LeaderElector(self.client, SETTINGS, name, self.events)
        self.task = asyncio.create_task(self.elector.run())

    @property
    def acts(self):
        return self.elector.held.is_set() and self.elector.allowance() > 0

    async def leads_within(self, seconds):
        async with asyncio.timeout(seconds):
            await self.elector.held.wait()

    async def ended(self):
        with pytest.raises(LeadershipLost) as caught:
            await self.task
        return str(caught.value)

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@asynccontextmanager
async def replicas(server, *names):
    running = [Replica(server, name) for name in names]
    try:
        yield running
    finally:
        for replica in running:
            await replica.stop()


@pytest.fixture
def server():
    return Server()


@pytest.mark.asyncio
@pytest.mark.looptime
class TestElection:
    async def test_the_first_one_takes_it(self, server):
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
            assert server.lease["metadata"]["name"] == "operator"
            spec = server.lease["spec"]
            assert spec["holderIdentity"] == "a"
            assert spec["leaseDurationSeconds"] == 15
            assert spec["leaseTransitions"] == 0
            assert spec["acquireTime"] == spec["renewTime"]
            assert a.events.told == [("Normal", "LeaderElection", "a became leader")]

    async def test_it_is_renewed_every_two_seconds(self, server):
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
            for _ in range(100):
                await asyncio.sleep(1)
                assert a.elector.allowance() > 7
            assert 50 <= server.writes - 1 <= 64
            assert server.lease["spec"]["leaseTransitions"] == 0

    async def test_only_one_leads(self, server):
        async with replicas(server, "a", "b", "c") as all_of_them:
            await asyncio.sleep(120)
            assert sum(each.acts for each in all_of_them) == 1

    async def test_a_crash(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(30)
            await a.stop()
            crashed = now()
            await b.leads_within(15 + 2 + 1)
            assert now() - crashed > 12
            assert server.lease["spec"]["leaseTransitions"] == 1

    async def test_a_graceful_stop(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(30)
            await a.stop()
            await a.elector.release()
            assert server.holder == ""
            assert not a.acts
            assert a.elector.stuck() is None
            await b.leads_within(1.1)

    @pytest.mark.parametrize("after", [count / 10 for count in range(30)])
    async def test_a_graceful_stop_at_any_moment(self, server, after):
        """Requests take a while, and the signal comes at any moment of a renewal."""
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            a.client.takes = 0.25
            await asyncio.sleep(10 + after)
            await hand_over({a.task}, Reconciler(), a.elector)
            assert not a.acts
            assert server.holder in {"", "b"}
            await b.leads_within(1.1)
            await asyncio.sleep(20)
            assert not a.acts

    async def test_a_renewal_that_arrives_in_the_middle_of_a_release(self, server):
        """Its sender has given it up, and nobody can call it back."""
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(5)
            a.client.takes = 0.25
            await a.stop()
            asyncio.get_running_loop().call_later(0.1, server.touch)
            await a.elector.release()
            assert server.holder in {"", "b"}
            await b.leads_within(1.1)

    async def test_a_lease_that_somebody_took_is_not_given_back(self, server):
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
            await asyncio.sleep(5)
            await a.stop()
            server.change(holderIdentity="z")
            await a.elector.release()
            assert server.holder == "z"

    async def test_what_the_leader_did_has_ended_when_the_lease_is_given_back(self, server):
        """As for the certificate keeper."""
        ended = []

        async def keep():
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(server.holder)

        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
            keeper = asyncio.create_task(keep())
            await asyncio.sleep(5)
            await hand_over({a.task, keeper}, Reconciler(), a.elector)
            assert ended == ["a"]
            assert server.holder == ""

    async def test_a_lease_of_a_replica_long_gone_is_not_taken_on_sight(self, server):
        """Its times are another machine's; what counts is that nothing changes."""
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
        await asyncio.sleep(3600)
        begun = now()
        async with replicas(server, "b") as (b,):
            await b.leads_within(18)
            assert now() - begun >= 15

    async def test_the_same_pod_begins_again(self, server):
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
        async with replicas(server, "a") as (a,):
            await a.leads_within(0.1)
            assert server.lease["spec"]["leaseTransitions"] == 0

    async def test_who_does_not_reach_the_api_server_stops_before_another_begins(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(10)
            a.client.trouble = ConnectionFailed("the API server could not be reached")
            cut = now()
            sentence = await a.ended()
            assert now() - cut <= 10
            assert not a.acts
            assert not b.acts
            assert sentence == (
                "the Lease system/operator was not renewed within 10 s (the API server could not"
                " be reached); exiting"
            )
            await b.leads_within(10)

    async def test_requests_that_hang_are_given_up(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            a.client.hangs = True
            hung = now()
            assert "did not answer in time" in await a.ended()
            assert now() - hung <= 10
            assert not b.acts

    async def test_one_request_that_hangs_is_no_end(self, server):
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
            await asyncio.sleep(2.5)
            a.client.hangs = True
            await asyncio.sleep(4)
            a.client.hangs = False
            await asyncio.sleep(30)
            assert a.acts

    async def test_answers_that_get_lost(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(5)
            a.client.loses_answers = True
            await a.ended()
            assert server.holder == "a"
            await b.leads_within(18)
            assert not a.acts

    async def test_the_lease_is_deleted(self, server):
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
            server.delete(PATH)
            await asyncio.sleep(5)
            assert a.acts
            assert server.holder == "a"
            assert server.lease["spec"]["leaseTransitions"] == 0

    @pytest.mark.parametrize("after", [count / 10 for count in range(25)])
    async def test_a_lease_that_is_deleted_stays_the_leader_s(self, server, after):
        async with replicas(server, "a", "b", "c") as (a, b, c):
            await a.leads_within(1)
            await asyncio.sleep(10 + after)
            server.delete(PATH)
            await asyncio.sleep(10)
            assert server.holder == "a"
            assert a.acts
            assert not b.task.done()
            assert not c.task.done()

    async def test_a_lease_that_is_deleted_while_its_leader_is_cut_off(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(10)
            await cut_off(a)
            server.delete(PATH)
            await a.ended()
            assert server.lease is None
            await b.leads_within(10)
            assert server.lease["spec"]["leaseTransitions"] == 1
            assert server.lease["spec"]["acquireTime"] == server.lease["spec"]["renewTime"]

    async def test_a_lease_that_is_deleted_after_it_was_given_back(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(10)
            await hand_over({a.task}, Reconciler(), a.elector)
            await b.leads_within(1.1)
            await hand_over({b.task}, Reconciler(), b.elector)
            server.delete(PATH)
            async with replicas(server, "c") as (c,):
                await c.leads_within(1.1)

    async def test_somebody_else_takes_it(self, server):
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
            server.change(holderIdentity="z")
            taken = now()
            assert await a.ended() == "z holds the Lease system/operator now; exiting"
            assert now() - taken <= 2.1
            await a.elector.release()
            assert server.holder == "z"

    async def test_somebody_changes_it_and_leaves_the_holder(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            for _ in range(50):
                server.touch()
                await asyncio.sleep(1)
            assert a.acts
            assert not b.acts

    async def test_an_edit_of_metadata_keeps_no_dead_leader(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(5)
            await a.stop()
            for _ in range(20):
                server.touch()
                await asyncio.sleep(1)
            assert b.acts

    async def test_a_process_that_stood_still(self, server, monkeypatch):
        """Whatever it does first when it goes on, it may not act."""
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
            monkeypatch.setattr("wazzup_operator.kube.leader_election._now", lambda: now() + 40)
            assert not a.acts
            writes = server.writes
            assert "the process was suspended" in await a.ended()
            assert server.writes == writes

    async def test_trouble_before_it_leads_is_told_once(self, server, caplog):
        async with replicas(server, "a") as (a,):
            a.client.trouble = Refused(403, "leases is forbidden")
            await asyncio.sleep(30)
            assert not a.acts
            assert [each.getMessage() for each in caplog.records] == [
                "Cannot acquire or renew the Lease system/operator: leases is forbidden; retrying"
            ]
            a.client.trouble = None
            await a.leads_within(1.1)

    async def test_a_lease_that_cannot_be_given_back_runs_out(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(5)
            a.client.trouble = ConnectionFailed("the API server could not be reached")
            await a.stop()
            await a.elector.release()
            assert not a.acts
            await b.leads_within(18)

    async def test_a_hang_of_the_lease_is_told(self, server, monkeypatch):
        async with replicas(server, "a") as (a,):
            assert a.elector.stuck() is None
            await a.leads_within(1)
            assert a.elector.stuck() is None
            a.task.cancel()
            await asyncio.sleep(10 + 15 + 1)
            assert a.elector.stuck() == "the renewal of the Lease system/operator is stuck"

    @pytest.mark.parametrize("seed", range(30))
    async def test_never_two_at_once_whatever_happens(self, server, seed):
        """Replicas crash, are cut off, hang, lose answers and come back; the Lease is deleted."""
        chance = random.Random(seed)
        names = iter(range(1000))
        fates = [cut_off, hang, lose_answers, crash, stop, delete_lease, heal, heal, heal]
        async with replicas(server, "x", "y", "z") as running:
            for _ in range(200):
                await asyncio.sleep(chance.uniform(0, 2))
                server.look()
                await chance.choice(fates)(chance.choice(running))
                for ended in [each for each in running if each.task.done()]:
                    if server.lease is not None:
                        await ended.stop()
                        running[running.index(ended)] = Replica(server, f"r-{next(names)}")
            for each in running:
                await heal(each)
            await asyncio.sleep(20)
            running.append(Replica(server, "the-last"))
            await asyncio.sleep(40)
            assert sum(each.acts for each in running if not each.task.done()) == 1


async def cut_off(replica):
    replica.client.trouble = ConnectionFailed("cut off")


async def hang(replica):
    replica.client.hangs = True


async def lose_answers(replica):
    replica.client.loses_answers = True


async def delete_lease(replica):
    """Delete it, if no replica has still to hear of it: that one would take it at once."""
    server = replica.client.api
    known = all(each.client.knows_it or each.task.done() for each in server.replicas)
    if known and server.lease is not None:
        server.delete(PATH)


async def heal(replica):
    replica.client.trouble = None
    replica.client.hangs = replica.client.loses_answers = False


async def crash(replica):
    await replica.stop()


async def stop(replica):
    await replica.stop()
    await replica.elector.release()
