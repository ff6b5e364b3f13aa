"""Order of writes, and refused writes."""

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest

from tests.unit.account_loop.scene import DOUBLING, Scene
from tests.unit.build import ACCOUNT, account, channel, path_of, ready, row
from tests.unit.virtual_time import now, until
from wazzup_operator.controller.status_writes import WORKERS
from wazzup_operator.kube.errors import Refused
from wazzup_operator.kube.status import Written
from wazzup_operator.observability import metrics
from wazzup_operator.resources.channel import ChannelStatus
from wazzup_operator.resources.codec import CHANNELS

pytestmark = pytest.mark.looptime


class TestOrder:
    """Awaited statuses are written first."""

    @pytest.fixture
    def fleet(self):
        """An account with 320 active channels, and the channel `support`."""
        names = [f"number-{n:03d}" for n in range(320)]
        numbers = [f"+7986578{4000 + n}" for n in range(320)]
        scene = Scene(
            account(poll="10s"),
            *(channel(name, number) for name, number in zip(names, numbers, strict=True)),
            channel(),
        )
        self.show(scene, numbers, "active")
        return scene, names, numbers

    def show(self, scene, numbers, state):
        """List these numbers in this state, and the channel of `support` as active."""
        listed = [row(f"id-{number}", state, number) for number in numbers]
        scene.wazzup.rows = [*listed, row()]

    async def test_a_changed_spec_is_written_before_routine_statuses(self, fleet):
        scene, names, numbers = fleet
        async with scene:
            await until(9)
            self.show(scene, numbers, "qridle")
            scene.edit(active=False)
            await until(12)
            order = [what for what in scene.since(9) if what in {*names, "support"}]
            assert order[0] == "support"
            assert len(order) == 321

    async def test_a_changed_spec_does_not_wait_for_many_routine_writes(self, fleet):
        """320 writes of 0.5 s take over 10 s; the change comes in the second one."""
        scene, names, numbers = fleet

        async def slowly(name):
            await asyncio.sleep(0.5)

        async with scene:
            await until(9)
            self.show(scene, numbers, "qridle")
            scene.server.on_patch = slowly
            await until(10.7)
            scene.edit(active=False)
            await until(15)
            (written,) = [at for at in scene.times("support") if at > 9]
            assert written <= 13
            await until(40)
            routine = Counter(what for what in scene.since(9) if what in names)
            assert routine == dict.fromkeys(names, 1)
            assert scene.account.channels.ready == 0

    async def test_a_pass_that_leaves_writes_to_the_next_one_is_not_complete(
        self, fleet, monkeypatch
    ):
        """Passes of 0.5 s per write; a change during the first one leaves its rest to the next."""
        scene, names, numbers = fleet
        delays, results = [], []
        monkeypatch.setattr(metrics, "change_to_status", SimpleNamespace(observe=delays.append))
        try_pass = scene.loop._try_pass

        async def recorded():
            results.append(await try_pass())
            return results[-1]

        async def slowly(name):
            await asyncio.sleep(0.5)

        monkeypatch.setattr(scene.loop, "_try_pass", recorded)
        async with scene:
            await until(9)
            self.show(scene, numbers, "qridle")
            scene.server.on_patch = slowly
            passes = len(results)
            await until(10.7)
            scene.edit(active=False)
            await until(13)
            assert results[passes:] == ["requeue_after"]
            await until(40)
            assert results[-1] == "success"
            assert len(delays) == len(names), "each change is measured"


class TestTooMany:
    """An API server that asks to wait (429)."""

    async def test_it_is_planned_again_after_the_wait(self):
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(10)
            scene.server.patch_fails = Refused(429, "too many", retry_after=12.0)
            scene.edit(active=False)
            await until(11)
            scene.server.patch_fails = None
            scene.edit(active=True)
            await until(60)
            tried = [at for at in scene.times("support") if at >= 10]
            assert len(tried) == 2
            assert tried[1] - tried[0] >= 12
            assert ready(scene.channel) == ("True", "Active")
            assert scene.channel.observed_generation == 3

    async def test_it_is_planned_again_if_the_wait_ends_during_another_write(self):
        numbers = {"slow": "+79990001122", "support": "+79865784457"}
        scene = Scene(account(poll="1h"), *map(channel, numbers, numbers.values()))
        scene.wazzup.rows = [row(name, number=number) for name, number in numbers.items()]

        async def answer(name):
            if name == "slow":
                await asyncio.sleep(5)
            elif name == "support" and scene.times("support") == [0]:
                raise Refused(429, "too many", retry_after=2.0)

        scene.server.on_patch = answer
        async with scene:
            await until(20)
            assert scene.times("support") == [0, 5]
            assert ready(scene.channel) == ("True", "Active")


