"""The faults of a soak; each method injects the one of its name in plan.py, and ends it."""

import itertools
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

from dev.processes.process import Process, StartError
from tests.drills.crew import PATIENCE, Crew
from tests.drills.drill import Drill, Site
from tests.drills.gate import Gate
from tests.drills.hostile import KINDS
from tests.drills.plan import Fault
from tests.drills.tenancy import GROUP, Tenancy
from tests.drills.traffic import UNREACHABLE, Traffic
from tests.drills.truth import Truth
from tests.integration.harness.api import JSON, ApiError, eventually
from tests.integration.harness.controller import Controller
from tests.integration.harness.load import serial
from tests.integration.harness.webhook import Authority
from tests.integration.harness.world import ROOT

ANSWERS: tuple[JSON, ...] = (
    {"kind": "status", "code": 429, "headers": {"Retry-After": "3"}, "times": 2},
    {"kind": "status", "code": 500, "seconds": 8},
    {"kind": "hang", "times": 1},
    {"kind": "cut", "times": 3},
    {"kind": "html", "times": 2},
    {"kind": "malformed", "times": 2},
    {"kind": "empty", "times": 1},
    {"kind": "slow", "delay": 4, "times": 2},
)
OUTAGES: tuple[JSON, ...] = (
    {"kind": "status", "code": 503},
    {"kind": "cut"},
    {"kind": "hang"},
    {"kind": "html"},
)


class Loss(NamedTuple):
    """The leader was lost at a time, by a fault."""

    time: float
    fault: str

    def __str__(self) -> str:
        return f"{self.fault} at {datetime.fromtimestamp(self.time, UTC):%H:%M:%S}Z"


