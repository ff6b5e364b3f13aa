"""Dashboards, rules and documents use only metrics, labels and values that exist."""

import itertools
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dev.controlplane.plane import ControlPlane
from dev.generate.files import RULES
from dev.generate.metrics_page import process_metrics
from tests.expected_states import BY_NAME
from tests.integration.harness.api import JSON, Api
from tests.integration.harness.load import started
from tests.integration.harness.webhook import Authority, Webhook, of_chart
from tests.integration.harness.world import World, assert_no_secrets_printed
from tests.monitoring.dashboards import DASHBOARDS, panels, queries
from tests.monitoring.promql import Catalogue, Unknown, in_document, named_in, substituted
from tests.monitoring.scrapes import scrape_api_server, scrape_controller, scrape_webhook
from wazzup_operator.observability.metrics import DECLARED
from wazzup_simulator.client import Simulator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_SERIES = re.compile(r"(apiserver_\w+)\{(.*?)\}")


def _labels(text: str) -> frozenset[tuple[str, str]]:
    return frozenset(re.findall(r'(\w+)="([^"]*)"', text))


@pytest.fixture(scope="module")
def scrapes(
    plane: ControlPlane,
    simulator: Simulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[str]]:
    """Scrape controller and webhook, after some states, an outage and a restart."""
    directory = tmp_path_factory.mktemp("running")
    name = f"running-{time.monotonic_ns() % 10**9:09d}"
    api = Api(plane.kubeconfig, name)
    api.request("POST", "api/v1/namespaces", {"metadata": {"name": name}})
    simulator.add_account([f"key-{name}"], id=name)
    world = World(plane, simulator, api, directory, name)
    webhook = Webhook(of_chart(plane), directory / "webhook", Authority())
    webhook.start()
    try:
        taken = scrape_controller(world)
        assert_no_secrets_printed(world)
        taken.append(scrape_webhook(webhook, name))
        yield taken
    finally:
        webhook.stop()
        for controller in world.controllers:
            controller.stop()
        simulator.clear_faults()


