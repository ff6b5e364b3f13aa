"""Two hours under load and faults: `make soak`, or shorter with SOAK_MINUTES.

10,000 objects in 50 accounts, ten changes a second, two replicas and a webhook, and the faults of
plan.py; SOAK_SEED repeats them. No status may be wrong at any time, a lost leader must be replaced
in time, and nothing that a process takes may grow (trend.py).
"""

import os
import random
import statistics
import time
from collections.abc import Iterator

import pytest

from tests.drills.crew import Crew
from tests.drills.drill import Drill
from tests.drills.faults import Faults
from tests.drills.figures import measured, trending
from tests.drills.leaders import DEFAULT, wait_written
from tests.drills.plan import LONG, plan
from tests.drills.tenancy import NAMESPACE, Tenancy
from tests.drills.traffic import INTERVAL, Traffic
from tests.drills.trend import LIMITS
from tests.drills.truth import Truth
from tests.integration.harness.api import Api
from tests.integration.harness.webhook import (
    USER,
    Authority,
    Configuration,
    Webhook,
    of_chart,
)

MINUTES = float(os.environ.get("SOAK_MINUTES", "120"))
SEED = int(os.environ.get("SOAK_SEED", time.time_ns() % 10**6))
ACCOUNTS = round(min(50, max(3, 50 * MINUTES / 30)))
"""All 50 from 30 minutes on."""

WINDOW = 30.0
"""Seconds from a listing to its statuses: accounts are listed every 15 s, and bursts take time."""

STALE_AFTER = 600.0
PATIENCE = 600.0
"""Seconds in which every status must be right after the last fault."""


@pytest.fixture
def traffic(drill: Drill) -> Traffic:
    return Traffic(drill, ACCOUNTS, random.Random(SEED))


@pytest.fixture
def truth(drill: Drill, traffic: Traffic) -> Truth:
    return drill.truth(window=WINDOW, stale_after=STALE_AFTER)


@pytest.fixture
def tenancy(drill: Drill) -> Tenancy:
    drill.simulator.add_account(["key-hostile"], id=NAMESPACE)
    shared = drill.simulator.add_channel("79980000000", account=NAMESPACE)
    drill.simulator.patch_channel(shared, plainId=None)  # so that any number may claim it
    tenancy = Tenancy(drill.plane, drill.directory, shared.id)
    tenancy.make("key-hostile")
    drill.others.append(NAMESPACE)  # which the replicas watch, too
    return tenancy


@pytest.fixture
def webhook(drill: Drill) -> Iterator[Webhook]:
    given = of_chart(drill.plane)
    given.kubeconfig = drill.plane.kubeconfig_for(USER)  # a token would expire after an hour
    webhook = Webhook(given, drill.directory / "webhook", Authority())
    webhook.start()
    try:
        yield webhook
        assert "Traceback" not in webhook.log()
    finally:
        webhook.stop()


@pytest.fixture
def crew(drill: Drill, truth: Truth, tenancy: Tenancy, webhook: Webhook) -> Iterator[Crew]:
    webhook.wait_ready()
    configuration = Configuration(Api(drill.plane.kubeconfig))
    configuration.point(webhook.port, webhook.trusted)
    gates = {number: drill.gate(number) for number in (1, 2)}
    replicas = [(drill.replica(number, gate=gate), gate) for number, gate in gates.items()]
    with Crew(replicas, webhook, configuration, drill, truth) as crew:
        crew.settle()
        yield crew


@pytest.mark.timeout(0)
def test_soak(drill: Drill, traffic: Traffic, truth: Truth, tenancy: Tenancy, crew: Crew) -> None:
    print(f"\nsoak: {MINUTES:g} minutes, {traffic.size:,} objects, SOAK_SEED={SEED}")
    wait_written(drill, crew.leader(), traffic.expected(), PATIENCE)
    faults = Faults(drill, traffic, crew, truth, tenancy)
    problems: list[str] = []
    with traffic:
        injected = run(faults, crew, problems)
    drill.simulator.clear_faults()
    last = time.monotonic()
    problems += wrong_at_last(drill, traffic, crew)
    measured(
        f"load and faults for {MINUTES:g} minutes",
        objects=traffic.size,
        changes=traffic.done["wazzup"] + traffic.done["kubernetes"],
        faults=injected,
        leaders_lost=len(faults.losses),
        exits=len(crew.exits),
        all_right_after_the_last=time.monotonic() - last,
    )
    print(f"changes: {dict(traffic.done)}; exits: {crew.exits}")
    violations = truth.violations()
    problems += [*late_takeovers(faults, truth), *growing(crew), *violations[:50]]
    if violations:
        problems.append(f"{len(violations)} statuses were wrong when they were written")
    if MINUTES >= LONG and not faults.losses:
        problems.append("no leader was lost")
    if traffic.done["wazzup"] < 0.8 * 60 * MINUTES / INTERVAL:
        problems.append(f"the machine was too slow for the load: {dict(traffic.done)}")
    assert not problems, "\n".join(problems)


def run(faults: Faults, crew: Crew, problems: list[str]) -> int:
    """Inject faults until the time is over, or until one cannot be ended; return their number."""
    begun, injected = time.monotonic(), 0
    end = begun + 60 * MINUTES
    for fault in plan(SEED, MINUTES):
        time.sleep(max(0.0, begun + fault.at - time.monotonic()))
        if time.monotonic() + fault.lasts + DEFAULT.takeover > end:
            break
        print(f"{fault}, {time.monotonic() - begun - fault.at:.0f} s late", flush=True)
        injected += 1
        try:
            faults.inject(fault)
            crew.settle()
        except Exception as error:  # what happened until then is judged all the same
            problems.append(f"{fault}: {error!r}")
            return injected
    time.sleep(max(0.0, end - time.monotonic()))
    return injected


def wrong_at_last(drill: Drill, traffic: Traffic, crew: Crew) -> list[str]:
    """Return which statuses do not become right once nothing changes any more."""
    try:
        traffic.adopt()
        wait_written(drill, crew.leader(), traffic.expected(), PATIENCE)
    except Exception as error:
        return [f"after the last fault: {error!r}"]
    return []


def late_takeovers(faults: Faults, truth: Truth) -> list[str]:
    """Return the losses of a leader after which the next status took too long."""
    times = [write.time for write in truth.written()]
    took = {
        loss: min((at for at in times if at > loss.time + 0.5), default=float("inf")) - loss.time
        for loss in faults.losses
    }
    if took:
        measured(
            "a lost leader: until the next status is written",
            times=len(took),
            median=statistics.median(took.values()),
            at_most=max(took.values()),
        )
    return [
        f"{loss}: the next status came after {each:.1f} s"
        for loss, each in took.items()
        if each > DEFAULT.takeover
    ]


def growing(crew: Crew) -> list[str]:
    """Return what grew in which process."""
    problems, judged = [], set()
    for life in crew.lives.values():
        if trends := life.trends():
            judged.add(life.role)
            trending(f"{life.process} as {life.role}", **trends)
            problems += [
                f"{life.process} as {life.role}: its {what} grow: {trend}"
                for what, trend in trends.items()
                if trend.grows(LIMITS[what])
            ]
    if MINUTES >= LONG and judged != {"leader", "standby", "webhook"}:
        problems.append(f"trends were judged only of: {judged}")
    return problems
