"""After any history, once everything works again, the statuses report the newest facts.

A history is a list of steps in a world. Each write is checked when it is sent; at the end
everything heals, and each status is compared with what the rules in docs/architecture.md and the
README demand.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.unit.examples import examples
from tests.unit.histories.outcome import check, check_quiet, check_unlisted
from tests.unit.histories.process import DEFAULT, FAR, SECOND
from tests.unit.histories.steps import OUTAGES, afterwards, everything, steady
from tests.unit.histories.world import World
from tests.unit.histories.writes import complaints

pytestmark = pytest.mark.timeout(600)
"""Takes half a minute on an idle machine."""


def run_steps(world: World, steps: list[Any]) -> None:
    for name, *rest in steps:
        more = rest.pop() if rest and isinstance(rest[-1], dict) else {}
        world.do((name, *rest), more)


@contextmanager
def a_world(poll: str) -> Iterator[World]:
    """Yield a world; print its history if a check fails."""
    with World(poll, complaints) as world:
        try:
            yield world
        except AssertionError:
            note("\n".join(f"{at:10.1f}  {' '.join(map(str, what))}" for at, what in world.story))
            raise


@examples(2000)
@given(everything, afterwards)
def test_the_newest_facts_are_reported(steps: Any, more_steps: Any) -> None:
    with a_world("1h") as world:
        run_steps(world, steps)
        world.heal()
        world.do(("wait", 2 * 3600 + 900))
        check(world, settled=True)
        check_quiet(world, settled=True)
        run_steps(world, more_steps)
        world.heal()
        world.do(("wait", 200))
        check(world, settled=False)
        check_quiet(world, settled=False)
        world.do(("wait", 1000))
        check(world, settled=False)  # now at the latest, waiting has become Stalled


@examples(30)
@given(everything)
def test_statuses_do_not_depend_on_what_earlier_passes_settled(steps: Any) -> None:
    histories = []
    for remembers in (True, False):
        random.seed(0)  # waiting times have a random part
        with a_world("1m") as world:
            world.remembers = remembers
            run_steps(world, steps)
            world.heal()
            world.do(("wait", 1000))
            histories.append([(each.at, each.key, each.status) for each in world.writes])
    assert histories[0] == histories[1]


@examples(250)
@given(steady, st.sampled_from(OUTAGES))
def test_a_long_outage_is_unknown_and_recovers(steps: Any, outage: Any) -> None:
    trouble, reason = outage
    with a_world("5m") as world:
        run_steps(world, steps)
        world.heal()
        for key in (DEFAULT, SECOND, FAR):
            world.do(("trouble", key, trouble))
        world.do(("wait", 1500))
        check_unlisted(world, reason)
        check_quiet(world, settled=True)
        world.heal()
        world.do(("wait", 700))
        check(world, settled=True)
        check_quiet(world, settled=True)
