"""Writes the page of the results and its plot."""

import math
import os
import platform
import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from dev.bench.peers import FLOOR, FLOOR_NAME, OPERATOR, TUTORIAL
from dev.bench.report import Report
from dev.bench.results import Goal, shown
from dev.controlplane.binaries import ensure
from dev.generate.document import table

_TOP = 8
_COLORS = {OPERATOR: "#1f77b4", FLOOR_NAME: "#2ca02c", TUTORIAL: "#d62728"}
_WIDTH, _HEIGHT, _MARGIN = 640, 360, 60


def write(report: Report, page: Path) -> None:
    """Write the page, and the plot beside it."""
    page.parent.mkdir(exist_ok=True)
    page.write_text("\n".join(_lines(report, page)) + "\n")
    if report.bursts:
        page.with_suffix(".svg").write_text("\n".join(_plot(report)) + "\n")


def _lines(report: Report, page: Path) -> Iterator[str]:
    missed = [goal for goal in report.goals if not goal.met]
    minutes = (time.monotonic() - report.started) / 60
    yield from (
        "# Benchmarks",
        "",
        f"`make bench` wrote this page in {minutes:.0f} minutes on {datetime.now(UTC):%Y-%m-%d}."
        f" {_machine()} etcd, the API server, the simulated Wazzup and what is measured share the"
        " machine.",
        "",
        f"{_versions()}",
        "",
        "A value is the median of all runs, with the lowest and the highest in parentheses. A value"
        " alone is a single run.",
        "",
        "## Goals",
        "",
        table(["measure", "goal", "measured", "met"], [goal.cells for goal in report.goals]),
    )
    if report.gave_up:
        yield from ("", "Not finished:", "", *(f"- {each}" for each in report.gave_up))
    if report.bursts:
        yield from _bursts(report, page)
    if report.fleets:
        yield from _fleets(report)
    if report.reviews:
        yield from (
            "",
            "## Webhook",
            "",
            f"{report.form.objects:,} objects in one namespace. Missed: wrong answers and none.",
            "",
        )
        header = ["review", "in flight", "p50", "p99", "per second", "CPU", "missed"]
        yield table(header, report.reviews)
    if missed:
        yield from _profiles(missed)


def _bursts(report: Report, page: Path) -> Iterator[str]:
    yield from (
        "",
        "## First statuses",
        "",
        "New objects of one account all get their first status. The operator, a dynamic informer of"
        " client-go with 16 workers and no rate limit, and the operator that kopf's tutorial leads"
        " to (handlers and a timer for each object) take turns; all statuses are compared.",
        "",
    )
    rows = [
        [
            f"{objects:,}",
            peer,
            *(shown([getattr(c, name) for c in found], unit) for name, unit in _COST),
        ]
        for objects, costs in report.bursts.items()
        for peer, found in costs.items()
        if found
    ]
    yield table(["objects", "what", "wall time", "CPU time", "peak memory"], rows)
    if smallest := report.fleets.get((1, 1)):
        yield from (
            "",
            f"The operator's start takes {smallest.start:.1f} s of its CPU time, mostly to import"
            " libraries.",
        )
    yield from ("", f"![CPU time by number of objects]({page.stem}.svg)")


_COST = (("wall", "s"), ("cpu", "s"), ("peak", "MiB"))


def _fleets(report: Report) -> Iterator[str]:
    yield from (
        "",
        "## Many objects",
        "",
        "The operator starts with objects whose statuses are right, and lists every account every"
        " 10 seconds. Growth exponents leave out what it needs for a single object.",
        "",
    )
    rows = [
        [
            f"{objects:,}",
            f"{accounts:,}",
            f"{cost.start:.1f} s",
            f"{cost.steady:.1f} %",
            f"{cost.peak:.0f} MiB",
        ]
        for (accounts, objects), cost in sorted(report.fleets.items())
    ]
    header = ["objects", "accounts", "CPU time to start", "then, of one core", "peak memory"]
    yield table(header, rows)
    durations, size = report.scrape
    if durations:
        yield from (
            "",
            f"A scrape of {report.form.objects:,} objects takes {shown(durations, 'ms')} and has"
            f" {size / 1000:.0f} kB.",
        )


def _profiles(missed: Sequence[Goal]) -> Iterator[str]:
    yield from (
        "",
        "## Where the time goes",
        "",
        "For each goal that is not met: the operator's functions with the largest shares of its CPU"
        " time, including the libraries that they call.",
    )
    for goal in missed:
        if total := sum(goal.profile.values()):
            top = list(goal.profile.items())[:_TOP]
            rows = [[f"`{name}`", f"{100 * count / total:.0f} %"] for name, count in top]
            yield from (
                "",
                f"{goal.what[0].upper()}{goal.what[1:]}:",
                "",
                table(["function", "share"], rows),
            )


def _machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = model.group(1) if model else platform.machine()
    return f"The machine has {os.cpu_count()} cores ({name}) and {memory:.0f} GiB of memory."


def _versions() -> str:
    binaries = ensure()
    return (
        f"Versions: wazzup-operator {version('wazzup-operator')} on Python"
        f" {platform.python_version()}, Kubernetes {binaries.kube_apiserver_version}, etcd"
        f" {binaries.etcd_version}, client-go {FLOOR.version}, kopf {version('kopf')}."
    )


def _plot(report: Report) -> Iterator[str]:
    """Yield an SVG: CPU time by number of objects, both logarithmic."""
    points = {
        peer: [
            (objects, median(c.cpu for c in costs[peer]))
            for objects, costs in report.bursts.items()
            if costs[peer]
        ]
        for peer in _COLORS
    }
    every = [point for line in points.values() for point in line]
    low, high = (
        tuple(extreme(each[axis] for each in every) for axis in (0, 1)) for extreme in (min, max)
    )

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = (
            (math.log(point[axis]) - math.log(low[axis]))
            / max(math.log(high[axis] / low[axis]), 1e-9)
            for axis in (0, 1)
        )
        return _MARGIN + x * (_WIDTH - 3 * _MARGIN), _HEIGHT - _MARGIN - y * (_HEIGHT - 2 * _MARGIN)

    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        ' font-family="sans-serif" font-size="12">'
    )
    yield f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
    yield f'<text x="{_MARGIN}" y="24" font-size="14">CPU seconds by number of new objects</text>'
    for objects in report.bursts:
        x, _ = place((objects, low[1]))
        yield f'<text x="{x:.0f}" y="{_HEIGHT - 30}" text-anchor="middle">{objects:,}</text>'
    for peer, line in points.items():
        places = [place(point) for point in line]
        path = " ".join(f"{x:.0f},{y:.0f}" for x, y in places)
        yield f'<polyline points="{path}" fill="none" stroke="{_COLORS[peer]}" stroke-width="2"/>'
        for (x, y), (_, seconds) in zip(places, line, strict=True):
            yield f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{_COLORS[peer]}"/>'
            yield f'<text x="{x:.0f}" y="{y - 8:.0f}" text-anchor="middle">{seconds:.1f}</text>'
        if places:
            x, y = places[-1]
            yield f'<text x="{x + 20:.0f}" y="{y + 4:.0f}" fill="{_COLORS[peer]}">{peer}</text>'
    yield "</svg>"
