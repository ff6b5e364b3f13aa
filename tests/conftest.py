"""For all tests."""

import asyncio
from collections.abc import Iterator

import pytest

# Before Python 3.14, pytest-asyncio asks for the current event loop, and without this line one is
# then made that nobody closes.
asyncio.set_event_loop(None)


@pytest.fixture(scope="module", autouse=True)
def no_loop_is_left() -> Iterator[None]:
    """Before Python 3.14, a test's loop stays the thread's, or one is made that nobody closes."""
    asyncio.set_event_loop(None)
    yield
    asyncio.set_event_loop(None)
