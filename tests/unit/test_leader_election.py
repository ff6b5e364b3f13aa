"""Leader election in virtual time, against a fake API server."""

import asyncio
import random
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from tests.unit.fake_api import FakeApi, FakeClient
from tests.unit.virtual_time import now
from wazzup_operator.controller.app import hand_over, identity_of
from wazzup_operator.controller.reconciler import Reconciler
from wazzup_operator.kube.errors import ConnectionFailed, EtcdRestored, LeadershipLost, Refused
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
    """An API server with one Lease."""

    def __init__(self):
        super().__init__()
        self.replicas = []

    def assert_one_leader(self):
        """Check that at most one replica may act now."""
        acting = [each.name for each in self.replicas if each.acts]
        assert len(acting) <= 1, acting

    @property
    def lease(self):
        return self.find(PATH)

    def change(self, **spec):
        """Change the Lease's spec, as with kubectl."""
        self.edit(PATH, {"spec": spec})

    def touch(self):
        """Annotate the Lease, as with kubectl."""
        self.edit(PATH, {"metadata": {"annotations": {"touched": str(self.version)}}})

    @property
    def writes(self):
        return len(self.changes["leases"])

    @property
    def holder(self):
        return self.lease["spec"]["holderIdentity"]


class Client(FakeClient):
    """A replica's client. `error` is raised; `hangs`: requests get no answer."""

    def __init__(self, server):
        super().__init__(server)
        self.error = None
        self.hangs = False
        self.loses_answers = False
        self.takes = 0.01
        self.has_seen_lease = False

    async def before(self, verb, path, body):
        await asyncio.sleep(0.01)
        if self.hangs:
            await asyncio.Event().wait()
        if self.error:
            raise self.error.with_traceback(None)

    async def get(self, path, query=None):
        lease = await super().get(path, query)
        self.has_seen_lease = True
        return lease

    async def after(self, verb, path, stored):
        await asyncio.sleep(self.takes)
        self.has_seen_lease = True
        asyncio.get_running_loop().call_soon(self.api.assert_one_leader)
        if self.loses_answers:
            raise ConnectionFailed("connection closed")


class Events:
    def __init__(self, server):
        self.server = server
        self.recorded = []

    def record(self, reference, type_, reason, note):
        assert reference["kind"] == "Lease"
        assert reference["uid"] == self.server.lease["metadata"]["uid"]
        self.recorded.append((type_, reason, note))


class Replica:
    """A replica competing for the Lease."""

    def __init__(self, server, name):
        self.name = name
        server.replicas.append(self)
        self.client = Client(server)
        self.events = Events(server)
        self.elector = LeaderElector(self.client, SETTINGS, name, self.events)
        self.task = asyncio.create_task(self.elector.run())

    @property
    def acts(self):
        return self.elector.held.is_set() and self.elector.lead_time_left() > 0

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


POD = {"POD_NAME": "operator-0", "POD_UID": "b9a2"}


class TestIdentity:
    """What tells a replica from the others."""

    def test_a_restarted_container_keeps_it(self):
        assert identity_of(POD) == identity_of(POD) == "operator-0_b9a2"

    def test_another_pod_of_this_name_has_another(self):
        assert identity_of({**POD, "POD_UID": "c0ff"}) == "operator-0_c0ff"

    @pytest.mark.parametrize("known", [{}, {"POD_NAME": "operator-0"}], ids=["nothing", "name"])
    def test_without_a_uid_each_process_has_another(self, known):
        """Two containers may have one host name, and each of them the process id 1."""
        assert identity_of(known) != identity_of(known)


