"""The soak's plan of faults, and its judge of trends."""

import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.drills.faults import Faults
from tests.drills.plan import HARSH_PART, KINDS, plan
from tests.drills.trend import LIMITS, Life, Sample, Trend


def test_a_seed_repeats_its_plan() -> None:
    assert plan(7, 120) == plan(7, 120)
    assert plan(7, 120) != plan(8, 120)


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_for_two_hours(seed: int) -> None:
    faults = plan(seed, 120)
    times = Counter(each.name for each in faults)
    assert set(times) == {kind.name for kind in KINDS}
    assert min(times.values()) >= 2
    assert all(here.at + here.lasts < there.at for here, there in pairwise(faults))
    late = [each for each in faults if each.at + each.lasts > 7200 * HARSH_PART]
    assert {each.name for each in late} == {kind.name for kind in KINDS if not kind.harsh}
    assert not any(each.harsh for each in late)


def test_each_fault_can_be_injected() -> None:
    assert all(callable(getattr(Faults, kind.name)) for kind in KINDS)


def life(mib: Callable[[float], float], minutes: int = 80, noise: float = 1) -> Life:
    """Return a life with a sample every 10 s; memory grows for 15 minutes, and by `mib`."""
    chance = random.Random(1)
    return Life(
        "controller",
        "leader",
        [
            Sample(
                minute,
                min(90 + minute * 4, 150) + mib(minute) + chance.gauss(0, noise),
                20,
                10,
                30,
                0,
            )
            for minute in (number / 6 for number in range(6 * minutes))
        ],
    )


def grows(found: Life) -> set[str]:
    return {what for what, each in found.trends().items() if each.grows(LIMITS[what])}


@pytest.mark.parametrize(
    ("mib", "found"),
    [
        (lambda minute: 0, set()),
        (lambda minute: 100 if minute % 7 < 1 else 0, set()),
        (lambda minute: 4 * minute / 60, set()),
        (lambda minute: -20 * minute / 60, set()),
        (lambda minute: 12 * minute / 60, {"MiB"}),
        (lambda minute: 12 * minute / 60 + (100 if minute % 7 < 1 else 0), {"MiB"}),
        (lambda minute: 10 * (minute // 20), {"MiB"}),
    ],
    ids=[
        "flat",
        "peaks",
        "slow",
        "falling",
        "leak",
        "leak with peaks",
        "leak in steps",
    ],
)
def test_memory_that_grows_is_found(mib: Callable[[float], float], found: set[str]) -> None:
    assert grows(life(mib)) == found


@pytest.mark.parametrize("noise", [5, 8])
def test_a_leak_within_noise_is_found(noise: float) -> None:
    assert grows(life(lambda minute: 12 * minute / 60, noise=noise)) == {"MiB"}
    assert grows(life(lambda minute: 0, noise=noise)) == set()


def test_rises_by_chance_are_no_trend() -> None:
    trend = Trend(median=151, per_hour=10, noise=5, thirds=(150, 151, 152), chance=1.5)
    assert not trend.grows(8)
    assert trend._replace(chance=0.5).grows(8)


@pytest.mark.parametrize("when", range(25, 80, 5))
def test_one_step_is_no_trend(when: int) -> None:
    assert grows(life(lambda minute: 30 if minute > when else 0)) == set()
    leak = life(lambda minute: 12 * minute / 60 + (30 if minute > when else 0))
    assert grows(leak) == {"MiB"}


def test_a_short_life_is_not_judged() -> None:
    assert life(lambda minute: minute, minutes=39).trends() == {}
    assert grows(life(lambda minute: minute, minutes=41)) == {"MiB"}


def test_whatever_grows_is_found() -> None:
    samples = [
        Sample(each, 150.0, 20 + each // 10, 10 + each // 10, 30 + each, 900 + each)
        for each in range(80)
    ]
    assert grows(Life("controller", "leader", samples)) == set(LIMITS) - {"MiB"}
