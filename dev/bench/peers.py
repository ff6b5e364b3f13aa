"""The operator and its two peers as processes, and what they use."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dev.bench.cluster import Cluster, key
from dev.controlplane.build import Progress, Tool, build
from dev.processes.operator import BIN, Operator
from dev.processes.process import Process

FLOOR = Tool("bench-floor", "k8s.io/client-go", ".", folder=Path(__file__).with_name("floor"))
_TUTORIAL = Path(__file__).with_name("tutorial.py")
_GRACE = 10.0
_SIZES = {"VmRSS", "VmHWM"}


@dataclass(frozen=True)
class Use:
    """CPU time in seconds, memory now and at its peak in MiB."""

    cpu: float
    memory: float
    peak: float


def use_of(process: Process) -> Use:
    """Return what a process has used so far.

    Unlike `ru_maxrss`, this leaves out what its parent had when it forked.
    """
    proc = Path(f"/proc/{process.pid}")
    fields = (proc / "stat").read_text().rsplit(")", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])
    lines = (line.split(":") for line in (proc / "status").read_text().splitlines())
    sizes = {name: int(size.split()[0]) / 1024 for name, size in lines if name in _SIZES}
    return Use(ticks / os.sysconf("SC_CLK_TCK"), sizes["VmRSS"], sizes["VmHWM"])


class Controller(Operator):
    """The operator's controller with the probes of `dev.bench.probed`."""

    def __init__(self, directory: Path, url: str, *, watch_loop: bool = False) -> None:
        self.directory = directory
        flags = ("--no-leader-elect", f"--wazzup-url={url}", "--log-level=warning")
        super().__init__("controller", directory / "controller.log", *flags, env=os.environ)
        self._late = directory / "late"
        self._profile = directory / "profile.json"
        for file in (self._late, self.log_file):
            file.unlink(missing_ok=True)
        if watch_loop:
            self._late.touch()

    def start(self) -> None:
        """Start the process."""
        probed = (sys.executable, "-m", "dev.bench.probed", self.directory)
        self.launch([*probed, self.subcommand, *self.flags], os.environ)

    def take_profile(self) -> Mapping[str, int]:
        """Return the samples by function, most first, and start them again."""
        self._profile.unlink(missing_ok=True)
        self.signal(signal.SIGUSR2)
        self.wait_until(self._profile.exists, "no profile", 30)
        return dict(json.loads(self._profile.read_text()))

    def blocks(self) -> list[tuple[float, float, float]]:
        """Return when the event loop was late, by how much, and how long it computed meanwhile."""
        rows = (line.split() for line in self._late.read_text().splitlines())
        return [(float(due), float(late), float(computed)) for due, late, computed in rows]


def _operator(cluster: Cluster) -> Process:
    controller = Controller(cluster.directory, cluster.simulator.base_url)
    controller.start()
    return controller


def _floor(cluster: Cluster) -> Process:
    floor = Process("the floor", cluster.directory / "floor.log")
    program = build(FLOOR, Progress())
    floor.launch([program, cluster.simulator.base_url, key(0)], os.environ)
    return floor


def _tutorial(cluster: Cluster) -> Process:
    kopf = Process("the tutorial's operator", cluster.directory / "kopf.log")
    listing = {"WAZZUP_URL": cluster.simulator.base_url, "API_KEY": key(0)}
    kopf.launch([BIN / "kopf", "run", "--all-namespaces", _TUTORIAL], os.environ | listing)
    return kopf


OPERATOR, FLOOR_NAME, TUTORIAL = "operator", "client-go floor", "kopf tutorial"
PEERS: dict[str, Callable[[Cluster], Process]] = {
    OPERATOR: _operator,
    FLOOR_NAME: _floor,
    TUTORIAL: _tutorial,
}


@contextmanager
def running(cluster: Cluster, peer: str) -> Iterator[Process]:
    """Run a peer until the context exits."""
    process = PEERS[peer](cluster)
    try:
        yield process
    finally:
        process.stop(_GRACE)
