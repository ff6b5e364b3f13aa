"""Strings that many objects share are in memory once, and only while somebody uses them."""

import tracemalloc

from tests.unit.build import NOW
from wazzup_operator.resources.base import Condition


def condition(message):
    return Condition(
        type="Ready",
        status="True",
        reason="Active",
        message="".join(message),  # a string of its own
        last_transition_time=NOW,
    )


def test_equal_messages_are_one_string():
    sentence = "The channel works."
    assert condition(sentence).message is condition(sentence).message


def test_messages_of_objects_that_are_gone_are_freed():
    tracemalloc.start()
    try:
        for number in range(20_000):
            condition(f"{number:01000d}")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 5_000_000
