"""What is measured: each suite fills clusters and adds what it measures to the report."""

import asyncio
import math
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from dev.bench.burst import Cost, Unfinished, burst
from dev.bench.changes import Relay, after_listing, changing_specs, requested, scanned
from dev.bench.cluster import Cluster, Fleet
from dev.bench.operated import load, operated
from dev.bench.peers import FLOOR_NAME, OPERATOR, PEERS, TUTORIAL, Controller, use_of
from dev.bench.report import FleetCost, Report
from dev.bench.results import Goal, chunks, p99
from dev.processes.operator import get
from dev.processes.process import StartError

_RATIOS = {5_000: (1.2, 1.1, 0.8), 10_000: (1.2, 1.1, 0.65)}
"""Goals of a burst beside the floor, by objects: CPU time, wall time, peak memory."""

_SCRAPES = 20
_NOTHING = Fleet(1, 1, synced=True)


def bursts(cluster: Cluster, report: Report) -> None:
    """Let all peers write the first statuses, in turns."""
    for objects, rounds in report.form.bursts.items():
        fleet = Fleet(1, objects)
        costs = report.bursts[objects] = {peer: [] for peer in PEERS}
        with cluster.filled(fleet):
            for number in range(rounds):
                for peer in _turns(number, report.form.tutorial.get(objects, 0)):
                    what = f"burst of {objects:,}, round {number + 1} of {rounds}, {peer}"
                    try:
                        cost = burst(cluster, fleet, peer)
                    except Unfinished as error:
                        if peer != TUTORIAL:
                            raise
                        report.gave_up.append(f"{what}: {error}.")
                        report.say(report.gave_up[-1])
                        continue
                    costs[peer].append(cost)
                    report.say(
                        f"{what}: {cost.wall:.1f} s, {cost.cpu:.1f} s CPU, {cost.peak:.0f} MiB"
                    )
        for goal in _beside_floor(objects, costs):
            report.add(goal)


def _turns(number: int, tutorial_rounds: int) -> list[str]:
    pair = [OPERATOR, FLOOR_NAME] if number % 2 == 0 else [FLOOR_NAME, OPERATOR]
    return [*pair, TUTORIAL] if number < tutorial_rounds else pair


def _beside_floor(objects: int, costs: Mapping[str, list[Cost]]) -> list[Goal]:
    pairs = list(zip(costs[OPERATOR], costs[FLOOR_NAME], strict=True))
    ratios = {
        "CPU time": [ours.cpu / floor.cpu for ours, floor in pairs],
        "wall time": [ours.wall / floor.wall for ours, floor in pairs],
        "peak memory": [ours.peak / floor.peak for ours, floor in pairs],
    }
    return [
        Goal(
            f"burst of {objects:,} beside the client-go floor: {what}",
            limit,
            "x",
            values,
            pairs[-1][0].profile,
        )
        for (what, values), limit in zip(ratios.items(), _RATIOS.get(objects, ()), strict=False)
    ]


def steady(cluster: Cluster, report: Report) -> None:
    """Measure an operator whose statuses are right, on one account."""
    fleet = Fleet(1, report.form.objects, synced=True)
    with cluster.filled(fleet):
        asyncio.run(_steady(cluster, fleet, report))


async def _steady(cluster: Cluster, fleet: Fleet, report: Report) -> None:
    form, size = report.form, f"{fleet.objects:,} objects in one account"
    relay = Relay(urlsplit(cluster.simulator.base_url).port or 0)
    async with relay.serving() as url, operated(cluster, fleet, url) as controller:
        await _settle(controller)
        used = await load(controller, form.window, form.runs)
        report.add(Goal(f"{size}: CPU of one core", 1.5, "%", used, controller.take_profile()))
        async with changing_specs(fleet):
            used = await load(controller, form.window / 2, form.runs)
        what = f"{size}, one spec change per second: CPU of one core"
        report.add(Goal(what, 6, "%", used, controller.take_profile()))
        late = await after_listing(cluster, fleet, relay, form.runs)
        what = f"one change among {fleet.objects:,}: from the listing's last byte to the status"
        report.add(Goal(what, 100, "ms", late, controller.take_profile()))
        report.scrape = await asyncio.to_thread(_scrape, controller)


async def _settle(controller: Controller) -> None:
    """Wait until what the start left behind is done, and forget its samples."""
    await asyncio.sleep(5)
    controller.take_profile()


def _scrape(controller: Controller) -> tuple[list[float], int]:
    durations, body = [], ""
    for _ in range(_SCRAPES):
        started = time.monotonic()
        _, body = get(f"http://{controller.metrics_address}/metrics")
        durations.append(1000 * (time.monotonic() - started))
    return durations, len(body)