@pytest.mark.asyncio
@pytest.mark.looptime
class TestElection:
    async def test_the_first_replica_acquires_it(self, server):
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
            assert server.lease["metadata"]["name"] == "operator"
            spec = server.lease["spec"]
            assert spec["holderIdentity"] == "a"
            assert spec["leaseDurationSeconds"] == 15
            assert spec["leaseTransitions"] == 0
            assert spec["acquireTime"] == spec["renewTime"]
            assert a.events.recorded == [("Normal", "LeaderElection", "a became leader")]

    async def test_it_is_renewed_every_two_seconds(self, server):
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
            for _ in range(100):
                await asyncio.sleep(1)
                assert a.elector.lead_time_left() > 7
            assert 50 <= server.writes - 1 <= 64
            assert server.lease["spec"]["leaseTransitions"] == 0

    async def test_only_one_leads(self, server):
        async with replicas(server, "a", "b", "c") as all_replicas:
            await asyncio.sleep(120)
            assert sum(each.acts for each in all_replicas) == 1

    async def test_a_standby_takes_over_after_a_crash(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(30)
            await a.stop()
            crashed = now()
            await b.leads_within(15 + 2 + 1)
            assert now() - crashed > 12
            assert server.lease["spec"]["leaseTransitions"] == 1

    async def test_a_standby_takes_over_at_once_after_a_graceful_stop(self, server):
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
        """Requests take time, and the signal comes at any point of a renewal."""
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

    async def test_a_renewal_that_is_stored_during_a_release(self, server):
        """Cancelling a request does not stop the API server from handling it."""
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(5)
            a.client.takes = 0.25
            await a.stop()
            asyncio.get_running_loop().call_later(0.1, server.touch)
            await a.elector.release()
            assert server.holder in {"", "b"}
            await b.leads_within(1.1)

    async def test_another_holder_s_lease_is_not_given_up(self, server):
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
            await asyncio.sleep(5)
            await a.stop()
            server.change(holderIdentity="z")
            await a.elector.release()
            assert server.holder == "z"

    async def test_the_leader_s_tasks_end_before_the_lease_is_given_up(self, server):
        """Such as the certificate keeper."""
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

    async def test_an_old_lease_is_not_acquired_at_once(self, server):
        """Its times are from another clock; only the time without a change counts."""
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
        await asyncio.sleep(3600)
        started = now()
        async with replicas(server, "b") as (b,):
            await b.leads_within(18)
            assert now() - started >= 15

    async def test_a_restarted_leader_leads_at_once(self, server):
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
        async with replicas(server, "a") as (a,):
            await a.leads_within(0.1)
            assert server.lease["spec"]["leaseTransitions"] == 0

    async def test_a_leader_without_the_api_server_stops_before_another_starts(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(10)
            a.client.error = ConnectionFailed("the API server is unreachable")
            cut = now()
            sentence = await a.ended()
            assert now() - cut <= 10
            assert not a.acts
            assert not b.acts
            assert sentence == (
                "the Lease system/operator was not renewed within 10 s (the API server is"
                " unreachable); exiting"
            )
            await b.leads_within(10)

    async def test_requests_that_hang_time_out(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            a.client.hangs = True
            hung = now()
            assert "did not answer in time" in await a.ended()
            assert now() - hung <= 10
            assert not b.acts

    async def test_one_request_that_hangs_does_not_end_leadership(self, server):
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
            await asyncio.sleep(2.5)
            a.client.hangs = True
            await asyncio.sleep(4)
            a.client.hangs = False
            await asyncio.sleep(30)
            assert a.acts

    async def test_lost_answers(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(5)
            a.client.loses_answers = True
            await a.ended()
            assert server.holder == "a"
            await b.leads_within(18)
            assert not a.acts

    async def test_the_leader_recreates_a_deleted_lease(self, server):
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
            server.delete(PATH)
            await asyncio.sleep(5)
            assert a.acts
            assert server.holder == "a"
            assert server.lease["spec"]["leaseTransitions"] == 0

    @pytest.mark.parametrize("after", [count / 10 for count in range(25)])
    async def test_no_standby_acquires_a_deleted_lease(self, server, after):
        async with replicas(server, "a", "b", "c") as (a, b, c):
            await a.leads_within(1)
            await asyncio.sleep(10 + after)
            server.delete(PATH)
            await asyncio.sleep(10)
            assert server.holder == "a"
            assert a.acts
            assert not b.task.done()
            assert not c.task.done()

    async def test_a_standby_acquires_a_deleted_lease_if_the_leader_is_cut_off(self, server):
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

    async def test_a_lease_deleted_after_it_was_given_up(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(10)
            await hand_over({a.task}, Reconciler(), a.elector)
            await b.leads_within(1.1)
            await hand_over({b.task}, Reconciler(), b.elector)
            server.delete(PATH)
            async with replicas(server, "c") as (c,):
                await c.leads_within(1.1)

    async def test_another_holder_ends_leadership(self, server):
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
            server.change(holderIdentity="z")
            taken = now()
            assert await a.ended() == "z holds the Lease system/operator now; exiting"
            assert now() - taken <= 2.1
            await a.elector.release()
            assert server.holder == "z"

    async def test_a_changed_annotation_does_not_end_leadership(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            for _ in range(50):
                server.touch()
                await asyncio.sleep(1)
            assert a.acts
            assert not b.acts

    async def test_a_changed_annotation_does_not_keep_a_dead_leader(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(5)
            await a.stop()
            for _ in range(20):
                server.touch()
                await asyncio.sleep(1)
            assert b.acts

    async def test_a_suspended_leader_does_not_act_when_it_resumes(self, server, monkeypatch):
        """Whatever runs first."""
        async with replicas(server, "a") as (a,):
            await a.leads_within(1)
            monkeypatch.setattr("wazzup_operator.kube.leader_election._now", lambda: now() + 40)
            assert not a.acts
            writes = server.writes
            assert "the process was suspended" in await a.ended()
            assert server.writes == writes

    @pytest.mark.parametrize("back", [2, 5, 1000], ids=["two renewals", "five", "before the Lease"])
    async def test_a_restored_etcd_ends_leader_and_standby(self, server, back):
        """Both know objects in versions that are gone."""
        empty = server.version
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(30)
            server.restore(max(empty, server.version - back))
            restored = now()
            for replica in (a, b):
                with pytest.raises(EtcdRestored) as caught:
                    await replica.task
                assert str(caught.value) == (
                    "The Lease system/operator went back to an older version: etcd was restored."
                    " Exiting, to list all objects again."
                )
                assert not replica.acts
            assert now() - restored < 4.5
            assert not b.elector.held.is_set()
            writes = server.writes
            await a.elector.release()
            assert server.writes == writes

    async def test_the_holder_at_the_time_of_the_snapshot_does_not_lead(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(10)
            snapshot = server.version
            await a.stop()
            await a.elector.release()
            await b.leads_within(1.1)
            async with replicas(server, "a") as (again,):
                await asyncio.sleep(10)
                server.restore(snapshot)
                assert server.holder == "a"
                await asyncio.sleep(5)
                assert isinstance(again.task.exception(), EtcdRestored)
                assert not again.elector.held.is_set()

    async def test_a_problem_is_logged_once(self, server, caplog):
        async with replicas(server, "a") as (a,):
            a.client.error = Refused(403, "leases is forbidden")
            await asyncio.sleep(30)
            assert not a.acts
            assert [each.getMessage() for each in caplog.records] == [
                "Cannot acquire or renew the Lease system/operator: the API server refused (403);"
                " grant the operator get, create and patch on leases in that namespace; retrying"
            ]
            a.client.error = None
            await a.leads_within(1.1)

    async def test_a_lease_that_cannot_be_given_up_expires(self, server):
        async with replicas(server, "a", "b") as (a, b):
            await a.leads_within(1)
            await asyncio.sleep(5)
            a.client.error = ConnectionFailed("the API server is unreachable")
            await a.stop()
            await a.elector.release()
            assert not a.acts
            await b.leads_within(18)

    async def test_a_stuck_renewal(self, server, monkeypatch):
        async with replicas(server, "a") as (a,):
            assert a.elector.stuck() is None
            await a.leads_within(1)
            assert a.elector.stuck() is None
            a.task.cancel()
            await asyncio.sleep(10 + 15 + 1)
            assert a.elector.stuck() == "the renewal of the Lease system/operator is stuck"

    @pytest.mark.parametrize("seed", range(30))
    async def test_there_are_never_two_leaders(self, server, seed):
        """Replicas crash, are cut off, hang, lose answers and recover; the Lease is deleted."""
        random_ = random.Random(seed)
        names = iter(range(1000))
        faults = [cut_off, hang, lose_answers, crash, stop, delete_lease, restore]
        actions = [*faults, heal, heal, heal]
        async with replicas(server, "x", "y", "z") as running:
            for _ in range(200):
                await asyncio.sleep(random_.uniform(0, 2))
                server.assert_one_leader()
                await random_.choice(actions)(random_.choice(running))
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
    replica.client.error = ConnectionFailed("cut off")


async def hang(replica):
    replica.client.hangs = True


async def lose_answers(replica):
    replica.client.loses_answers = True


async def delete_lease(replica):
    """Delete the Lease if every replica has seen it; one that has not would acquire it at once."""
    server = replica.client.api
    known = all(each.client.has_seen_lease or each.task.done() for each in server.replicas)
    if known and server.lease is not None:
        server.delete(PATH)


async def restore(replica):
    """Restore etcd from before the last renewals, if somebody held the Lease then and since."""
    server = replica.client.api
    recent = server.changes["leases"][-8:]
    held = [each.body["spec"]["holderIdentity"] for each in recent if each.event != "DELETED"]
    if len(recent) == len(held) == 8 and all(held):
        server.restore(recent[0].version)


async def heal(replica):
    replica.client.error = None
    replica.client.hangs = replica.client.loses_answers = False


async def crash(replica):
    await replica.stop()


async def stop(replica):
    await replica.stop()
    await replica.elector.release()
