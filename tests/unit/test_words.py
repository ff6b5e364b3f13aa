"""Which strings of objects are kept, and that equal ones are kept once."""

import tracemalloc

import pytest

from tests.unit.build import NOW, account, body, channel
from wazzup_operator.resources.codec import ACCOUNTS, CHANNELS


def decoded(message):
    """Return the message of an object that the API server sent."""
    condition = {"type": "Ready", "status": "True", "reason": "UpToDate", "message": message}
    condition["lastTransitionTime"] = NOW.isoformat()
    stored = ACCOUNTS.decode({**body(account()), "status": {"conditions": [condition]}})
    return stored.status.conditions[0].message


def test_equal_messages_are_one_string():
    sentence, copy = (" ".join(["The", "account", "works."]) for _ in range(2))
    assert copy is not sentence
    assert decoded(copy) is decoded(sentence)


def test_messages_of_objects_that_are_gone_are_freed():
    tracemalloc.start()
    try:
        for number in range(20_000):
            decoded(f"{number:01000d}")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 5_000_000


@pytest.mark.parametrize(("resource", "make"), [(CHANNELS, channel), (ACCOUNTS, account)])
def test_of_annotations_only_what_is_read_is_kept(resource, make):
    """A user may write 256 KiB into those of each object."""
    stored = body(make())
    stored["metadata"]["annotations"] = {
        "example.com/note": "x" * 100_000,
        "wazzup.dev/note": "x" * 100_000,
        "wazzup.dev/paused": "true",
        "wazzup.dev/requested-at": "x" * 100_000,
        "wazzup.dev/replaces": "a" * 253,
    }
    assert resource.decode(stored).metadata.annotations == {
        "wazzup.dev/paused": "true",
        "wazzup.dev/requested-at": "x" * 256,
        "wazzup.dev/replaces": "a" * 253,
    }
