"""For all tests."""

import asyncio

# Before Python 3.14, pytest-asyncio asks for the current event loop, and without this line one is
# then made that nobody closes.
asyncio.set_event_loop(None)
