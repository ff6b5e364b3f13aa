"""What a pass over many objects costs: counted, not timed."""

import asyncio
from dataclasses import replace

import pytest

from tests.unit.account_loop.scene import Scene
from tests.unit.build import (
    ACCOUNT,
    World,
    account,
    at,
    body,
    channel,
    finished,
    listed,
    make_plan,
    names,
    ready,
    row,
)
from tests.unit.virtual_time import until
from wazzup_operator.reconcile import claims
from wazzup_operator.reconcile import plan as module
from wazzup_operator.reconcile.find import STEP, find
from wazzup_operator.reconcile.plan import plan
from wazzup_operator.resources.codec import CHANNELS

COUNT = 2 * STEP
NUMBERS = [f"+7912{number:07d}" for number in range(COUNT)]
FLEET = [channel(f"c{index:04d}", number) for index, number in enumerate(NUMBERS)]
ROWS = [row(f"id-{number}", number=number) for number in NUMBERS]


@pytest.fixture
def computed(monkeypatch):
    """Record the objects whose next status is computed."""
    computed, next_status = [], module.next_status

    def recorded(channel, *rest):
        computed.append(channel.metadata.name)
        return next_status(channel, *rest)

    monkeypatch.setattr(module, "next_status", recorded)
    return computed


def test_finding_and_planning_yield_after_each_step():
    view = World(*FLEET).view(listed(*ROWS), at(0))
    assert len(list(find(view))) == 2 * COUNT / STEP
    assert len(list(plan(view, finished(find(view))))) == COUNT / STEP


def test_settled_objects_are_not_looked_up_again():
    """Nor after a new list has replaced each object in the Store with an equal one."""
    world, observation = World(*FLEET), listed(*ROWS)
    for now in (at(0), at(1), at(2)):
        world.step(observation, now)
        view = replace(world.view(observation, now), settled=world.settled[ACCOUNT])
        assert len(finished(find(view)).fresh) == (COUNT if now == at(0) else 0)
        if now == at(1):
            world.put(*(replace(each) for each in world.channels.values()))


@pytest.mark.looptime
async def test_other_tasks_run_during_a_pass():
    scene, turns = Scene(account(), *FLEET), 0
    scene.wazzup.rows = ROWS

    def turn():
        nonlocal turns
        written = {"c0000", "default"} & scene.server.statuses.keys()
        turns += scene.since(0)[-1:] == ["listing"]
        if not written:
            asyncio.get_running_loop().call_soon(turn)

    async with scene:
        asyncio.get_running_loop().call_soon(turn)
        await until(0.5)
        assert turns >= 3 * COUNT / STEP
        assert ready(scene.account) == ("True", "UpToDate")


class TestUnchanged:
    """Objects whose version and finding are those of the last pass."""

    @pytest.fixture
    def world(self, computed):
        world = World(*FLEET)
        for minute in range(2):  # the first pass writes, the second finds nothing to write
            world.step(listed(*ROWS), at(minute))
        computed.clear()
        return world

    def planned(self, world, observation, minutes):
        """Return the names of the objects that a plan writes to."""
        view = replace(
            world.view(observation, at(minutes)), settled=world.settled["shop", "default"]
        )
        return names(make_plan(view))

    def test_nothing_is_computed_again(self, world, computed):
        assert not self.planned(world, listed(*reversed(ROWS)), 2)
        assert computed == []

    def test_an_object_that_was_listed_again_is_not_computed(self, world, computed):
        for each in list(world.channels.values()):
            world.put(CHANNELS.decode(body(each)))
        assert not self.planned(world, listed(*ROWS), 2)
        assert computed == []

    def test_objects_that_were_listed_again_are_not_kept_twice(self, world):
        for each in list(world.channels.values()):
            world.put(CHANNELS.decode(body(each)))
        before = world.settled["shop", "default"]
        view = replace(world.view(listed(*ROWS), at(2)), settled=before)
        kept = make_plan(view).settled
        assert len(kept) == COUNT
        assert all(kept[each.metadata.uid].channel is each for each in view.channels)

    def test_a_changed_row_is_computed(self, world, computed):
        rows = [row("id-" + NUMBERS[7], "qr", NUMBERS[7]), *ROWS[:7], *ROWS[8:]]
        assert self.planned(world, listed(*rows), 2) == {"c0007"}
        assert computed == ["c0007"]

    def test_a_changed_object_is_computed(self, world, computed):
        world.edit("c0007", active=False)
        assert self.planned(world, listed(*ROWS), 2) == {"c0007"}
        assert computed == ["c0007"]

    def test_an_object_is_computed_when_its_deadline_is_over(self, computed):
        world, seen = World(channel()), listed(row("a", "qr"))
        for minute in range(2):
            world.step(seen, at(minute))
        computed.clear()
        assert not self.planned(world, seen, 14.9)
        assert computed == []
        assert self.planned(world, seen, 15) == {"support"}


class TestSettled:
    """An object whose row is the same as in the last pass, which `World.step` finds both ways."""

    @pytest.fixture
    def seen(self):
        return listed(row("a"))

    @pytest.fixture
    def world(self, seen):
        world = World(channel(created=5))
        for minute in range(2):
            world.step(seen, at(minute))
        return world

    def test_an_older_object_for_the_number(self, world, seen):
        world.put(channel("older"))
        world.step(seen, at(2))
        assert ready(world.status()) == ("False", "DuplicatePhoneNumber")

    def test_another_declared_channel(self, world, seen):
        world.edit(channel_id="b")
        world.step(seen, at(2))
        assert ready(world.status()) == ("False", "NotAdded")

    def test_a_row_that_became_ambiguous(self, world, seen):
        world.edit(active=False)
        for minute in range(2, 4):
            world.step(seen, at(minute))
        world.step(listed(ambiguous_ids=["a"]), at(4))
        assert ready(world.status()) == ("False", "StillActive")

    def test_a_channel_that_was_added_again(self, world):
        off = row("a", "disabled")
        for minute in range(2, 4):
            world.step(listed(off), at(minute))
        world.step(listed(off, row("b")), at(4))
        assert world.status().channel_id == "b"


@pytest.mark.parametrize("namespaces", [1, COUNT])
def test_a_channel_that_many_objects_declare_is_settled_once(namespaces, monkeypatch):
    compared, keeper_of = [], claims.keeper_of

    def counted(claimants):
        claimants = list(claimants)
        compared.extend(claimants)
        return keeper_of(claimants)

    monkeypatch.setattr(claims, "keeper_of", counted)
    monkeypatch.setattr("wazzup_operator.reconcile.find.keeper_of", counted)
    world = World(account(namespace="shop"))
    for index in range(COUNT):
        world.put(
            channel(
                f"c{index:04d}",
                NUMBERS[index],
                channel_id="a",
                created=index,
                namespace="shop" if namespaces == 1 or index == 0 else f"team-{index}",
            )
        )
    found = finished(find(world.view(listed(row("a", number=None)), at(0))))
    finished(plan(world.view(listed(row("a", number=None)), at(0)), found))
    assert len(compared) <= 3 * COUNT
