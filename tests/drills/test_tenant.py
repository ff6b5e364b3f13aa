"""A hostile tenant, and what the others notice of it.

The control is the same load on copies of the CRDs that nobody watches or reviews. It costs the API
server and the machine as much, so a difference is the operator's. It runs before and after, in case
the machine gets slower meanwhile.

Delays count from the change in Wazzup, and from the listing that showed it: the interval between
listings, 5 s here, hides smaller delays. A short run on a slow machine has too few of them for a
99th percentile that never doubles by chance, so it judges only the former.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from dev.controlplane.plane import ControlPlane
from tests.drills.duration import SCALE, lasting
from tests.drills.figures import measured
from tests.drills.shops import SHOPS, STILL, Delay, Shops
from tests.drills.tenancy import GROUP, PATIENCE, UNWATCHED, Tenancy
from tests.drills.vitals import Probes, cpu, peak, repeated
from tests.integration.harness.api import Api
from tests.integration.harness.controller import Controller
from tests.integration.harness.crds import CRDS, install
from tests.integration.harness.release import given, rendered
from tests.integration.harness.webhook import RELEASE, Authority, Configuration, Webhook
from tests.integration.harness.world import ROOT
from wazzup_simulator.client import Simulator

RATIO = 2.0
FLOOR = 1.0
"""Seconds that nobody notices, whatever the ratio."""

PROBE_INTERVAL = REVIEW_INTERVAL = 0.5
SCRAPE_INTERVAL = 5.0
CERTIFICATE = "webhook.certificate.source=external"


class Scrapes:
    """Scrapes like Prometheus', and the series that the shops' alerts need in each."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.count = 0
        self.largest = 0
        self.lost: list[str] = []

    async def scrape(self) -> None:
        text = await asyncio.to_thread(self._controller.metrics)
        self.count += 1
        self.largest = max(self.largest, len(text))
        present = {
            (metric, labels.get("namespace"), labels.get("name", labels.get("account")))
            for metric, labels in map(_series, filter(_of_shop, text.splitlines()))
        }
        self.lost += [f"scrape {self.count}: {' '.join(each)}" for each in NEEDED - present]


NEEDED = {
    *(("wazzup_channel_state", shop, name) for shop in SHOPS for name in STILL),
    *(
        ("wazzup_channel_state_since_timestamp_seconds", shop, name)
        for shop in SHOPS
        for name in STILL
    ),
    *(("wazzup_account_up", shop, "default") for shop in SHOPS),
    *(("wazzup_account_last_sync_timestamp_seconds", shop, "default") for shop in SHOPS),
    *(("wazzup_channels", shop, "default") for shop in SHOPS),
}
"""Metric, namespace and object of the series."""


def _of_shop(line: str) -> bool:
    return 'namespace="shop-' in line


def _series(line: str) -> tuple[str, dict[str, str]]:
    return line.partition("{")[0], dict(re.findall(r'(\w+)="([^"]*)"', line))


class Reviews:
    """A shop's impossible number, which must not be accepted unreviewed."""

    def __init__(self, plane: ControlPlane) -> None:
        self._configuration = Configuration(Api(plane.kubeconfig, SHOPS[0]))
        self.count = self.missing = 0

    async def try_impossible(self) -> None:
        self.count += 1
        self.missing += await asyncio.to_thread(self._configuration.admits_impossible)


