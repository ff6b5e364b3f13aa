"""Times of an event loop that jumps to the next timer (looptime)."""

import asyncio


def now():
    """Return the seconds since the start of the test."""
    return round(asyncio.get_running_loop().time(), 3)


async def until(seconds):
    """Wait until this many seconds after the start of the test."""
    await asyncio.sleep(seconds - asyncio.get_running_loop().time())
