"""What ends by surprise is begun again."""

import asyncio
import contextlib

import pytest

from tests.unit.virtual_time import now
from wazzup_operator.lifecycle import supervise, watch_over

pytestmark = pytest.mark.looptime


class Task:
    """Each time it is begun it does the next of what it was told; then it goes on for ever."""

    def __init__(self, *fates):
        self.begun = []
        self.fates = list(fates)

    async def run(self):
        self.begun.append(now())
        if not self.fates:
            await asyncio.Event().wait()
        fate = self.fates.pop(0)
        if isinstance(fate, Exception):
            raise fate
        await asyncio.sleep(fate)


@contextlib.asynccontextmanager
async def supervised(task):
    running = asyncio.create_task(supervise("the task", task.run))
    yield running
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_surprise(caplog):
    task = Task(ValueError("odd"), KeyError("odder"))
    async with supervised(task):
        await asyncio.sleep(10)
    assert len(task.begun) == 3
    assert [each.getMessage() for each in caplog.records] == [
        "the task ended by a surprise; beginning it again"
    ] * 2
    assert all(each.exc_info for each in caplog.records)


async def test_an_end_without_a_reason(caplog):
    task = Task(0)
    async with supervised(task):
        await asyncio.sleep(10)
    assert len(task.begun) == 2
    assert caplog.records[0].getMessage() == "the task ended; beginning it again"


async def test_it_is_not_begun_in_a_tight_loop():
    task = Task(*([ValueError()] * 1000))
    async with supervised(task):
        await asyncio.sleep(600)
    assert 10 <= len(task.begun) <= 40


async def test_what_ran_well_for_long_is_begun_again_soon():
    task = Task(*([ValueError()] * 10), 3600, 0)
    async with supervised(task):
        await asyncio.sleep(7200)
    assert task.begun[-2] - task.begun[-3] <= 3600 + 2


async def test_a_task_that_fails_ends_the_process():
    async def fail():
        raise OSError("nothing left")

    async def go_on():
        await asyncio.Event().wait()

    tasks = {asyncio.create_task(fail()), asyncio.create_task(go_on())}
    with pytest.raises(OSError, match="nothing left"):
        await watch_over(tasks, asyncio.Event())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
