"""Measures the controller with thousands of objects: wall time, CPU, memory.

For each object: one list entry, one status PATCH, one watch event. Before it, in the same run and
on the same control plane, a bare client does just that and nothing else, so that the ratio says
what the operator adds, whatever the machine.
"""

import argparse
import asyncio
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dev.bench.cluster import KEY, clear_statuses, fill
from dev.controlplane.plane import ControlPlane
from wazzup_simulator.client import Simulator

POLL = 1.0
TIMEOUT = 300.0


@dataclass(frozen=True)
class Cost:
    """Seconds until the work was done, seconds of CPU for it, MiB of memory at most."""

    wall: float
    cpu: float
    peak: float


def main() -> None:
    """Run the measurement and print its table."""
    parser = argparse.ArgumentParser(prog="python -m dev.bench", description=__doc__)
    parser.add_argument("--objects", type=int, default=5000, help="how many (default 5000)")
    count = parser.parse_args().objects
    with (
        tempfile.TemporaryDirectory() as directory,
        ControlPlane(directory, audit=False) as plane,
        Simulator.launch([KEY]) as simulator,
    ):
        os.environ["KUBECONFIG"] = str(plane.kubeconfig)
        asyncio.run(fill(simulator, count))
        print(f"{count} objects, one account, {os.cpu_count()} cores")
        print(f"{'':<34}{'wall s':>8}{'CPU s':>8}{'peak MiB':>10}")
        floor = _floor(count)
        _row("bare client: list, watch, PATCH", floor)
        asyncio.run(clear_statuses(count))
        operator = _operator(simulator.base_url, count)
        _row("operator: all objects new", operator)
        _row("operator: started in sync", _operator(simulator.base_url, count))
        print(
            f"operator / bare client: {operator.wall / floor.wall:.2f} wall,"
            f" {operator.cpu / floor.cpu:.2f} CPU, {operator.peak / floor.peak:.2f} memory"
        )


def _row(title: str, cost: Cost) -> None:
    print(f"{title:<34}{cost.wall:>8.1f}{cost.cpu:>8.1f}{cost.peak:>10.0f}", flush=True)


def _floor(count: int) -> Cost:
    return _measure([sys.executable, "-m", "dev.bench.floor", str(count)], lambda: False)


def _operator(url: str, count: int) -> Cost:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        str(Path(sys.executable).parent / "wazzup-operator"),
        "controller",
        "--no-leader-elect",
        f"--wazzup-url={url}",
        f"--metrics-address={address}",
        "--health-address=127.0.0.1:0",
        "--log-level=warning",
    ]
    return _measure(command, lambda: _active(address) == count)


def _active(address: str) -> int:
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return 0
    counts = re.findall(r'^wazzup_channels{.*state="Active".*} (\S+)$', text, re.MULTILINE)
    return int(sum(map(float, counts)))


def _measure(command: list[str], done: Callable[[], bool]) -> Cost:
    """Run a command until it ends or its work is done."""
    begun = time.monotonic()
    process = subprocess.Popen(command)
    while (
        not done()
        and os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    ):
        if time.monotonic() - begun > TIMEOUT:
            process.kill()
            raise SystemExit(f"{command[0]} was not done within {TIMEOUT:.0f} s")
        time.sleep(POLL)
    wall = time.monotonic() - begun
    os.kill(process.pid, signal.SIGTERM)  # not by Popen, which would take the usage away
    _, _, usage = os.wait4(process.pid, 0)
    return Cost(wall, usage.ru_utime + usage.ru_stime, _mebibytes(usage))


def _mebibytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