@dataclass
class Cluster:
    """The operator as the chart runs it, for all namespaces, with the shops and the tenant."""

    plane: ControlPlane
    controller: Controller
    standby: Controller
    """Not started."""

    webhook: Webhook
    shops: Shops
    tenant: Tenancy

    async def under(self, group: str, seconds: float) -> list[Delay]:
        """Let the tenant work; return the shops' delays, print and check everything else."""
        probes = Probes(self.controller, self.webhook)
        scrapes, reviews = Scrapes(self.controller), Reviews(self.plane)
        processes = (self.controller, self.webhook)
        cpu_before = [cpu(each.pid) for each in processes]
        with self.tenant.working(group) as done:
            async with (
                self.shops.changing() as delays,
                repeated(PROBE_INTERVAL, probes.send),
                repeated(SCRAPE_INTERVAL, scrapes.scrape),
                repeated(REVIEW_INTERVAL, reviews.try_impossible),
            ):
                await asyncio.sleep(seconds)
        kind = "a hostile tenant" if group == GROUP else "the same load on objects nobody watches"
        measured(f"{kind}: what it did", **done)
        measured(
            f"{kind}: what others saw",
            statuses=len(delays),
            p50_after_listing=percentile(50, [each.after_listing for each in delays]),
            p99_after_listing=percentile(99, [each.after_listing for each in delays]),
            p99_after_change=percentile(99, [each.after_change for each in delays]),
            probes=probes.sent,
            missed=len(probes.missed),
            scrapes=scrapes.count,
            KiB_at_most=scrapes.largest // 1024,
            series_lost=len(scrapes.lost),
            reviews=reviews.count,
            not_answered=reviews.missing,
            controller_CPU=cpu(self.controller.pid) - cpu_before[0],
            webhook_CPU=cpu(self.webhook.pid) - cpu_before[1],
            controller_MiB=peak(self.controller.pid),
            webhook_MiB=peak(self.webhook.pid),
        )
        assert probes.missed == []
        assert scrapes.lost == []
        return delays

    def list_in_standby(self) -> int:
        """Let another replica list everything; return the most MiB that it took."""
        self.standby.start()
        try:
            self.standby.wait_ready(PATIENCE)
            return peak(self.standby.pid)
        finally:
            self.standby.stop()


def percentile(percent: int, values: Sequence[float]) -> float:
    return sorted(values)[-(-len(values) * percent // 100) - 1]


def memory_limit(component: str) -> int:
    """Return the MiB that the chart allows a process."""
    (limit,) = (
        each["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
        for each in rendered(RELEASE)
        if each["kind"] == "Deployment"
        and each["metadata"]["labels"]["app.kubernetes.io/component"] == component
    )
    return int(str(limit).removesuffix("Mi"))


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """Without an audit log, which would hold every large annotation."""
    with ControlPlane(tmp_path / "plane", audit=False) as plane:
        install(plane)
        for file in sorted((ROOT / "crds").glob("*.yaml")):
            copy = yaml.safe_load(file.read_text().replace(GROUP, UNWATCHED))
            Api(plane.kubeconfig).request("POST", CRDS, copy)
        yield plane


@pytest.fixture
def cluster(plane: ControlPlane, simulator: Simulator, tmp_path: Path) -> Iterator[Cluster]:
    simulator.add_account(["key-hostile"], id="hostile")
    shared = simulator.add_channel("79980000000", account="hostile")
    simulator.patch_channel(shared, plainId=None)  # so that any number may claim it
    url = f"settings.wazzupUrl={simulator.base_url}"
    of_chart = given(plane, RELEASE, "controller", CERTIFICATE, url)
    controller, standby = (
        Controller(
            of_chart.kubeconfig,
            tmp_path / f"{name}.log",
            *of_chart.arguments,
            environment={"POD_NAME": name, "POD_UID": name},
        )
        for name in ("controller", "standby")
    )
    webhook = Webhook(
        given(plane, RELEASE, "webhook", CERTIFICATE), tmp_path / "webhook", Authority()
    )
    shops, tenant = Shops(plane, simulator), Tenancy(plane, tmp_path, shared.id)
    try:
        for process in (controller, webhook):
            process.start()
            process.wait_ready()
        configuration = Configuration(Api(plane.kubeconfig))
        configuration.point(webhook.port, webhook.trusted)
        configuration.wait_refusing()
        shops.make()
        tenant.make("key-hostile")
        yield Cluster(plane, controller, standby, webhook, shops, tenant)
    finally:
        for process in (controller, webhook):
            process.stop()


@pytest.mark.timeout(1800)
async def test_others_do_not_notice_a_hostile_tenant(cluster: Cluster) -> None:
    seconds = lasting(300, at_least=60)
    before = await cluster.under(UNWATCHED, seconds / 3)
    cluster.tenant.clean(UNWATCHED)
    hostile = await cluster.under(GROUP, seconds)
    standby = cluster.list_in_standby()
    measured("a hostile tenant: a replica that starts then lists everything", MiB=standby)
    cluster.tenant.clean(GROUP)
    after = await cluster.under(UNWATCHED, seconds / 3)
    for measure in ("after_change", "after_listing") if SCALE >= 1 else ("after_change",):
        control = percentile(99, [getattr(each, measure) for each in [*before, *after]])
        found = percentile(99, [getattr(each, measure) for each in hostile])
        assert found < max(FLOOR, RATIO * control), measure
    assert max(standby, peak(cluster.controller.pid)) < memory_limit("controller")
    assert peak(cluster.webhook.pid) < memory_limit("webhook")
