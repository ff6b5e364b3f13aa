"""Two hours under load and faults: `make soak`, or shorter with SOAK_MINUTES.

10,000 objects in 50 accounts, ten changes a second, two replicas and a webhook, and the faults of
plan.py; SOAK_SEED repeats them. No status may be wrong at any time, a lost leader must be replaced
in time, and nothing that a process takes may grow (trend.py).
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.drills.crew import Crew
from tests.drills.drill import Drill
from tests.drills.duration import shortened
from tests.drills.faults import Faults
from tests.drills.figures import measured, trending
from tests.drills.leaders import DEFAULT, wait_counted
from tests.drills.plan import LONG, PAUSES, harsh_until, plan
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
    return Traffic(drill, ACCOUNTS, SEED)


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
def crew(drill: Drill, truth: Truth, tenancy: Tenancy, webhook: Webhook) -> Crew:
    webhook.wait_ready()
    configuration = Configuration(Api(drill.plane.kubeconfig))
    configuration.point(webhook.port, webhook.trusted)
    gates = {number: drill.gate(number) for number in (1, 2)}
    replicas = [(drill.replica(number, gate=gate), gate) for number, gate in gates.items()]
    return Crew(replicas, webhook, configuration, drill, truth)


@dataclass
class Run:
    """What was injected, and what went wrong."""

    injected: int = 0
    finished: bool = False
    calm_since: float = math.inf
    """The end of the last fault in which a process may be lost, on the monotonic clock."""

    problems: list[str] = field(default_factory=list)


@pytest.mark.timeout(60 * MINUTES + 3600)
def test_soak(drill: Drill, traffic: Traffic, truth: Truth, tenancy: Tenancy, crew: Crew) -> None:
    print(f"\nsoak: {MINUTES:g} minutes, {traffic.size:,} objects, SOAK_SEED={SEED}")
    if MINUTES < LONG:
        shortened[7200] = 60 * MINUTES  # its figures are not written
    faults = Faults(drill, traffic, crew, truth, tenancy)
    run = Run()
    with crew:
        crew.settle()
        wait_right(drill, traffic, crew)
        with traffic:
            inject(faults, crew, run)
        last = time.monotonic()
        run.problems += found(wrong_at_the_end, drill, traffic, crew)
        took = time.monotonic() - last
    measured(
        f"load and faults for {MINUTES:g} minutes",
        objects=traffic.size,
        changes=traffic.done["wazzup"] + traffic.done["kubernetes"],
        faults=run.injected,
        leaders_lost=len(faults.losses),
        exits=len(crew.exits),
        all_right_after_the_last=took,
    )
    exits = [each.sentence for each in crew.exits]
    print(f"changes: {dict(traffic.done)}; exits: {exits}")
    problems = [
        *run.problems,
        *crew.problems,
        *found(late_takeovers, faults, truth),
        *found(wrong_statuses, truth),
    ]
    if MINUTES >= LONG:
        problems += [*found(lost_in_the_calm_part, crew, run), *found(growing, crew)]
        problems += [] if faults.losses else ["no leader was lost"]
    if run.finished and traffic.done["wazzup"] < 0.8 * 60 * MINUTES / INTERVAL:
        problems.append(f"the machine was too slow for the load: {dict(traffic.done)}")
    assert not problems, "\n".join(problems)


def inject(faults: Faults, crew: Crew, run: Run) -> None:
    """Inject faults until the time is over, or until one cannot be ended."""
    begun = time.monotonic()
    end, harsh_end = begun + 60 * MINUTES, begun + harsh_until(MINUTES)
    for fault in plan(SEED, MINUTES):
        time.sleep(max(0.0, begun + fault.at - time.monotonic()))
        ends = time.monotonic() + fault.lasts
        if ends + DEFAULT.takeover > end:
            break
        if fault.harsh and ends > harsh_end:
            continue  # earlier ones took longer than planned
        print(f"{fault}, {time.monotonic() - begun - fault.at:.0f} s late", flush=True)
        run.injected += 1
        if fault.harsh:
            run.calm_since = math.inf
        try:
            faults.inject(fault)
            crew.settle()
        except Exception as error:  # what happened until then is judged all the same
            run.problems.append(f"{fault}: {error!r}")
            return
        time.sleep(PAUSES[0])
        if fault.harsh:
            run.calm_since = time.monotonic()
    time.sleep(max(0.0, end - time.monotonic()))
    run.finished = True


def found(judge: Callable[..., list[str]], *evidence: object) -> list[str]:
    """Return the problems that a judge finds; if it fails, the others judge all the same."""
    try:
        return judge(*evidence)
    except Exception as error:
        return [f"{judge.__name__}: {error!r}"]


def wait_right(drill: Drill, traffic: Traffic, crew: Crew) -> None:
    """Wait until every status is right, and counted by the leader."""
    expected = traffic.expected()
    wait_counted(crew.leader, expected, PATIENCE)
    drill.wait_states(expected, PATIENCE)


def wrong_at_the_end(drill: Drill, traffic: Traffic, crew: Crew) -> list[str]:
    """Return which statuses do not become right once nothing changes any more."""
    drill.simulator.clear_faults()
    traffic.adopt()
    wait_right(drill, traffic, crew)
    return []


def wrong_statuses(truth: Truth) -> list[str]:
    """Return the first statuses that were wrong when they were written, and their number."""
    violations = truth.violations()
    count = f"{len(violations)} statuses were wrong when they were written"
    return [*violations[:50], count] if violations else []


def lost_in_the_calm_part(crew: Crew, run: Run) -> list[str]:
    """Return the exits after the last fault in which a process may be lost."""
    return [
        f"{each.sentence}, without a fault that ends processes"
        for each in crew.exits
        if each.time > run.calm_since
    ]


def late_takeovers(faults: Faults, truth: Truth) -> list[str]:
    """Return the losses of a leader after which the next status took too long."""
    times = truth.times()
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
            named = f"{life.process} as {life.role} from minute {life.samples[0].minute:.0f}"
            trending(named, **trends)
            problems += [
                f"{named}: its {what} grow: {trend}"
                for what, trend in trends.items()
                if trend.grows(LIMITS[what])
            ]
    if judged != {"leader", "standby", "webhook"}:
        problems.append(f"trends were judged only of: {judged}")
    return problems
