"""For all tests."""

import asyncio
from collections.abc import Iterator

import pytest

# Before Python 3.14, pytest-asyncio gets the current event loop; without this line, asyncio creates
# one that is never closed.
asyncio.set_event_loop(None)


@pytest.fixture(scope="module", autouse=True)
def no_leftover_loop() -> Iterator[None]:
    """Unset the event loop: before Python 3.14, one may be left that is never closed."""
    asyncio.set_event_loop(None)
    yield
    asyncio.set_event_loop(None)