class TestDeleted:
    """Answers that come after their object was deleted."""

    async def test_a_late_answer_does_not_restore_the_object(self):
        scene = Scene(account(), channel())

        async def delete(name):
            if name == "support":
                scene.remove(channel())

        scene.server.on_answer = delete
        async with scene:
            await until(100)
            assert scene.times("support") == [0]
            assert list(scene.store.all_channels()) == []

    async def test_a_late_answer_does_not_replace_a_recreated_object(self):
        old, new = channel(uid="old"), channel(uid="new")
        scene = Scene(account(), old)

        async def recreate(name):
            if uids() == ["old"]:
                scene.remove(old)
                scene.put(new)

        def uids():
            return [each.metadata.uid for each in scene.store.all_channels()]

        scene.server.on_answer = recreate
        async with scene:
            await until(0.5)
            assert uids() == ["new"]
            await until(10)
            assert scene.channel.state == "Active"
            assert uids() == ["new"]


class TestRefusedWrites:
    """An API server that refuses statuses."""

    async def test_refused_writes_back_off(self):
        scene = Scene(account(poll="1h"), channel())
        scene.server.patch_fails = Refused(422, "no")
        async with scene:
            await until(190)
            assert scene.times("support") == DOUBLING
            assert scene.times("listing") == [0]

    @pytest.mark.parametrize("status", [404, 409, 422])
    async def test_listings_keep_their_interval(self, status):
        scene = Scene(account(poll="20s"), channel())
        scene.server.patch_fails = Refused(status, "no")
        async with scene:
            await until(90)
            assert scene.times("listing") == [0, 20, 40, 60, 80]

    async def test_a_success_resets_the_backoff(self):
        scene = Scene(account(poll="1h"), channel())
        scene.server.patch_fails = Refused(422, "no")
        async with scene:
            await until(5)
            scene.server.patch_fails = None
            await until(100)
            assert scene.times("support") == [0, 2, 6]
            scene.server.patch_fails = Refused(422, "no")
            scene.edit(active=False)
            await until(107)
            assert scene.times("support") == [0, 2, 6, 100, 102, 106]

    async def test_a_new_generation_is_written_at_once(self):
        scene = Scene(account(poll="1h"), channel())
        scene.server.patch_fails = Refused(422, "no")
        async with scene:
            await until(100)
            assert scene.times("support") == DOUBLING[:6]
            scene.edit(active=False)
            await until(102)
            assert scene.times("support") == [*DOUBLING[:6], 100]

    async def test_each_object_backs_off_on_its_own(self):
        """One is always refused; when its neighbour is refused once, that is retried soon."""
        scene = Scene(account(poll="10s"), channel(), channel("neighbour", "+79990001122"))
        refused = {"support"}

        async def refuse(name):
            if name in refused:
                raise Refused(422, "not this one")

        scene.server.on_patch = refuse
        scene.wazzup.rows = [row(), row("b", number="+79990001122")]
        async with scene:
            await until(299)
            refused.add("neighbour")
            scene.wazzup.rows = [row(), row("b", "qr", "+79990001122")]
            await until(301)
            refused.discard("neighbour")
            await until(400)
            assert scene.times("neighbour") == [0, 300, 302]
            assert len([at for at in scene.times("support") if at > 62]) <= 6

    @pytest.mark.parametrize("status", [404, 409])
    async def test_an_outdated_object_is_written_when_the_watch_has_caught_up(self, status):
        scene = Scene(account(poll="1h"), channel())
        async with scene:
            await until(10)
            scene.server.patch_fails = Refused(status, "not this version")
            scene.edit(active=False)
            await until(40)
            scene.server.patch_fails = None
            newer = scene.server.api.edit(
                path_of(channel()), {"metadata": {"labels": {"team": "x"}}}
            )
            await until(69)
            assert scene.times("support") == [0, 10]
            scene.store.channels.upsert(CHANNELS.decode(newer))
            await until(71)
            assert len(scene.times("support")) == 3
            assert scene.times("listing") == [0, 10]
            assert ready(scene.channel) == ("False", "StillActive")

    @pytest.mark.parametrize("status", [404, 409])
    async def test_an_object_that_stays_as_it_is_is_written_after_a_minute(self, status):
        """A 404 or 409 for another reason, such as a CRD that is being replaced."""
        scene = Scene(account(poll="1h"), channel())
        scene.server.patch_fails = Refused(status, "not now")
        async with scene:
            await until(10)
            scene.server.patch_fails = None
            await until(62)
            assert scene.times("support") == [0, 60]
            assert ready(scene.channel) == ("True", "Active")

    async def test_an_outdated_version_that_a_restore_brings_back_is_written(self):
        scene = Scene(account(poll="1h"), channel())
        scene.server.patch_fails = Refused(409, "not this version")
        async with scene:
            await until(10)
            scene.server.patch_fails = None
            assert scene.times("support") == [0]
            restored = CHANNELS.decode(scene.server.api.find(path_of(channel())))
            await scene.store.channels.scope(None).replace([restored])
            await until(13)
            assert ready(scene.channel) == ("True", "Active")


