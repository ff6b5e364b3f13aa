"""The clock of statuses, when somebody sets the machine's."""

from datetime import UTC, datetime, timedelta

import pytest

from wazzup_operator.controller.clock import SteadyClock

BEGIN = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Machine:
    """A machine with a wall clock that can be set and a monotonic one that cannot."""

    def __init__(self):
        self.elapsed = 5000.0
        self.error = 0.0

    def wall(self):
        return BEGIN.timestamp() - 5000 + self.elapsed + self.error

    def monotonic(self):
        return self.elapsed


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def clock(machine):
    return SteadyClock(machine.wall, machine.monotonic)


def test_it_goes_with_the_machine(machine, clock):
    assert clock() == BEGIN
    machine.elapsed += 3600.9
    assert clock() == BEGIN + timedelta(seconds=3600)


@pytest.mark.parametrize("step", [3600, -3600, 3, -3])
def test_a_step_is_not_followed_at_once(machine, clock, step):
    machine.error = step
    assert clock() == BEGIN
    machine.elapsed += 599
    assert clock() == BEGIN + timedelta(seconds=599)
    machine.error = 0
    machine.elapsed += 10_000
    assert clock() == BEGIN + timedelta(seconds=10_599)


@pytest.mark.parametrize("step", [3600, -3600])
def test_a_step_that_lasts_is_the_truth(machine, clock, step):
    machine.error = step
    assert clock() == BEGIN
    machine.elapsed += 600
    assert clock() == BEGIN + timedelta(seconds=600 + step)


def test_a_second_step_is_a_beginning_of_its_own(machine, clock):
    machine.error = 3600
    clock()
    machine.elapsed += 500
    machine.error = 0
    clock()
    machine.error = 3600
    clock()
    machine.elapsed += 500
    assert clock() == BEGIN + timedelta(seconds=1000)


def test_slewing_is_followed(machine, clock):
    for _ in range(100):
        machine.elapsed += 10
        machine.error += 1
        clock()
    assert clock() == BEGIN + timedelta(seconds=1100)


def test_a_step_is_told_once(machine, clock, caplog):
    machine.error = 3600
    for _ in range(5):
        machine.elapsed += 10
        clock()
    assert [each.getMessage() for each in caplog.records] == [
        "the machine's clock was set by +3600 s; it is followed in 10 min, if that lasts"
    ]
