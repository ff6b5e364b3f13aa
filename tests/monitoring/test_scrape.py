"""Scrapes: the limit of series, standbys, the text formats, and no personal data."""

import subprocess
import urllib.request
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import yaml
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from dev.controlplane.binaries import promtool
from tests.integration.harness.api import channel, eventually
from tests.integration.harness.controller import Controller
from tests.integration.harness.webhook import (
    IMPOSSIBLE,
    Authority,
    Webhook,
    of_chart,
    review,
    stored,
)
from tests.integration.harness.world import World
from tests.monitoring.replicas import replica
from wazzup_operator.observability.metrics import DECLARED

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "monitoring"
PHONE = "+79865784457"
WITHOUT_SERIES = "wazzup_channels_without_series"

Names = tuple[str, ...]


@dataclass
class Scrape:
    """The samples of one scrape, by metric."""

    samples: dict[str, list[tuple[dict[str, str], float]]]

    @classmethod
    def of(cls, text: str) -> "Scrape":
        samples = defaultdict(list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples[sample.name].append((sample.labels, sample.value))
        return cls(dict(samples))

    def by(self, metric: str, *labels: str) -> dict[Names, float]:
        """Return the values of a metric by these labels, which must be unique."""
        samples = self.samples.get(metric, [])
        found = [(tuple(each[label] for label in labels), value) for each, value in samples]
        assert len(dict(found)) == len(found), f"{metric} twice for the same labels"
        return dict(found)

    def number(self, metric: str) -> float:
        """Return the single value of a metric."""
        ((_, value),) = self.samples[metric]
        return value

    @property
    def total(self) -> float:
        return sum(self.by("wazzup_channels", "account", "state", "active").values())


class TestLimit:
    """--channel-series-limit."""

    def test_working_channels_are_left_out_first(self, world: World) -> None:
        world.account_with_key()
        world.declare("working", PHONE)
        world.declare("missing", "+79865784458")
        world.add(PHONE, state="active")
        for limit, names in ((1, {("missing",)}), (0, set())):
            controller = world.controller(f"--channel-series-limit={limit}")
            world.wait_reason("working", "Active")
            world.wait_reason("missing", "NotAdded")

            def as_expected(controller: Controller = controller, expected: object = names) -> bool:
                scrape = Scrape.of(controller.metrics())
                return scrape.total == 2 and (
                    scrape.by("wazzup_channel_state", "name").keys() == expected
                )

            eventually(as_expected, f"series of {names or 'no channel'}")
            without = Scrape.of(controller.metrics()).by(WITHOUT_SERIES, "active", "ready")
            assert sum(without.values()) == 2 - limit
            controller.stop()


def _leading(controller: Controller) -> Scrape:
    def look() -> Scrape | None:
        scrape = Scrape.of(controller.metrics())
        return scrape if WITHOUT_SERIES in scrape.samples else None

    return eventually(look, "it leads", 60)


class TestReplicas:
    """Only the leader exports channels."""

    def test_a_standby_exports_no_channels(self, world: World) -> None:
        world.account_with_key()
        world.declare("channel", PHONE)
        world.add(PHONE, state="active")
        first, second = (replica(world, number) for number in range(2))
        first.start()
        _leading(first)
        second.start()
        second.wait_ready()
        world.wait_reason("channel", "Active")
        scrape = Scrape.of(second.metrics())
        names = {
            each for each in scrape.samples if each.startswith(("wazzup_channel", "wazzup_acc"))
        }
        assert {each for each in names if "_seconds_" not in each} == set()
        assert scrape.number("leader_election_master_status") == 0
        followed = scrape.by("wazzup_operator_watch_silence_seconds", "resource", "namespace")
        assert {name for name, _ in followed} == {"wazzupaccounts", "wazzupchannels"}
        assert Scrape.of(first.metrics()).number("leader_election_master_status") == 1

        first.stop()
        scrape = eventually(lambda: _leading(second), "the other leads")
        assert scrape.number("leader_election_master_status") == 1
        eventually(lambda: Scrape.of(second.metrics()).total == 1, "it exports the channel")


class TestText:
    """The text formats."""

    def test_promtool_accepts_it_and_it_has_no_personal_data(
        self,
        world: World,
        tmp_path: Path,
    ) -> None:
        world.account_with_key()
        ids = []
        for number, state in enumerate(("active", "qridle", "disabled", "somethingNew")):
            phone = f"+7986578445{number}"
            world.declare(f"channel-{number}", phone, displayName=f"Name {number}")
            ids.append(world.add(phone, state=state, name="A name in Wazzup").id)
        ids.append(world.add("79865784459", state="active").id)
        controller = world.controller()
        world.wait_reason("channel-3", "SomethingWentWrong")
        webhook = Webhook(of_chart(world.plane), tmp_path / "webhook", Authority())
        webhook.start()
        try:
            webhook.wait_ready()
            for phone in (PHONE, IMPOSSIBLE):
                body = stored(channel("x", phone), world.api.namespace)
                webhook.review(review("CREATE", body))
            texts = [controller.metrics(), webhook.metrics()]
        finally:
            webhook.stop()
        for text in texts:
            done = subprocess.run(
                [promtool(), "check", "metrics"], input=text, capture_output=True, text=True
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            assert "_created" not in text
            for each in [
                *ids,
                world.key,
                *world.numbers,
                "Name",
                "name in",
                IMPOSSIBLE.lstrip("+"),
            ]:
                assert each not in text, f"{each} is exported"
        declared = {label for metric in DECLARED for label in metric.labels} | {"le"}
        for text in texts:
            for samples in Scrape.of(text).samples.values():
                assert all(labels.keys() <= declared for labels, _ in samples)

    def test_openmetrics(self, world: World) -> None:
        """Both formats have the same samples."""
        world.account_with_key()
        world.declare("channel", PHONE)
        world.add(PHONE, state="active")
        controller = world.controller()
        world.wait_reason("channel", "Active")
        request = urllib.request.Request(
            f"http://{controller.metrics_address}/metrics",
            headers={"Accept": "application/openmetrics-text;version=1.0.0"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            families = list(openmetrics_families(answer.read().decode()))
        names = {sample.name for family in families for sample in family.samples}
        assert names == set(Scrape.of(controller.metrics()).samples)


class TestLabels:
    """--metric-labels."""

    def test_a_changed_label_is_in_the_next_scrape(self, world: World) -> None:
        world.account_with_key()
        world.declare("channel", PHONE)
        world.add(PHONE, state="active")
        controller = world.controller("--metric-labels=team")
        world.wait_reason("channel", "Active")
        for team in ("sales", "support"):
            labels = {"labels": {"team": team, "app": "x"}}
            world.api.patch("wazzupchannel", "channel", {"metadata": labels})

            def as_labelled(team: str = team) -> bool:
                scrape = Scrape.of(controller.metrics())
                return scrape.by("wazzup_channel_state", "label_team").keys() == {(team,)}

            eventually(as_labelled, f"its team is {team}")


class TestExamples:
    """examples/monitoring."""

    def test_the_service_monitor_honours_labels(self) -> None:
        body = yaml.safe_load((EXAMPLES / "servicemonitor.yaml").read_text())
        assert body["apiVersion"] == "monitoring.coreos.com/v1"
        assert body["kind"] == "ServiceMonitor"
        (endpoint,) = body["spec"]["endpoints"]
        assert endpoint["honorLabels"] is True
        assert (endpoint["port"], endpoint["path"]) == ("metrics", "/metrics")

    def test_promtool_accepts_the_scrape_config(self, tmp_path: Path) -> None:
        (config := tmp_path / "prometheus.yml").write_text(
            (EXAMPLES / "scrape_config.yaml").read_text()
        )
        done = subprocess.run(
            [promtool(), "check", "config", config], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        (scrape,) = yaml.safe_load(config.read_text())["scrape_configs"]
        assert scrape["honor_labels"] is True