class TestSlowRefusals:
    """An API server that is slow to refuse, as with an admission webhook that does not answer."""

    @pytest.fixture
    def fleet(self):
        """An account with 1,200 new channels, each of whose writes takes 10 s."""
        names = [f"c{number:04d}" for number in range(1200)]
        numbers = [f"+7912{number:07d}" for number in range(1200)]
        scene = Scene(account(poll="1h"), *map(channel, names, numbers))
        scene.wazzup.rows = [
            row(name, number=number) for name, number in zip(names, numbers, strict=True)
        ]

        async def slowly(name):
            await asyncio.sleep(10)

        scene.server.on_patch = slowly
        return scene, names

    async def test_listings_keep_their_interval(self, fleet):
        scene, names = fleet
        scene.put(account(poll="60s"))
        scene.server.patch_fails = Refused(500, "failed calling webhook")
        async with scene:
            await until(600)
            assert scene.loop.stuck_for() == 0
            listings = scene.times("listing")
            assert max(later - at for at, later in pairwise(listings)) <= 60 + 10
            scene.server.patch_fails = scene.server.on_patch = None
            await until(700)
            assert scene.server.statuses.keys() == {*names, "default"}

    async def test_slow_successes_are_not_stuck(self, fleet):
        scene, _ = fleet
        async with scene:
            for seconds in range(5, 1100, 5):
                await until(seconds)
                assert scene.loop.stuck_for() <= 10
            assert len(scene.server.statuses) == 1201

    async def test_refused_statuses_do_not_block_the_others(self, fleet):
        """Even if the refused ones are awaited."""
        scene, names = fleet
        scene.server.on_patch = None
        refused = set(names[:100])
        written = scene.server.merge_patch

        async def refuse_some(path, body):
            if path.split("/")[-2] in refused:
                raise Refused(422, "not these")
            return await written(path, body)

        scene.server.merge_patch = refuse_some
        async with scene:
            await until(600)
            assert scene.server.statuses.keys() == {*names, "default"} - refused

    async def test_refused_routine_writes_do_not_delay_a_new_object(self, fleet):
        """All routine writes are refused at once; then an object is created."""
        scene, names = fleet
        scene.server.on_patch = None
        written = scene.server.merge_patch

        async def refuse_old(path, body):
            if path.split("/")[-2] in names:
                raise Refused(422, "not these")
            return await written(path, body)

        async with scene:
            await until(5)
            scene.server.merge_patch = refuse_old
            scene.wazzup.rows = [replace(each, upstream_state="qr") for each in scene.wazzup.rows]
            scene.loop.wake(requested=True)
            await until(300)
            scene.put(channel("new", "+79990001122"))
            await until(302)
            assert "new" in scene.server.statuses

    async def test_an_awaited_status_goes_first_after_a_temporary_refusal(self, fleet):
        scene, names = fleet
        scene.server.on_patch = None
        async with scene:
            await until(5)
            scene.wazzup.rows = [replace(each, upstream_state="qr") for each in scene.wazzup.rows]
            scene.server.patch_fails = Refused(422, "not now")
            scene.put(channel("new", "+79990001122"))
            await until(7)
            assert scene.times("new"), "the first write was refused"
            scene.server.patch_fails = None
            tried = len(scene.calls)
            await until(15)
            after = [what for _, what in scene.calls[tried:] if what in {*names, "new"}]
            assert len(after) > 1000
            assert after.index("new") < WORKERS

    async def test_a_429_does_not_change_the_order(self, fleet):
        """A new object's write is answered with 429; after the wait, it goes first again."""
        scene, names = fleet
        scene.server.on_patch = None
        async with scene:
            await until(5)
            scene.wazzup.rows = [replace(each, upstream_state="qr") for each in scene.wazzup.rows]
            scene.put(channel("new", "+79990001122"))
            tried = len(scene.calls)
            scene.server.patch_fails = Refused(429, "busy", 3.0)
            await until(7)
            scene.server.patch_fails = None
            await until(12)
            after = [what for _, what in scene.calls[tried:] if what in {*names, "new"}]
            assert after.count("new") == 2, after[:40]
            assert after.index("new") < WORKERS
            again = after.index("new", after.index("new") + 1)
            assert again < 2 * WORKERS

    async def test_another_account_s_writes_do_not_wait(self, fleet):
        scene, _ = fleet
        other = scene.server.put(channel("other", "+79990001122", account="second"))
        async with scene:
            await until(15)
            started = now()
            scene.server.on_patch = None
            status = ChannelStatus(observed_generation=1, state="Active")
            assert isinstance(await scene.writer.write(CHANNELS, other, status), Written)
            assert now() - started < 1


