"""The time of an event loop that jumps to whatever is due next (looptime)."""

import asyncio


def now():
    """Return the seconds since the test's beginning."""
    return round(asyncio.get_running_loop().time(), 3)


async def until(seconds):
    """Wait until so long after the beginning."""
    await asyncio.sleep(seconds - asyncio.get_running_loop().time())
