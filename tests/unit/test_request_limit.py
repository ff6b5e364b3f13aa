"""Requested listings have turns, each namespace its own."""

import pytest

from wazzup_operator.controller.request_limit import RequestLimit


def turns(limit, count, now, namespace="shop"):
    return [limit.turn(namespace, now) - now for _ in range(count)]


def test_50_come_at_once_and_then_10_per_second():
    waits = turns(RequestLimit(), 1050, 1000.0)
    assert waits[:50] == pytest.approx([0] * 50, abs=0.001)
    assert waits[50:53] == pytest.approx([0.1, 0.2, 0.3])
    assert waits[-1] == pytest.approx(100)


def test_other_namespaces_do_not_wait():
    limit = RequestLimit()
    turns(limit, 1000, 0.0)
    assert turns(limit, 50, 0.0, "elsewhere") == pytest.approx([0] * 50, abs=0.001)


@pytest.mark.parametrize(("seconds", "at_once"), [(1.01, 10), (60, 50)])
def test_turns_come_back_with_time(seconds, at_once):
    limit = RequestLimit()
    turns(limit, 50, 0.0)
    assert sum(wait < 0.001 for wait in turns(limit, 100, seconds)) == at_once