class TestSlowWrites:
    """An API server that takes 5 s for each write."""

    async def test_a_list_during_a_write_does_not_make_the_plan_outdated(self):
        """It replaces the account in the Store by a copy of the same version."""
        scene = Scene(account(poll="1h"), channel())

        async def slowly(name):
            if name == "support":
                await asyncio.sleep(5)
                stored = scene.store.accounts.objects[ACCOUNT]
                await scene.store.accounts.scope(None).replace([replace(stored)])

        scene.server.on_patch = slowly
        async with scene:
            await until(20)
            assert scene.times("default") == [5]
            assert ready(scene.account) == ("True", "UpToDate")

    async def test_writes_get_as_much_time_as_the_plan_took(self, monkeypatch):
        """Objects keep coming, and each plan takes 5 s. 20 writes take 10 s, one after another."""
        names = [f"c{number:02d}" for number in range(240)]
        numbers = [f"+7912{number:07d}" for number in range(240)]
        scene = Scene(account(poll="1h"), *map(channel, names, numbers))
        plan = scene.loop._plan

        async def slowly(*arguments):
            await asyncio.sleep(5)
            return await plan(*arguments)

        async def write(name):
            await asyncio.sleep(0.5)
            scene.loop.wake(requested=False)

        monkeypatch.setattr(scene.loop, "_plan", slowly)
        scene.server.on_patch = write
        async with scene:
            await until(21)
            assert len(scene.server.statuses) == 240 + 1

    async def test_no_old_listing_is_written(self):
        """All channels fail and recover while 320 writes would take over two minutes."""
        numbers = [f"+7986578{4000 + n}" for n in range(320)]
        scene = Scene(
            account(poll="10s"), *(channel(f"c{n}", each) for n, each in enumerate(numbers))
        )

        async def slowly(name):
            await asyncio.sleep(5)

        def show(state):
            scene.wazzup.rows = [row(f"id-{number}", state, number) for number in numbers]

        show("active")
        async with scene:
            await until(9)
            scene.server.on_patch = slowly
            show("qr")
            await until(25)
            show("active")
            await until(200)
            listings = [at for at in scene.times("listing") if at >= 10]
            assert max(later - at for at, later in pairwise(listings)) <= 10 + 5 + 1
            # 12 workers write for 10 s, twice; then the same number recovers.
            failed = [at for at, name in scene.calls if name.startswith("c") and at > 9]
            assert len(failed) < 320
            assert max(failed) < 60
            assert {
                each["state"] for name, each in scene.server.statuses.items() if name != "default"
            } == {"Active"}
