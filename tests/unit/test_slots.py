"""Slots: bounded, shared fairly by namespaces, urgent ones first."""

import asyncio

import pytest

from wazzup_operator.kube.slots import Slots, _Queue


class Work:
    """Tasks that acquire a slot, record that, and release it when ended."""

    def __init__(self, slots):
        self.slots = slots
        self.started = []
        self.ends = {}
        self.tasks = {}

    async def start(self, name, namespace="shop", *, urgent=False):
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._do(name, namespace, urgent))
        await settle()

    async def _do(self, name, namespace, urgent):
        async with self.slots.acquire(namespace, urgent=urgent):
            self.started.append(name)
            await self.ends[name].wait()

    async def end(self, name):
        self.ends[name].set()
        await settle()


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_holders_than_slots():
    work = Work(Slots(2))
    for name in "abcd":
        await work.start(name)
    assert work.started == ["a", "b"]
    await work.end("a")
    assert work.started == ["a", "b", "c"]
    for name in "bcd":
        await work.end(name)
    assert work.started == ["a", "b", "c", "d"]
    await asyncio.gather(*work.tasks.values())


async def test_urgent_waiters_go_first():
    work = Work(Slots(1))
    for name in ("first", "routine-1", "routine-2"):
        await work.start(name)
    for name in ("urgent-1", "urgent-2"):
        await work.start(name, urgent=True)
    for name in ("first", "urgent-1", "urgent-2", "routine-1", "routine-2"):
        await work.end(name)
    assert work.started == ["first", "urgent-1", "urgent-2", "routine-1", "routine-2"]


async def test_a_namespace_with_many_waiters_delays_another_by_one_slot():
    work = Work(Slots(3))
    flood = [f"flood-{number}" for number in range(6)]
    for name in flood:
        await work.start(name, "hostile", urgent=True)
    await work.start("routine", "shop")
    await work.start("also-routine", "other-shop")
    for name in flood[:2]:
        await work.end(name)
    assert work.started == [*flood[:3], "routine", "also-routine"]
    for name in ("routine", "also-routine", *flood[2:]):
        await work.end(name)
    assert work.started[5:] == flood[3:]


async def test_namespaces_take_turns_and_urgent_waiters_of_any_go_first():
    work = Work(Slots(1))
    await work.start("first", "a")
    for name in ("a-2", "a-3"):
        await work.start(name, "a")
    for name in ("b-1", "b-2"):
        await work.start(name, "b")
    await work.start("c-1", "c", urgent=True)
    for _ in range(6):
        await work.end(work.started[-1])
    assert work.started == ["first", "c-1", "b-1", "a-2", "b-2", "a-3"]


@pytest.mark.parametrize("together", [False, True])
async def test_a_cancelled_waiter_takes_no_slot(together):
    """Also if it is cancelled just as it gets the slot."""
    work = Work(Slots(1))
    for name in ("first", "cancelled", "second"):
        await work.start(name)
    if together:
        work.ends["first"].set()
        await asyncio.sleep(0)
    work.tasks["cancelled"].cancel()
    await settle()
    await work.end("first")
    assert work.started[-1] == "second"
    await work.end("second")
    await work.start("third")
    assert work.started[-1] == "third"
    await work.end("third")


async def test_many_waiting_namespaces_do_not_slow_each_other_down(monkeypatch):
    """Each slot is given without a look at every namespace: the looks at queues are counted."""
    looks = 0
    drop_cancelled = _Queue.drop_cancelled

    def counted(queue):
        nonlocal looks
        looks += 1
        drop_cancelled(queue)

    monkeypatch.setattr(_Queue, "drop_cancelled", counted)
    work = Work(Slots(1))
    names = [f"team-{number}" for number in range(500)]
    for name in names:
        await work.start(name, name)
    for name in names:
        await work.end(name)
    assert work.started == names
    assert looks <= 5 * len(names)
    assert work.slots.waiting == 0


async def test_another_thread_may_count_the_waiters():
    """As each scrape does, while waiters come and go."""
    slots, done = Slots(1), asyncio.Event()

    async def use(namespace):
        async with slots.acquire(namespace):
            await asyncio.sleep(0)

    def count():
        while not done.is_set():
            assert 0 <= slots.waiting <= 1000

    counting = asyncio.create_task(asyncio.to_thread(count))
    for _ in range(3):
        await asyncio.gather(*(use(f"team-{number}") for number in range(1000)))
    done.set()
    await counting


async def test_an_exception_releases_the_slot():
    slots = Slots(1)
    with pytest.raises(ZeroDivisionError):
        async with slots.acquire("shop"):
            raise ZeroDivisionError
    async with asyncio.timeout(1), slots.acquire("shop"):
        pass
