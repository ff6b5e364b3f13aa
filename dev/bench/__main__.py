"""Measures wall time, CPU and memory of the controller with thousands of objects.

Each object costs one list entry, one status PATCH and one watch event. A bare client does only that
first, on the same control plane, so the ratio shows what the operator adds on any machine.
"""

import argparse
import asyncio
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dev.bench.cluster import KEY, clear_statuses, fill
from dev.controlplane.plane import ControlPlane
from dev.processes.operator import Operator
from dev.processes.port import free_port
from dev.processes.process import Process, log_tail
from wazzup_simulator.client import Simulator

POLL = 1.0
TIMEOUT = 300.0


@dataclass(frozen=True)
class Cost:
    """Wall time and CPU time in seconds, peak memory in MiB."""

    wall: float
    cpu: float
    peak: float


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m dev.bench", description=__doc__)
    parser.add_argument("--objects", type=int, default=5000, help="how many (default 5000)")
    count = parser.parse_args().objects
    with (
        tempfile.TemporaryDirectory() as directory,
        ControlPlane(Path(directory) / "plane", audit=False) as plane,
        Simulator.launch([KEY]) as simulator,
    ):
        os.environ["KUBECONFIG"] = str(plane.kubeconfig)
        asyncio.run(fill(simulator, count))
        print(f"{count} objects, one account, {os.cpu_count()} cores")
        print(f"{'':<34}{'wall s':>8}{'CPU s':>8}{'peak MiB':>10}")
        floor = _floor(count, Path(directory))
        _row("bare client: list, watch, PATCH", floor)
        asyncio.run(clear_statuses(count))
        operator = _operator(simulator.base_url, count, Path(directory))
        _row("operator: all objects new", operator)
        _row("operator: started in sync", _operator(simulator.base_url, count, Path(directory)))
        print(
            f"operator / bare client: {operator.wall / floor.wall:.2f} wall,"
            f" {operator.cpu / floor.cpu:.2f} CPU, {operator.peak / floor.peak:.2f} memory"
        )


def _row(title: str, cost: Cost) -> None:
    print(f"{title:<34}{cost.wall:>8.1f}{cost.cpu:>8.1f}{cost.peak:>10.0f}", flush=True)


def _floor(count: int, directory: Path) -> Cost:
    bare = Process("the bare client", directory / "floor.log")
    return _measure(
        bare,
        lambda: bare.launch([sys.executable, "-m", "dev.bench.floor", str(count)], os.environ),
        lambda: False,
    )


def _operator(url: str, count: int, directory: Path) -> Cost:
    operator = Operator(
        "controller",
        directory / "controller.log",
        "--no-leader-elect",
        f"--wazzup-url={url}",
        f"--metrics-address=127.0.0.1:{free_port()}",
        "--health-address=127.0.0.1:0",
        "--log-level=warning",
        env=os.environ,
    )

    def done() -> bool:
        return operator.count("wazzup_channels", state="Active") == count

    return _measure(operator, operator.start, done)


def _measure(process: Process, start: Callable[[], None], done: Callable[[], bool]) -> Cost:
    """Run a process until it exits or its work is done."""
    started = time.monotonic()
    start()
    while (
        not done()
        and os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    ):
        if time.monotonic() - started > TIMEOUT:
            process.kill()
            raise SystemExit(f"{process.name} did not finish within {TIMEOUT:.0f} s")
        time.sleep(POLL)
    wall = time.monotonic() - started
    os.kill(process.pid, signal.SIGTERM)  # `stop` would reap the child, and its usage with it
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) > 0:
        raise SystemExit(f"{process.name} failed:\n{log_tail(process.log())}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, _mebibytes(usage))


def _mebibytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
