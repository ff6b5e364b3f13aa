"""The operator's processes in a soak: restarted like by the kubelet, and sampled."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock
from typing import NamedTuple, Self

from tests.drills.drill import Drill, Replica
from tests.drills.gate import Gate
from tests.drills.leaders import holder, lease
from tests.drills.traffic import UNREACHABLE
from tests.drills.trend import Life, Sample
from tests.drills.truth import Truth
from tests.integration.harness.api import ApiError, eventually
from tests.integration.harness.controller import Controller
from tests.integration.harness.webhook import Configuration, Webhook
from wazzup_simulator.client import SimulatorError

SAMPLE_INTERVAL = 10.0
COLLECT_INTERVAL = 60.0
PATIENCE = 300.0
"""Seconds from the end of a fault until every process is ready."""


class Exit(NamedTuple):
    """A process exited."""

    time: float
    """On the monotonic clock."""

    sentence: str


class Crew:
    """Two replicas behind gates and a webhook."""

    def __init__(
        self,
        replicas: Sequence[tuple[Replica, Gate]],
        webhook: Webhook,
        configuration: Configuration,
        drill: Drill,
        truth: Truth,
    ) -> None:
        self.gates = {replica.name: gate for replica, gate in replicas}
        self.replicas = {replica.name: replica for replica, _ in replicas}
        self.webhook, self.configuration = webhook, configuration
        self.processes: list[Controller] = [*self.replicas.values(), webhook]
        self.lives: dict[tuple[str, int, str], Life] = {}
        self.exits: list[Exit] = []
        self.problems: list[str] = []
        """Why one of its tasks ended early; complete after the block."""

        self._drill, self._truth = drill, truth
        self._begun = time.monotonic()
        self._suspended: set[int] = set()
        self._ended = Event()
        self._starting = Lock()
        self._pool = ThreadPoolExecutor(3, thread_name_prefix="crew")
        self._running: list[Future[None]] = []

    def __enter__(self) -> Self:
        tasks = ((0.2, self._restart), (SAMPLE_INTERVAL, self._sample))
        for interval, work in (*tasks, (COLLECT_INTERVAL, self._collect)):
            self._running.append(self._pool.submit(self._repeat, interval, work))
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for process in self.processes:
            process.resume()
        errors = [each.exception() for each in self._running]
        self.problems += [f"a task of the crew: {each!r}" for each in errors if each]

    def _repeat(self, interval: float, work: Callable[[], None]) -> None:
        while not self._ended.wait(interval):
            work()

    def _restart(self) -> None:
        for process in self.processes:
            with self._starting:
                if not process.runs:
                    code = process.wait(0)
                    sentence = f"{process.name} exited after {self._minute():.1f} min: {code}"
                    self.exits.append(Exit(time.monotonic(), sentence))
                    process.start()

    def kill(self, process: Controller) -> None:
        """Kill a process; it is started again."""
        with self._starting:
            process.kill()

    def _sample(self) -> None:
        for process in self.processes:
            pid = process.pid
            if pid in self._suspended:
                continue
            with contextlib.suppress(*UNREACHABLE):
                if text := process.metrics():
                    self._add(process, pid, text)

    def _add(self, process: Controller, pid: int, text: str) -> None:
        other = "standby" if process in self.replicas.values() else "webhook"
        role = "leader" if _leads(text) else other
        life = self.lives.setdefault((process.name, pid, role), Life(process.name, role))
        life.samples.append(taken(pid, self._minute(), text))

    def _minute(self) -> float:
        return (time.monotonic() - self._begun) / 60

    def _collect(self) -> None:
        with contextlib.suppress(SimulatorError, *UNREACHABLE):
            self._truth.collect()

    def leader(self) -> Replica:
        """Return the replica that leads, once there is one."""
        return eventually(self._leader, "a replica leads", PATIENCE)

    def _leader(self) -> Replica | None:
        """Return the holder of the Lease, if it leads: the Lease of a killed one may be left."""
        try:
            replica = self.replicas.get(holder(lease(self._drill)))
            return replica if replica and _leads(replica.metrics()) else None
        except (ApiError, *UNREACHABLE):
            return None

    def standby(self) -> Replica:
        leader = self.leader()
        return next(each for each in self.replicas.values() if each is not leader)

    @contextlib.contextmanager
    def suspended(self, process: Controller) -> Iterator[None]:
        """Suspend a process during the block."""
        pid = process.pid
        self._suspended.add(pid)
        process.suspend()
        try:
            yield
        finally:
            process.resume()
            self._suspended.discard(pid)

    def settle(self) -> None:
        """Wait until every process is ready, one leads, and the API server sends reviews."""
        eventually(self._is_settled, "every process is ready, and reviews are sent", PATIENCE)

    def _is_settled(self) -> bool:
        time.sleep(0.3)
        for each in self._running:
            if each.done():
                each.result()  # raises what ended it
        try:
            return (
                self._leader() is not None
                and all(each.probe("/readyz")[0] == 200 for each in self.processes)
                and not self.configuration.admits_impossible()
            )
        except UNREACHABLE:
            return False


def _leads(metrics: str) -> bool:
    return bool(re.search(r"^leader_election_master_status\S* 1", metrics, re.MULTILINE))


def taken(pid: int, minute: float, metrics: str) -> Sample:
    """Return what a process takes now. Raises OSError if it has ended."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    files = [_target(Path(f"/proc/{pid}/fd/{number}")) for number in os.listdir(f"/proc/{pid}/fd")]
    tasks = re.search(r"^wazzup_operator_tasks (\S+)", metrics, re.MULTILINE)
    return Sample(
        minute,
        pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        len(files),
        sum(each.startswith("socket:") for each in files),
        int(float(tasks[1])) if tasks else 0,
        sum(not line.startswith("#") for line in metrics.splitlines()),
    )


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:  # closed meanwhile
        return ""
