"""Run an earlier version beside this one, while 500 objects change all the time."""

import shutil
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field

from dev.controlplane.plane import ControlPlane
from tests.drills.drill import Drill
from tests.drills.truth import AuditLog, Truth
from tests.integration.harness.api import Api
from tests.upgrade import verdict
from tests.upgrade.load import ACCOUNTS, Load, Reviews
from tests.upgrade.release import OPERATOR, Release
from tests.upgrade.versions import ROOT, Version, current, earlier
from wazzup_simulator.client import Simulator

DIRECTORY = ROOT / "build" / "upgrade" / "run"
TEAM, REVIEWED = "team", "reviewed"
"""Namespaces: of the objects, and of the dry runs, which would confuse the judge of statuses."""

WINDOW, STALE_AFTER = 20.0, 600.0
SHOWN = 20
"""Violations of each kind that are printed."""

LASTING = 15.0
"""Seconds of changes in each scenario, before every status must be right."""


@dataclass
class Check:
    """One run: both versions, what runs, and what was seen."""

    old: Version
    new: Version
    release: Release
    load: Load
    reviews: Reviews
    truth: Truth
    late: list[str] = field(default_factory=list)
    """Where statuses did not become right in time, perhaps because a version cannot read them."""

    idle: list[str] = field(default_factory=list)
    """Where there was nothing to judge."""

    begun: float = field(default_factory=time.time)
    _seen: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """Go through all scenarios; print a line for each."""
        print(f"{'':<50}changes  statuses by old  by new  reviews  lost  all right after")
        with self.load.repeated(), self.reviews.repeated():
            self._observe("old replicas, old webhook, old CRDs")
            self._upgrade()
            self._roll_back()
            self._upgrade_with_crds_last()

    def _upgrade(self) -> None:
        release, old, new = self.release, self.old, self.new
        release.upgrade(new)
        self._observe("helm upgrade: old replicas, new CRDs")
        release.stand_by(new)
        self._observe("old leader, new standby")
        release.stop_leader()
        release.stand_by(old)
        release.review(new)
        self._observe("new leader, new webhook, old standby")

    def _roll_back(self) -> None:
        release, old, new = self.release, self.old, self.new
        release.rollback()
        self._observe("helm rollback: new leader, old CRDs, old standby")
        release.kill_leader()
        release.stand_by(new)
        release.review(old)
        self._observe("old leader, old webhook, new standby")

    def _upgrade_with_crds_last(self) -> None:
        release, old, new = self.release, self.old, self.new
        release.upgrade(new, "crds.enabled=false")
        release.kill_leader()
        release.stand_by(old)
        self._observe("CRDs last: new leader, old CRDs, old standby")
        release.apply_crds(new)
        release.stand_by(new)
        release.review(new)
        self._observe("new replicas, new webhook, new CRDs")

    def _observe(self, scenario: str) -> None:
        """Let objects change for a while, until every status is right; print what happened."""
        time.sleep(LASTING)
        begun = time.monotonic()
        try:
            self.load.settle()
        except AssertionError as error:
            self.late.append(f"{scenario}: {error}")
        settled = time.monotonic() - begun
        self.load.raise_error()
        self.reviews.raise_error()
        seen = Counter(
            changes=self.load.changes, reviews=self.reviews.count, lost=len(self.reviews.wrong)
        )
        for pod, count in self.truth.writes().items():
            seen[pod.split("-")[0]] += count
        new, self._seen = seen - self._seen, seen
        leading = self.release.leader.name.split("-")[0]
        needed = {f"status by the {leading} version": new[leading], "review": new["reviews"]}
        self.idle += [f"{scenario}: no {what}" for what, count in needed.items() if not count]
        print(
            f"{scenario:<50}{new['changes']:>7}{new['old']:>17}{new['new']:>8}{new['reviews']:>9}"
            f"{new['lost']:>6}{settled:>15.1f} s",
            flush=True,
        )

    def violations(self) -> dict[str, list[str]]:
        """Describe everything that went wrong, by what was checked."""
        log = self.release.plane.audit_log
        channels = self.truth.written()
        accounts = AuditLog(log, TEAM, OPERATOR, "WazzupAccount").writes()
        return {
            "every object is right after each step": self.late,
            "each step has statuses by its leader, and reviews": self.idle,
            f"{len(channels)} statuses of channels": verdict.wrong_statuses(self.truth),
            "their times, and those of accounts": verdict.moved_times([*channels, *accounts]),
            "numbers that two objects declare": verdict.moved_claims(
                [each for each in channels if each.time > self.begun]
            ),
            f"{self.reviews.count} reviews, except just after CRD changes": (
                verdict.lost_reviews(self.reviews, self.release)
            ),
            "requests of both versions": verdict.refused_requests(log),
            f"logs of {len(self.release.pods)} processes": verdict.logged_errors(self.release.pods),
        }


def main(ref: str) -> int:
    """Print what was checked and every violation; return the exit code."""
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    old, new = earlier(ref, DIRECTORY), current(DIRECTORY)
    with ExitStack() as stack:
        simulator = stack.enter_context(Simulator.launch())
        plane = stack.enter_context(ControlPlane(DIRECTORY / "plane"))
        secrets = ",".join(f"shop-{n}" for n in range(ACCOUNTS))
        values = f"settings.wazzupUrl={simulator.base_url}", f"rbac.secretNames={{{secrets}}}"
        release = Release(plane, DIRECTORY, values)
        stack.enter_context(release.kubelet())
        check = _prepare(old, new, release, simulator)
        check.run()
        found = check.violations()
    print()
    for what, violations in found.items():
        print(f"{what:<50}{len(violations) or 'no'} violations", *violations[:SHOWN], sep="\n    ")
    count = sum(map(len, found.values()))
    print(f"\n{count} violations; the logs are in {DIRECTORY}" if count else "\nNo violations")
    return 1 if count else 0


def _prepare(old: Version, new: Version, release: Release, simulator: Simulator) -> Check:
    """Install the old version, and wait until every object has its status."""
    release.install(old)
    release.lead(old)
    release.stand_by(old)
    for name in (TEAM, REVIEWED):
        release.cluster.namespace(name)
    plane = release.plane
    fleet = Drill(plane, simulator, Api(plane.kubeconfig, TEAM), DIRECTORY, TEAM)
    load = Load(fleet)
    load.declare_twins()
    load.settle()
    reviews = Reviews(Api(plane.kubeconfig, REVIEWED))
    release.review(old)
    accounts = {site.name: site.id for site in fleet.sites}
    allow = {"*shop-*": {"DuplicatePhoneNumber"}}
    truth = Truth(plane, simulator, TEAM, OPERATOR, accounts, WINDOW, STALE_AFTER, allow)
    return Check(old, new, release, load, reviews, truth)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
