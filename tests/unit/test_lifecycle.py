"""Tasks that crash are restarted; descriptors; garbage collection."""

import asyncio
import contextlib
import subprocess
import sys

import pytest

from tests.unit.virtual_time import now
from wazzup_operator.lifecycle import supervise, wait_for_stop

pytestmark = pytest.mark.looptime


class Task:
    """Each run has the next of `outcomes`: an exception, or the seconds until it ends."""

    def __init__(self, *outcomes):
        self.starts = []
        self.outcomes = list(outcomes)

    async def run(self):
        self.starts.append(now())
        if not self.outcomes:
            await asyncio.Event().wait()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        await asyncio.sleep(outcome)


@contextlib.asynccontextmanager
async def supervised(task):
    running = asyncio.create_task(supervise("the task", task.run))
    yield running
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_crash(caplog):
    task = Task(ValueError("odd"), KeyError("odder"))
    async with supervised(task):
        await asyncio.sleep(10)
    assert len(task.starts) == 3
    assert [each.getMessage() for each in caplog.records] == ["the task crashed; restarting"] * 2
    assert all(each.exc_info for each in caplog.records)


async def test_an_end_without_an_error(caplog):
    task = Task(0)
    async with supervised(task):
        await asyncio.sleep(10)
    assert len(task.starts) == 2
    assert caplog.records[0].getMessage() == "the task ended; restarting"


async def test_restarts_back_off():
    task = Task(*([ValueError()] * 1000))
    async with supervised(task):
        await asyncio.sleep(600)
    assert 10 <= len(task.starts) <= 40


async def test_a_long_run_resets_the_backoff():
    task = Task(*([ValueError()] * 10), 3600, 0)
    async with supervised(task):
        await asyncio.sleep(7200)
    assert task.starts[-2] - task.starts[-3] <= 3600 + 2


async def test_a_task_that_fails_ends_the_process():
    async def fail():
        raise OSError("nothing left")

    async def run_for_ever():
        await asyncio.Event().wait()

    tasks = {asyncio.create_task(fail()), asyncio.create_task(run_for_ever())}
    with pytest.raises(OSError, match="nothing left"):
        await wait_for_stop(tasks, asyncio.Event())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_the_descriptor_limit_is_raised_to_the_hard_one():
    code = """
import resource
from wazzup_operator.lifecycle import raise_descriptor_limit
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most // 2, most))
raise_descriptor_limit()
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def run_while_collecting(work):
    """Run this in a process that collects garbage like the controller."""
    code = f"""
import asyncio
import gc
import weakref
from wazzup_operator import lifecycle

async def run():
    collecting = asyncio.create_task(lifecycle.collect_garbage())
    await asyncio.sleep(0)
{work}

lifecycle.COLLECT_INTERVAL = 0.1
asyncio.run(run())
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_full_collection_skips_what_an_earlier_one_kept():
    run_while_collecting("""
    kept = [[] for _ in range(100_000)]
    gc.collect()
    assert len(gc.get_objects()) < 10_000
""")


def test_skipped_garbage_is_freed_after_the_interval():
    run_while_collecting("""
    class Connection:
        def __init__(self):
            self.itself = self

    connection = weakref.ref(skipped := Connection())
    gc.collect()
    del skipped
    gc.collect()
    assert connection()
    async with asyncio.timeout(20):
        while connection():
            await asyncio.sleep(0.1)
""")