@pytest.fixture(scope="module")
def calls(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Scrape an API server that calls a webhook, and cannot with a wrong caBundle."""
    with started(plane, tmp_path_factory.mktemp("called"), Authority()) as webhook:
        yield scrape_api_server(Api(plane.kubeconfig), webhook)


@pytest.fixture(scope="module")
def catalogue(scrapes: list[str], calls: str) -> Catalogue:
    """The scraped series, and those of the recording rules."""
    catalogue = Catalogue.of([*scrapes, calls])
    catalogue.values["state"] |= BY_NAME.keys()  # a state without objects has no series
    for rule in rules():
        if "record" in rule:
            catalogue.record(rule["record"], catalogue.check(rule["expr"]))
    return catalogue


def rules() -> list[JSON]:
    """Return the rules of rules.yaml."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _not_zero(texts: list[str]) -> set[str]:
    """Return the names of samples that are not 0; the other process exports some as 0."""
    families = itertools.chain.from_iterable(map(text_string_to_metric_families, texts))
    return {each.name for family in families for each in family.samples if each.value}


class TestNames:
    """Every name exists."""

    @pytest.mark.parametrize("name", DASHBOARDS)
    def test_in_dashboards(self, name: str, catalogue: Catalogue) -> None:
        for title, legend, expression in queries(name):
            try:
                labels = catalogue.check(expression)
            except (ValueError, Unknown) as error:
                raise AssertionError(f"{name}, {title}: {error}") from error
            assert set(re.findall(r"{{(\w+)}}", legend)) <= labels, title

    @pytest.mark.parametrize("name", DASHBOARDS)
    def test_in_variables(self, name: str, catalogue: Catalogue) -> None:
        for each in json.loads(DASHBOARDS[name].read_text())["templating"]["list"]:
            if each["type"] == "query":
                call = re.fullmatch(r"label_values\((.+), (\w+)\)", each["query"]["query"])
                labels = catalogue.check(substituted(call[1], ["cluster", "namespace"]))
                assert call[2] in labels

    @pytest.mark.parametrize("name", DASHBOARDS)
    def test_in_tables(self, name: str, catalogue: Catalogue) -> None:
        """Check that every column is a label or a value of the table's queries."""
        for panel in panels(name):
            if panel["type"] != "table":
                continue
            found = [catalogue.check(q) for title, _, q in queries(name) if title == panel["title"]]
            several = [f"Value #{letter}" for letter in "ABCDEFGH"[: len(found)]]
            known = frozenset.union(*found) | set(several if len(found) > 1 else ["Value"])
            kept, renamed = (each["options"] for each in panel["transformations"][-2:])
            assert set(kept["include"]["names"]) <= known, panel["title"]
            headers = set(renamed["renameByName"].values())
            spoken = {each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]}
            spoken |= {each["displayName"] for each in panel["options"]["sortBy"]}
            assert spoken <= headers

    def test_in_rules(self, catalogue: Catalogue) -> None:
        for rule in rules():
            name = rule.get("alert") or rule["record"]
            try:
                labels = catalogue.check(rule["expr"])
            except (ValueError, Unknown) as error:
                raise AssertionError(f"{name}: {error}") from error
            if rule["expr"].startswith("absent("):
                labels |= {"namespace"}  # from the chart's release
            texts = " ".join(rule.get("annotations", {}).values())
            assert set(re.findall(r"\$labels\.(\w+)", texts)) <= labels, name

    @pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
    def test_in_documents(self, path: Path, catalogue: Catalogue) -> None:
        for expression in in_document(path.read_text()):
            try:
                catalogue.check(expression)
            except (ValueError, Unknown) as error:
                raise AssertionError(f"{expression}: {error}") from error
        known = {metric.name for metric in DECLARED} | catalogue.labels.keys()
        for name in named_in(path):
            found = [each for each in known if each.startswith(name.rstrip("*"))]
            assert name in known or (name.endswith("*") and found), f"there is no metric {name}"

    def test_every_metric_is_exported_by_the_documented_process(self, scrapes: list[str]) -> None:
        *controller, webhook = scrapes
        nonzero = {"controller": _not_zero(controller), "webhook": _not_zero([webhook])}
        exported = {
            "controller": Catalogue.of(controller).labels,
            "webhook": Catalogue.of([webhook]).labels,
        }
        missing, misplaced = [], []
        for metric in [*DECLARED, *process_metrics()]:
            sample = f"{metric.name}_count" if metric.kind == "histogram" else metric.name
            both = {"controller", "webhook"}
            wanted = both if metric.process == "both" else {metric.process}
            if not all(sample in exported[process] for process in wanted):
                missing.append(metric.name)
            if any(sample in nonzero[process] for process in both - wanted):
                misplaced.append(metric.name)
        assert missing == [], "no scrape has these: make them occur in tests/monitoring/scrapes.py"
        assert misplaced == []

    def test_the_labels_are_the_declared_ones(self, catalogue: Catalogue) -> None:
        for metric in DECLARED:
            name = f"{metric.name}_count" if metric.kind == "histogram" else metric.name
            assert catalogue.labels[name] == set(metric.labels), name

    def test_promtool_s_series_of_the_api_server_are_real(self, calls: str) -> None:
        """Check labels and values; cluster, job and instance are the scrape's."""
        real = {(name, _labels(labels)) for name, labels in _SERIES.findall(calls)}
        tested = {
            (name, _labels(re.sub(r'(cluster|job|instance)="[^"]*"', "", labels)))
            for name, labels in _SERIES.findall((HERE / "webhook_calls.yaml").read_text())
            if "other.example.com" not in labels  # another webhook's
        }
        assert tested
        assert tested <= real

    @pytest.mark.parametrize(
        ("expression", "complaint"),
        [
            ("wazzup_chanels", "no scrape has a metric wazzup_chanels"),
            ('wazzup_channels{stat="Active"}', "no label stat"),
            ('wazzup_channels{state="Activee"}', 'state="Activee"'),
            ("max by (state) (sum by (account) (wazzup_channels))", "no label state"),
            ("wazzup_account_up and wazzup_channel_state", "they never match"),
            (
                "wazzup_channel_state * on (namespace) group_left (code) wazzup_account_up",
                "no label code",
            ),
        ],
    )
    def test_unknown_names_are_found(
        self, expression: str, complaint: str, catalogue: Catalogue
    ) -> None:
        with pytest.raises(Unknown, match=re.escape(complaint)):
            catalogue.check(expression)
