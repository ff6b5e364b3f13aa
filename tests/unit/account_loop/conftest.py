"""For all tests of an account's loop: chance and unexpected errors."""

import logging
import random

import pytest

from tests.unit.virtual_time import now
from wazzup_operator.controller import account_loop


@pytest.fixture(autouse=True)
def longest(monkeypatch):
    """Let chance always choose the most."""
    monkeypatch.setattr(random, "uniform", lambda least, most: max(least, most))


@pytest.fixture(autouse=True)
def plans(monkeypatch):
    """Let the wall clock go with the loop's, and take down when a pass is planned."""
    times, plan = [], account_loop.plan

    def recorded(view):
        times.append(now())
        return plan(view)

    monkeypatch.setattr(account_loop, "plan", recorded)
    return times


@pytest.fixture(autouse=True)
def no_surprises(caplog):
    """Let a test fail whose passes failed, unless it expects that and clears the log."""
    yield
    assert not [each for each in caplog.get_records("call") if each.levelno >= logging.ERROR]