def freshness(cluster: Cluster, report: Report) -> None:
    """Measure how soon scans and requested listings show."""
    form = report.form
    fleet = Fleet(20, form.objects // 20, synced=True)
    size = f"20 accounts of {fleet.channels} channels"
    with cluster.filled(fleet):
        for number in range(form.samples):
            cluster.simulator.act(fleet.channel(*fleet.place(number)), "logout")
        scans, requests = asyncio.run(_freshness(cluster, fleet, form.samples))
    report.add(Goal(f"{size}, phone scanned to Ready: p99", 11, "s", _p99s(scans, form.runs)))
    report.add(Goal(f"{size}, requested-at to status: p99", 1, "s", _p99s(requests, form.runs)))


async def _freshness(
    cluster: Cluster, fleet: Fleet, samples: int
) -> tuple[list[float], list[float]]:
    async with operated(cluster, fleet) as controller:
        await _settle(controller)
        return (
            await scanned(cluster, fleet, samples, seconds=samples / 5),
            await requested(cluster, fleet, samples, pause=0.2),
        )


def _p99s(values: list[float], runs: int) -> list[float]:
    return [p99(chunk) for chunk in chunks(values, runs)]


def loop_blocks(cluster: Cluster, report: Report) -> None:
    """Measure for how long the event loop does nothing else."""
    form = report.form
    many = Fleet(1, form.one_account, synced=True)
    contested = Fleet(1, form.contested, contested=True)
    for fleet, what in (
        (many, f"{many.objects:,} objects in one account"),
        (contested, f"{contested.objects:,} objects with one channelID"),
    ):
        with cluster.filled(fleet):
            blocks, profile = asyncio.run(_blocks(cluster, fleet, report))
        _, late, computed = max(blocks, default=(0.0, 0.0, 0.0), key=lambda block: block[1])
        what = f"{what}: longest block of the event loop"
        ms = f"{1000 * computed:.0f} ms"
        note = f", of which it computed {ms} (without the collection of all garbage)"
        report.add(Goal(what, 100, "ms", [1000 * late], profile, note))


async def _blocks(
    cluster: Cluster, fleet: Fleet, report: Report
) -> tuple[list[tuple[float, float, float]], Mapping[str, int]]:
    """Start the operator and change a spec every second for a while."""
    async with operated(cluster, fleet, watch_loop=True) as controller, changing_specs(fleet):
        await asyncio.sleep(2 * report.form.window)
        return controller.blocks(), controller.take_profile()


def growth(cluster: Cluster, report: Report) -> None:
    """Measure how CPU time and memory grow with the number of objects."""
    form = report.form
    accounts, few, many = form.accounts, form.objects, form.large
    for fleet, runs in (
        (_NOTHING, 1),
        (Fleet(1, few, synced=True), 1),
        (Fleet(accounts, few // accounts, synced=True), form.runs),
        (Fleet(1, many, synced=True), 1),
        (Fleet(accounts, many // accounts, synced=True), 1),
    ):
        with cluster.filled(fleet):
            used, profile = asyncio.run(_fleet(cluster, fleet, report, runs))
        if (fleet.accounts, fleet.objects) == (accounts, few):
            what = f"{accounts:,} accounts of {fleet.channels} channels: CPU of one core"
            report.add(Goal(what, 15, "%", used, profile))
    for count in (1, accounts):
        _grows(report, count, few, many)


async def _fleet(
    cluster: Cluster, fleet: Fleet, report: Report, runs: int
) -> tuple[list[float], Mapping[str, int]]:
    async with operated(cluster, fleet) as controller:
        start = use_of(controller).cpu
        await _settle(controller)
        if controller.count("rest_client_requests_total", method="PATCH") > 2 * fleet.accounts:
            raise StartError("the operator wrote statuses that were right")
        used = await load(controller, report.form.window / 2, runs)
        profile = controller.take_profile()
        cost = FleetCost(start, sum(used) / runs, use_of(controller).peak, profile)
        report.fleets[fleet.accounts, fleet.objects] = cost
        report.say(
            f"{fleet.objects:,} objects in {fleet.accounts:,} accounts: {cost.start:.1f} s CPU to"
            f" start, then {cost.steady:.1f}% of a core; {cost.peak:.0f} MiB"
        )
        return used, profile


def _grows(report: Report, accounts: int, few: int, many: int) -> None:
    nothing, small, large = (
        report.fleets[key] for key in ((1, 1), (accounts, few), (accounts, many))
    )
    size = f"{many:,} objects in {accounts:,} account{'s' * (accounts > 1)}"
    report.add(Goal(f"{size}: peak memory", 1024, "MiB", [large.peak]))
    for what, least, less, more in (
        ("memory", nothing.peak, small.peak, large.peak),
        ("CPU time to start", nothing.start, small.start, large.start),
        ("CPU in steady state", nothing.steady, small.steady, large.steady),
    ):
        exponent = math.log(max(more - least, 1e-9) / max(less - least, 1e-9), many / few)
        what = f"{size}: growth exponent of {what}"
        report.add(Goal(what, 1.05, "", [exponent], large.profile))
