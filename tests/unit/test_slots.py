"""Turns: bounded, in order, the urgent first."""

import asyncio

import pytest

from wazzup_operator.kube.slots import Slots


class Work:
    """Tasks that take a turn, say so, and give it back when told."""

    def __init__(self, slots):
        self.slots = slots
        self.begun = []
        self.ends = {}
        self.tasks = {}

    async def begin(self, name, *, urgent=False):
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._do(name, urgent))
        await settle()

    async def _do(self, name, urgent):
        async with self.slots.acquire(urgent=urgent):
            self.begun.append(name)
            await self.ends[name].wait()

    async def end(self, name):
        self.ends[name].set()
        await settle()


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_than_so_many_at_once():
    work = Work(Slots(2))
    for name in "abcd":
        await work.begin(name)
    assert work.begun == ["a", "b"]
    await work.end("a")
    assert work.begun == ["a", "b", "c"]
    for name in "bcd":
        await work.end(name)
    assert work.begun == ["a", "b", "c", "d"]
    await asyncio.gather(*work.tasks.values())


async def test_the_urgent_go_first():
    work = Work(Slots(1))
    for name in ("first", "routine-1", "routine-2"):
        await work.begin(name)
    for name in ("urgent-1", "urgent-2"):
        await work.begin(name, urgent=True)
    for name in ("first", "urgent-1", "urgent-2", "routine-1", "routine-2"):
        await work.end(name)
    assert work.begun == ["first", "urgent-1", "urgent-2", "routine-1", "routine-2"]


@pytest.mark.parametrize("together", [False, True])
async def test_who_gives_up_waiting_takes_no_turn(together):
    """Also when the turn comes in the instant in which the task is cancelled."""
    work = Work(Slots(1))
    for name in ("first", "gives-up", "second"):
        await work.begin(name)
    if together:
        work.ends["first"].set()
        await asyncio.sleep(0)
    work.tasks["gives-up"].cancel()
    await settle()
    await work.end("first")
    assert work.begun[-1] == "second"
    await work.end("second")
    await work.begin("third")
    assert work.begun[-1] == "third"
    await work.end("third")


async def test_a_failure_gives_the_turn_back():
    slots = Slots(1)
    with pytest.raises(ZeroDivisionError):
        async with slots.acquire(urgent=False):
            raise ZeroDivisionError
    async with asyncio.timeout(1), slots.acquire(urgent=False):
        pass