class Faults:
    """Injects faults."""

    def __init__(
        self, drill: Drill, traffic: Traffic, crew: Crew, truth: Truth, tenancy: Tenancy
    ) -> None:
        self._drill, self._traffic, self._crew, self._truth = drill, traffic, crew, truth
        self._tenancy = tenancy
        self._keys: dict[str, str] = {}
        self._versions, self._attacks = itertools.count(2), itertools.count(1)
        # In turns: a channel that two of these leave out may be gone, says the operator rightly.
        self._shortened = itertools.cycle(traffic.sites)
        self.losses: list[Loss] = []

    def inject(self, fault: Fault) -> None:
        """Inject a fault, and return once it has ended."""
        getattr(self, fault.name)(fault, random.Random(fault.number))

    def answer_wrongly(self, fault: Fault, chance: random.Random) -> None:
        for site in chance.sample(self._traffic.sites, min(5, len(self._traffic.sites))):
            site.fault(**chance.choice(ANSWERS))
        time.sleep(fault.lasts)

    def fail_in_wazzup(self, fault: Fault, chance: random.Random) -> None:
        self._drill.simulator.add_fault(**chance.choice(OUTAGES), seconds=fault.lasts)
        time.sleep(fault.lasts)

    def shorten_listings(self, fault: Fault, chance: random.Random) -> None:
        site, fraction = next(self._shortened), chance.uniform(0.1, 0.9)
        site.fault("partial", fraction=fraction, seconds=fault.lasts)
        time.sleep(fault.lasts)

    def rotate_key(self, fault: Fault, chance: random.Random) -> None:
        """Change a key as one should: the old one is revoked after the Secret has the new one."""
        site = chance.choice(self._traffic.sites)
        old, new = self._keys.get(site.name, site.key), self._new_key(site)
        self._drill.simulator.change_account(site.id, keys=[old, new])
        self._set_key(site, new)
        time.sleep(fault.lasts)
        self._drill.simulator.change_account(site.id, keys=[new])

    def revoke_key(self, fault: Fault, chance: random.Random) -> None:
        """Revoke a key before the Secret has the new one."""
        site = chance.choice(self._traffic.sites)
        new = self._new_key(site)
        self._drill.simulator.change_account(site.id, keys=[new])
        time.sleep(fault.lasts)
        self._set_key(site, new)

    def _new_key(self, site: Site) -> str:
        return f"{site.key}-{next(self._versions)}"

    def _set_key(self, site: Site, key: str) -> None:
        self._keys[site.name] = key
        _persist(lambda: site.set_key(key))

    def rotate_certificate(self, _: Fault, __: random.Random) -> None:
        """Trust a new CA, serve a certificate from it, then trust only it."""
        webhook, authority = self._crew.webhook, Authority()
        both = webhook.trusted + authority.certificate
        _persist(lambda: self._crew.configuration.point(webhook.port, both))
        before = eventually(lambda: _serial(webhook.port), "a certificate is served", PATIENCE)
        webhook.certificates.mount(authority.serving())
        eventually(
            lambda: _serial(webhook.port) not in (None, before), "the new one is served", PATIENCE
        )
        webhook.trusted = authority.certificate
        _persist(lambda: self._crew.configuration.point(webhook.port, webhook.trusted))

    def cut_watches(self, fault: Fault, chance: random.Random) -> None:
        for gate in chance.sample(self._gates(), chance.randint(1, 2)):
            gate.cut_watches()
            time.sleep(fault.lasts)

    def refuse_writes(self, fault: Fault, chance: random.Random) -> None:
        code = chance.choice((429, 500, 503))
        headers = {"Retry-After": "2"} if code == 429 else {}
        for gate in self._gates():
            gate.answer(code, method="PATCH", path="/wazzupchannels/", headers=headers)
        time.sleep(fault.lasts)
        for gate in self._gates():
            gate.clear()

    def _gates(self) -> list[Gate]:
        return [*self._crew.gates.values()]

    def hang_etcd(self, fault: Fault, _: random.Random) -> None:
        self._drill.plane.suspend_etcd()
        time.sleep(fault.lasts)
        self._drill.plane.resume_etcd()

    suspend_etcd = hang_etcd

    def suspend_briefly(self, fault: Fault, chance: random.Random) -> None:
        self._suspend(chance.choice(self._crew.processes), fault)

    def let_a_tenant_attack(self, fault: Fault, _: random.Random) -> None:
        with self._tenancy.working(GROUP):
            time.sleep(fault.lasts)
        self._tenancy.clean(GROUP)

    def kill_leader(self, fault: Fault, chance: random.Random) -> None:
        """Kill the leader, which is restarted as the same Pod or as another."""
        leader = self._crew.leader()
        if chance.random() < 0.5:
            leader.become_another_pod()
        self._crew.kill(leader)
        self._lose(fault)

    def kill_standby(self, _: Fault, __: random.Random) -> None:
        self._crew.kill(self._crew.standby())

    def kill_webhook(self, _: Fault, __: random.Random) -> None:
        self._crew.kill(self._crew.webhook)

    def suspend_leader(self, fault: Fault, _: random.Random) -> None:
        with self._crew.suspended(self._crew.leader()):
            self._lose(fault)
            time.sleep(fault.lasts)

    def suspend_standby(self, fault: Fault, _: random.Random) -> None:
        self._suspend(self._crew.standby(), fault)

    def suspend_webhook(self, fault: Fault, _: random.Random) -> None:
        self._suspend(self._crew.webhook, fault)

    def _suspend(self, process: Controller, fault: Fault) -> None:
        with self._crew.suspended(process):
            time.sleep(fault.lasts)

    def cut_leader_off(self, fault: Fault, chance: random.Random) -> None:
        """Keep the API server from the leader: its connections break, or hang."""
        gate = self._crew.gates[self._crew.leader().name]
        begin, end = chance.choice(((gate.close, gate.open), (gate.freeze, gate.thaw)))
        begin()
        self._lose(fault)
        time.sleep(fault.lasts)
        end()

    def _lose(self, fault: Fault) -> None:
        self.losses.append(Loss(time.time(), fault.name))

    def stop_api_server(self, fault: Fault, _: random.Random) -> None:
        self._restart_api_server(self._drill.plane.stop_apiserver, fault)

    def kill_api_server(self, fault: Fault, _: random.Random) -> None:
        self._restart_api_server(self._drill.plane.kill_apiserver, fault)

    def _restart_api_server(self, end: Callable[[], None], fault: Fault) -> None:
        self._compact()
        end()
        time.sleep(fault.lasts)
        self._start_api_server()

    def _start_api_server(self) -> None:
        plane = self._drill.plane
        try:
            plane.start_apiserver()
        except StartError:
            # On a busy machine, 10,000 objects take it longer than tests usually wait.
            if plane.failure():
                raise

    def _compact(self) -> None:
        """Drop etcd's history, as the API server does after 5 minutes without a restart."""
        with suppress(StartError, ValueError, KeyError, *UNREACHABLE):  # etcd is busy
            self._drill.plane.compact()

    def restore_etcd(self, fault: Fault, chance: random.Random) -> None:
        """Go back to a snapshot from some seconds ago, then apply the keys, as GitOps would."""
        plane = self._drill.plane
        self._compact()
        with self._snapshot() as snapshot:
            time.sleep(fault.lasts)
            chance.choice((plane.stop_apiserver, plane.kill_apiserver))()
            self._truth.restored(plane.restore_etcd(snapshot))
        self._start_api_server()
        for site in self._traffic.sites:
            if site.name in self._keys:
                self._set_key(site, self._keys[site.name])

    @contextmanager
    def _snapshot(self) -> Iterator[Path]:
        snapshot = self._drill.plane.save_etcd()
        try:
            yield snapshot
        finally:
            rmtree(snapshot)

    def let_senders_attack(self, fault: Fault, chance: random.Random) -> None:
        kinds = chance.sample(sorted(KINDS), 3)
        log = self._drill.directory / f"senders-{next(self._attacks)}.log"
        senders = Process("the senders", log)
        words = [sys.executable, "-m", "tests.drills.hostile", str(self._crew.webhook.port)]
        senders.launch([*words, *kinds], os.environ, ROOT)
        try:
            senders.wait_until(lambda: "{" in senders.log(), "the senders do not send", PATIENCE)
            time.sleep(fault.lasts)
            assert senders.runs, senders.log()
        finally:
            senders.kill()


def _serial(port: int) -> int | None:
    """Return the serial number of the served certificate, if one is served."""
    try:
        return serial(port)
    except OSError:
        return None


def _persist(send: Callable[[], object]) -> None:
    """Repeat a request until it succeeds; the API server may have just started."""

    def succeeds() -> bool:
        try:
            send()
        except (ApiError, *UNREACHABLE):
            time.sleep(0.5)
            return False
        return True

    eventually(succeeds, "the request succeeds", PATIENCE)
