"""Fixtures for all tests of the account loop: random waits, plans and unexpected errors."""

import logging
import random

import pytest

from tests.unit.virtual_time import now
from wazzup_operator.controller import account_loop


@pytest.fixture(autouse=True)
def longest(monkeypatch):
    """Make random waits as long as possible."""
    monkeypatch.setattr(random, "uniform", lambda low, high: max(low, high))


@pytest.fixture(autouse=True)
def plans(monkeypatch):
    """Record when a pass is planned."""
    times, plan = [], account_loop.plan

    def recorded(view, findings):
        times.append(now())
        return plan(view, findings)

    monkeypatch.setattr(account_loop, "plan", recorded)
    return times


@pytest.fixture(autouse=True)
def no_failed_passes(caplog):
    """Fail a test whose passes failed, unless it clears the log."""
    yield
    assert not [each for each in caplog.get_records("call") if each.levelno >= logging.ERROR]
