"""Which faults a soak injects, and when: the same for the same seed, whatever happens meanwhile."""

import random
from collections.abc import Iterator
from typing import NamedTuple

PAUSES = (4.0, 16.0)
"""Seconds from the end of a fault to the next one."""

HARSH_PART = 1 / 3
"""Part of a long soak in which processes may be lost. Afterwards they live, so that trends show."""

LONG = 90.0
"""Minutes of a long soak: its calm part is 20 minutes longer than a trend needs (trend.py)."""


class Kind(NamedTuple):
    """A fault, and how many seconds it lasts."""

    name: str
    shortest: float
    longest: float
    harsh: bool = False
    """Whether a controller or the webhook may exit."""


KINDS = (
    Kind("answer_wrongly", 5, 15),
    Kind("fail_in_wazzup", 10, 60),
    Kind("shorten_listings", 20, 40),
    Kind("rotate_key", 5, 20),
    Kind("revoke_key", 5, 20),
    Kind("rotate_certificate", 0, 0),
    Kind("cut_watches", 0, 5),
    Kind("refuse_writes", 5, 20),
    Kind("hang_etcd", 1, 3),
    Kind("suspend_briefly", 1, 3),
    Kind("let_a_tenant_attack", 10, 20),
    Kind("kill_leader", 0, 0, harsh=True),
    Kind("kill_standby", 0, 0, harsh=True),
    Kind("kill_webhook", 0, 0, harsh=True),
    Kind("suspend_leader", 18, 30, harsh=True),
    Kind("suspend_standby", 5, 30, harsh=True),
    Kind("suspend_webhook", 5, 20, harsh=True),
    Kind("cut_leader_off", 18, 40, harsh=True),
    Kind("stop_api_server", 0, 40, harsh=True),
    Kind("kill_api_server", 0, 40, harsh=True),
    Kind("suspend_etcd", 12, 30, harsh=True),
    Kind("restore_etcd", 5, 20, harsh=True),
    Kind("let_senders_attack", 8, 15, harsh=True),
)


class Fault(NamedTuple):
    """A fault of a plan."""

    at: float
    """Seconds from the beginning, if the faults before take no longer than planned."""

    name: str
    lasts: float
    number: int
    """Seeds the fault's own choices."""

    harsh: bool

    def __str__(self) -> str:
        return f"{self.at / 60:6.1f} min: {self.name} for {self.lasts:.0f} s ({self.number})"


def harsh_until(minutes: float) -> float:
    """Return the second in which the harsh part of a soak ends."""
    return 60 * minutes * (HARSH_PART if minutes >= LONG else 1)


def plan(seed: int, minutes: float) -> list[Fault]:
    """Return the faults of a soak: in each round every kind once, in random order."""
    chance = random.Random(seed)
    end = 60 * minutes
    faults: list[Fault] = []
    at = chance.uniform(*PAUSES)
    kinds = _rounds(chance)
    while at < end:
        kind = next(kinds)
        lasts = chance.uniform(kind.shortest, kind.longest)
        if kind.harsh and at + lasts > harsh_until(minutes):
            continue
        faults.append(Fault(at, kind.name, lasts, chance.randrange(1000), kind.harsh))
        at += lasts + chance.uniform(*PAUSES)
    return faults


def _rounds(chance: random.Random) -> Iterator[Kind]:
    while True:
        yield from chance.sample(KINDS, len(KINDS))
