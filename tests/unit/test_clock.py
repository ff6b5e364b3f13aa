"""SteadyClock, when the machine's clock steps."""

from datetime import UTC, datetime, timedelta

import pytest

from wazzup_operator.controller.clock import SteadyClock

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Machine:
    """A machine whose wall clock is off by `error`."""

    def __init__(self):
        self.elapsed = 5000.0
        self.error = 0.0

    def wall(self):
        return START.timestamp() - 5000 + self.elapsed + self.error

    def monotonic(self):
        return self.elapsed


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def clock(machine):
    return SteadyClock(machine.wall, machine.monotonic)


def test_it_follows_the_machine(machine, clock):
    assert clock() == START
    machine.elapsed += 3600.9
    assert clock() == START + timedelta(seconds=3600)


@pytest.mark.parametrize("step", [3600, -3600, 3, -3])
def test_a_step_is_not_followed_at_once(machine, clock, step):
    machine.error = step
    assert clock() == START
    machine.elapsed += 599
    assert clock() == START + timedelta(seconds=599)
    machine.error = 0
    machine.elapsed += 10_000
    assert clock() == START + timedelta(seconds=10_599)


@pytest.mark.parametrize("step", [3600, -3600])
def test_a_lasting_step_is_followed(machine, clock, step):
    machine.error = step
    assert clock() == START
    machine.elapsed += 600
    assert clock() == START + timedelta(seconds=600 + step)


def test_a_second_step_starts_over(machine, clock):
    machine.error = 3600
    clock()
    machine.elapsed += 500
    machine.error = 0
    clock()
    machine.error = 3600
    clock()
    machine.elapsed += 500
    assert clock() == START + timedelta(seconds=1000)


def test_slewing_is_followed(machine, clock):
    for _ in range(100):
        machine.elapsed += 10
        machine.error += 1
        clock()
    assert clock() == START + timedelta(seconds=1100)


def test_a_step_is_logged_once(machine, clock, caplog):
    machine.error = 3600
    for _ in range(5):
        machine.elapsed += 10
        clock()
    assert [each.getMessage() for each in caplog.records] == [
        "the machine's clock stepped by +3600 s; statuses follow if it stays so for 10 min"
    ]
