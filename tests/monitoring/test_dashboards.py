"""The dashboards and the documents: of metrics that exist, and with true answers.

The last is asked of a real Prometheus, which scrapes two replicas while states change.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dev.controlplane.binaries import promtool
from dev.controlplane.plane import ControlPlane
from dev.generate import files
from dev.generate.alerts.rules import ALERTS
from dev.generate.metrics_page import process_metrics
from dev.processes.port import free_port
from dev.processes.process import Process
from tests.drills.drill import Replica
from tests.integration.harness.api import JSON, Api, account, channel, eventually, secret
from tests.integration.harness.webhook import (
    IMPOSSIBLE,
    Authority,
    Webhook,
    of_chart,
    review,
    stored,
)
from tests.integration.harness.world import World, tell_no_secrets
from tests.monitoring.promql import Catalogue, Unknown, in_document, named_in, substituted
from tests.monitoring.replicas import replica
from wazzup_operator.domain.states import TABLE, Carries, Remedy, State
from wazzup_operator.observability.metrics import DECLARED
from wazzup_simulator.client import Simulator

ROOT = Path(__file__).parents[2]
DASHBOARDS = {path.stem: path for path in sorted(files.DASHBOARDS.glob("*.json"))}
RULES = ROOT / "charts" / "wazzup-operator" / "files" / "rules.yaml"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def panels(name: str) -> list[JSON]:
    """Return a dashboard's panels without the rows."""
    body = json.loads(DASHBOARDS[name].read_text())
    return [each for each in body["panels"] if each["type"] != "row"]


class TestFiles:
    """The files as such."""

    def test_every_metric_is_documented(self) -> None:
        text = (ROOT / "docs" / "metrics.md").read_text()
        for metric in [*DECLARED, *process_metrics()]:
            (line,) = re.findall(rf"^\| `{metric.name}` .*$", text, re.MULTILINE)
            assert metric.meaning in line
            assert re.findall(r"`(\w+)`", line.split("|")[3]) == list(metric.labels)

    @pytest.mark.parametrize("name", DASHBOARDS)
    def test_nothing_is_bound_to_one_grafana(self, name: str) -> None:
        body = json.loads(DASHBOARDS[name].read_text())
        assert body["schemaVersion"] == 41
        assert not body.keys() & {"uid", "id", "__inputs", "gnetId"}
        sources = {json.dumps(each["datasource"]) for each in panels(name)}
        sources |= {json.dumps(each["datasource"]) for p in panels(name) for each in p["targets"]}
        variables = {each["name"]: each for each in body["templating"]["list"]}
        sources |= {
            json.dumps(each["datasource"]) for each in variables.values() if "datasource" in each
        }
        assert sources == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}
        assert variables["datasource"]["type"] == "datasource"
        more = {"fleet": "account", "operator": "job"}[name]
        assert variables.keys() == {"datasource", "namespace", more}

    @pytest.mark.parametrize("name", DASHBOARDS)
    def test_each_panel_says_what_it_is(self, name: str) -> None:
        body = json.loads(DASHBOARDS[name].read_text())
        ids = [each["id"] for each in body["panels"]]
        assert len(set(ids)) == len(ids)
        titles = [each["title"] for each in panels(name)]
        assert len(set(titles)) == len(titles)
        for panel in panels(name):
            assert re.fullmatch(r"[A-Za-z].{20,}\.", panel["description"], re.DOTALL), panel[
                "title"
            ]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["targets"]

    @pytest.mark.parametrize("name", DASHBOARDS)
    def test_no_panel_lies_on_another(self, name: str) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(DASHBOARDS[name].read_text())["panels"]:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            cells = set(
                itertools.product(
                    range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
                )
            )
            assert not cells & taken, panel["title"]
            taken |= cells


# What the running operator tells, and whether everybody speaks of that only.


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
        taken = _told_by_controller(world)
        tell_no_secrets(world)
        taken.append(_told_by_webhook(webhook, name))
        yield taken
    finally:
        webhook.stop()
        for controller in world.controllers:
            controller.stop()
        simulator.clear_faults()


def _told_by_controller(world: World) -> list[str]:
    world.account_with_key()
    controller = world.controller("--stale-after=1s")
    states = {"a": "active", "b": "qridle", "c": "disabled", "d": "notEnoughMoney"}
    for number, (name, state) in enumerate(states.items()):
        world.declare(name, f"+7986578445{number}", active=name != "c")
        world.add(f"7986578445{number}", state=state)
    world.declare("e", "+79865784459")
    world.wait_reason("a", "Active")
    world.wait_reason("e", "NotAdded")
    taken = [controller.metrics()]
    world.simulator.add_fault("status", account=world.account, code=503)
    world.wait_reason("default", "AccountUnreachable", "wazzupaccount")
    world.wait_reason("a", "AccountUnreachable", seconds=40)  # stale: three pollIntervals
    taken.append(controller.metrics())
    world.simulator.clear_faults()
    controller.stop()
    controller.start()
    world.wait_reason("a", "Active", seconds=60)
    taken.append(controller.metrics())
    return taken


def _told_by_webhook(webhook: Webhook, namespace: str) -> str:
    webhook.wait_ready()
    good, bad = (stored(channel("x", phone), namespace) for phone in ("+79865784457", IMPOSSIBLE))
    assert webhook.review(review("CREATE", good))["allowed"]
    assert not webhook.review(review("CREATE", bad))["allowed"]
    webhook.review(review("CREATE", stored(account(), namespace)))
    status, _ = webhook.post("/channel", b"{")
    assert status == 400
    return webhook.metrics()


@pytest.fixture(scope="module")
def catalogue(scrapes: list[str]) -> Catalogue:
    """What exists: what was scraped, and what the recording rules make of it."""
    catalogue = Catalogue.of(scrapes)
    for rule in rules():
        if "record" in rule:
            catalogue.record(rule["record"], catalogue.check(rule["expr"]))
    return catalogue


def rules() -> list[JSON]:
    """Return what is in rules.yaml."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def asked(title: str, ref: str = "A") -> str:
    """Return the expression of one of the fleet dashboard's panels."""
    (panel,) = (each for each in panels("fleet") if each["title"] == title)
    (found,) = (each["expr"] for each in panel["targets"] if each["refId"] == ref)
    return str(found)


def queries(name: str) -> Iterator[tuple[str, str, str]]:
    """Yield title, legend and expression of everything that a dashboard asks for."""
    variables = json.loads(DASHBOARDS[name].read_text())["templating"]["list"]
    known = [each["name"] for each in variables]
    for panel in panels(name):
        for target in panel["targets"]:
            yield panel["title"], target["legendFormat"], substituted(target["expr"], known)


def _not_zero(texts: list[str]) -> set[str]:
    """Return the samples that are not 0, as those without labels are in the other process."""
    families = itertools.chain.from_iterable(map(text_string_to_metric_families, texts))
    return {each.name for family in families for each in family.samples if each.value}


class TestNames:
    """Everything that is spoken of exists."""

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
                asked = re.fullmatch(r"label_values\((.+), (\w+)\)", each["query"]["query"])
                labels = catalogue.check(substituted(asked[1], ["namespace"]))
                assert asked[2] in labels

    @pytest.mark.parametrize("name", DASHBOARDS)
    def test_in_tables(self, name: str, catalogue: Catalogue) -> None:
        """Every column is a label or a value of the table's queries."""
        for panel in panels(name):
            if panel["type"] != "table":
                continue
            found = [catalogue.check(q) for title, _, q in queries(name) if title == panel["title"]]
            several = [f"Value #{letter}" for letter in "ABCDEFGH"[: len(found)]]
            known = frozenset.union(*found) | set(several if len(found) > 1 else ["Value"])
            kept, renamed = (each["options"] for each in panel["transformations"][-2:])
            assert set(kept["include"]["names"]) <= known, panel["title"]
            headlines = set(renamed["renameByName"].values())
            spoken = {each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]}
            spoken |= {each["displayName"] for each in panel["options"]["sortBy"]}
            assert spoken <= headlines

    def test_in_rules(self, catalogue: Catalogue) -> None:
        for rule in rules():
            name = rule.get("alert") or rule["record"]
            try:
                labels = catalogue.check(rule["expr"])
            except (ValueError, Unknown) as error:
                raise AssertionError(f"{name}: {error}") from error
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

    def test_every_metric_is_told_of_by_the_process_it_is_documented_for(
        self, scrapes: list[str]
    ) -> None:
        """Also that each declared metric was there in the running operator."""
        *controller, webhook = scrapes
        told = {"controller": _not_zero(controller), "webhook": _not_zero([webhook])}
        there = {
            "controller": Catalogue.of(controller).labels,
            "webhook": Catalogue.of([webhook]).labels,
        }
        missing, misplaced = [], []
        for metric in [*DECLARED, *process_metrics()]:
            sample = f"{metric.name}_count" if metric.kind == "histogram" else metric.name
            both = {"controller", "webhook"}
            wanted = both if metric.process == "both" else {metric.process}
            if not all(sample in there[process] for process in wanted):
                missing.append(metric.name)
            if any(sample in told[process] for process in both - wanted):
                misplaced.append(metric.name)
        assert missing == []
        assert misplaced == []

    def test_the_labels_are_those_that_are_declared(self, catalogue: Catalogue) -> None:
        for metric in DECLARED:
            name = f"{metric.name}_count" if metric.kind == "histogram" else metric.name
            assert catalogue.labels[name] == set(metric.labels), name

    @pytest.mark.parametrize(
        ("expression", "complaint"),
        [
            ("wazzup_chanels", "no scrape has a metric wazzup_chanels"),
            ('wazzup_channels{stat="Active"}', "no label stat"),
            ('wazzup_channels{state="Actve"}', 'state="Actve"'),
            ('wazzup_channels{state=~"Active|Actve"}', 'state="Actve"'),
            ("sum by (phone) (wazzup_channels)", "no label phone"),
            ("max by (state) (sum by (account) (wazzup_channels))", "no label state"),
            ("wazzup_account_up and on (name) wazzup_channel_ready", "no label name"),
            ("wazzup_account_up and wazzup_channel_ready", "they never match"),
            (
                "wazzup_channel_ready * on (namespace) group_left (state) wazzup_account_up",
                "no label state",
            ),
            ("histogram_quantile(0.9, rate(wazzup_channels[5m]))", "no label le"),
            ('label_replace(wazzup_account_up, "a", "$1", "nme", "(.*)")', "no label nme"),
            ('{__name__=~"wazzup.*"}', "names no metric"),
        ],
    )
    def test_what_is_made_up_is_found(
        self, expression: str, complaint: str, catalogue: Catalogue
    ) -> None:
        with pytest.raises(Unknown, match=re.escape(complaint)):
            catalogue.check(expression)

    @pytest.mark.parametrize("expression", ["sum(", "rate(wazzup_channels)", "nothing(up)"])
    def test_what_is_no_expression_is_found(self, expression: str, catalogue: Catalogue) -> None:
        with pytest.raises(ValueError):
            catalogue.check(expression)

    def test_a_variable_that_is_made_up_is_found(self) -> None:
        with pytest.raises(Unknown, match=r"\$nowhere"):
            substituted('up{job="$nowhere"}', ["job"])

    def test_a_document_is_searched(self, tmp_path: Path) -> None:
        text = (
            "```promql\n# why\nup == 0\n\nup\n  > 0\n```\n`a` PromQL: `up{x=1}`, wazzup_chanels_*"
        )
        assert list(in_document(text)) == ["up == 0", "up\n  > 0", "up{x=1}"]
        (tmp_path / "a.md").write_text(f"{text} `wazzup_channels{{state}}` wazzup_operator/a.py")
        assert named_in(tmp_path / "a.md") == {"wazzup_chanels_*", "wazzup_channels"}


# What Prometheus answers.


def test_a_former_leader_is_not_added_to_the_new_one(tmp_path: Path) -> None:
    """Its last series are still there; the money of the account has run out in between."""
    told = []

    def tell(pod: str, metric: str, value: str, **labels: str) -> None:
        labels = {"job": "operator", "instance": pod, "pod": pod, **labels}
        shown = ",".join(f'{label}="{text}"' for label, text in labels.items())
        told.append({"series": f"{metric}{{{shown}}}", "values": value})

    def count(pod: str, at: str, namespace: str, account: str, **states: int) -> None:
        where = {"namespace": namespace, "account": account, "active": "true"}
        for state, number in states.items():
            tell(pod, "wazzup_channels", at.format(number), **where, state=state)

    def one(
        pod: str,
        at: str,
        namespace: str,
        name: str,
        state: str,
        since: int,
        ready: int | None = None,
    ) -> None:
        where = {"namespace": namespace, "name": name}
        labels = {"account": "main", "active": "true", "transport": "whatsapp", "state": state}
        tell(pod, "wazzup_channel_state", at.format(1), **where, **labels)
        metric = "wazzup_channel_state_since_timestamp_seconds"
        tell(pod, metric, at.format(since), **where)
        if ready is not None:
            tell(pod, "wazzup_channel_ready", at.format(ready), **where)

    before, now = "{} _", "_ {}"
    count("former", before, "a", "main", Active=14, NotPaidFor=1)
    count("new", now, "a", "main", Active=0, NotPaidFor=15)
    one("former", before, "a", "x", "Blocked", since=10, ready=0)
    one("new", now, "a", "x", "NotPaidFor", since=20, ready=0)
    tell("former", "wazzup_account_up", "1 _", namespace="a", account="main")
    tell("new", "wazzup_account_up", "_ 0", namespace="a", account="main")
    # An account that is gone.
    count("former", before, "a", "gone", Active=3)
    # A namespace of which nothing is known any more.
    count("former", before, "dark", "main", Blocked=1, Unknown=0)
    count("new", now, "dark", "main", Blocked=0, Unknown=1)
    one("former", before, "dark", "y", "Blocked", since=10, ready=0)
    one("new", now, "dark", "y", "Unknown", since=20)
    tell("former", "wazzup_account_up", "1 _", namespace="dark", account="main")
    # Another operator's namespace, which was scraped earlier.
    count("another", before, "b", "main", Active=100)

    blocked = 'active="true",name="x",namespace="a",state="NotPaidFor",todo="true NotPaidFor"'
    answers: list[tuple[str, str, dict[str, int]]] = [
        ("Declared on", ".*", {"{}": 116}),
        ("Active", ".*", {"{}": 100}),
        ("Active", "gone", {}),
        (
            "Declared on, by state",
            ".*",
            {'{state="Active"}': 100, '{state="NotPaidFor"}': 15, '{state="Unknown"}': 1},
        ),
        (
            "Not Ready",
            ".*",
            {f'{{account="main",{blocked},transport="whatsapp"}}': 20_000},
        ),
        ("Accounts", ".*", {'{account="main",namespace="a"}': 0}),
    ]
    test = {
        "interval": "1m",
        "input_series": told,
        "promql_expr_test": [
            {
                "expr": asked(title).replace("$namespace", ".*").replace("$account", account),
                "eval_time": "1m",
                "exp_samples": [{"labels": name, "value": n} for name, n in samples.items()],
            }
            for title, account, samples in answers
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    done = subprocess.run([promtool(), "test", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


class Prometheus:
    """A Prometheus of our own on 127.0.0.1, which scrapes replicas each second."""

    def __init__(self, directory: Path, targets: Mapping[str, str]) -> None:
        self._address = f"127.0.0.1:{free_port()}"
        self._process = Process("prometheus", directory / "prometheus.log")
        self._directory = directory
        config = yaml.safe_load((ROOT / "examples/monitoring/scrape_config.yaml").read_text())
        (scrape,) = config["scrape_configs"]
        assert scrape["honor_labels"] is True
        # As in the example, but for where the pods are found: there is no kubelet here.
        del scrape["kubernetes_sd_configs"], scrape["relabel_configs"]
        scrape["scrape_interval"] = "1s"
        scrape["static_configs"] = [
            {"targets": [address], "labels": {"namespace": "operators", "pod": pod}}
            for pod, address in targets.items()
        ]
        config |= {"global": {"evaluation_interval": "1s"}, "rule_files": [str(RULES)]}
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> "Prometheus":
        self._process.launch(
            [
                program("prometheus"),
                f"--config.file={self._directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._directory / 'data'}",
                f"--web.listen-address={self._address}",
            ],
            os.environ,
            self._directory,
        )
        self._process.wait_until(lambda: self._get("/-/ready"), "Prometheus is not ready", 60)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop(30)

    def ask(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series, as of now."""
        answer = self._api("query", query=expression)
        return [(each["metric"], float(each["value"][1])) for each in answer["result"]]

    def history(self, expression: str, since: float) -> list[float]:
        """Return the values of one series since then, one for each second that has one."""
        answer = self._api(
            "query_range", query=expression, start=str(since), end=str(time.time()), step="1"
        )
        return [float(value) for each in answer["result"] for _, value in each["values"]]

    def scraped(self, metric: str) -> list[tuple[float, dict[str, str], float]]:
        """Return the samples of the last ten minutes by their time, with labels and value."""
        answer = self._api("query", query=f"{metric}[10m]")
        samples = [
            (time_, each["metric"], float(value))
            for each in answer["result"]
            for time_, value in each["values"]
        ]
        return sorted(samples, key=lambda sample: sample[0])

    def told_of_itself(self, metric: str) -> float:
        """Return the sum of a metric of its own."""
        text = (self._get("/metrics") or b"").decode()
        return sum(float(value) for value in re.findall(rf"^{metric}(?:{{.*}})? (.+)$", text, re.M))

    def _api(self, path: str, **query: str) -> Any:
        body = self._get(f"/api/v1/{path}?{urlencode(query)}")
        assert body, f"Prometheus does not answer {query}"
        answer = json.loads(body)
        assert answer["status"] == "success", answer
        return answer["data"]

    def _get(self, path: str) -> bytes | None:
        try:
            with urllib.request.urlopen(f"http://{self._address}{path}", timeout=10) as answer:
                return answer.read()
        except OSError:
            return None


def program(name: str) -> str:
    """Return where Prometheus is; skip without, or fail where everything has to be there."""
    if found := shutil.which(name):
        return found
    sentence = f"{name} is not there: apt-get install --no-install-recommends prometheus"
    if os.environ.get("CI") == "true":
        pytest.fail(sentence)
    pytest.skip(sentence)


@dataclass
class Fleet:
    """The fleet dashboard's questions to Prometheus, and what the API server says of the same."""

    prometheus: Prometheus
    api: Api

    def ask(self, title: str, ref: str = "A", account: str = ".*") -> list[tuple[JSON, float]]:
        """Return what a panel shows, with the namespace chosen."""
        return self.prometheus.ask(self.expression(title, ref, account))

    def expression(self, title: str, ref: str = "A", account: str = ".*") -> str:
        """Return what a panel asks for, with the namespace chosen."""
        return (
            asked(title, ref).replace("$namespace", self.api.namespace).replace("$account", account)
        )

    def number(self, title: str, ref: str = "A") -> float | None:
        """Return the one value of a panel; None while there is none."""
        found = self.ask(title, ref)
        return found[0][1] if len(found) == 1 else None

    def by(self, title: str, *labels: str, **more: str) -> dict[tuple[str, ...], float]:
        """Return a panel's values by these labels."""
        return {
            tuple(found[label] for label in labels): value
            for found, value in self.ask(title, **more)
        }

    def shown(self) -> JSON:
        """Return what the dashboard shows."""
        return {
            "declared on": self.number("Declared on"),
            "active": self.number("Active"),
            "on, not active": self.number("On, but not Active"),
            "unknown": self.number("Unknown"),
            "declared off": self.number("Declared off"),
            "still on": self.number("Off, but still on"),
            "on": self.by("Declared on, by state", "state"),
            "off": self.by("Declared off, by state", "state"),
            "each": self.by("By account and state", "account", "state", "active"),
            "second": self.by("By account and state", "state", "active", account="second"),
            "not ready": self.by("Not Ready", "name", "account", "state", "active", "todo"),
            "waiting": sum(
                self.number("Declared on and waiting, by what would help", ref) or 0
                for ref in "ABCDEF"
            ),
            "up": self.by("Accounts", "account"),
            "unmanaged": self.by("Accounts", "account", ref="D"),
            "failing": {key for key, n in self.by("Accounts", "account", ref="C").items() if n},
            "without series": self.number("Without series of their own"),
        }

    def listed(self) -> JSON:
        """Return what it should show, from the API server's lists."""
        objects, accounts = self.api.list("wazzupchannel"), self.api.list("wazzupaccount")
        on, off = (
            [each for each in objects if each["spec"]["active"] is is_on] for is_on in (True, False)
        )
        each = dict(Counter((_account(o), _state(o), _active(o)) for o in objects))
        passing = {s for s, row in TABLE.items() if row.carries in (Carries.YES, Carries.MAYBE)}
        is_down = {_name(each): _ready(each) == "False" for each in accounts}
        return {
            "declared on": len(on),
            "active": sum(_state(o) == "Active" for o in on),
            "on, not active": sum(_state(o) not in ("Active", "Unknown") for o in on),
            "unknown": sum(_state(o) == "Unknown" for o in objects),
            "declared off": len(off),
            "still on": sum(_state(o) in passing for o in off),
            "on": dict(Counter((_state(o),) for o in on)),
            "off": dict(Counter((_state(o),) for o in off)),
            "each": each,
            "second": {key[1:]: n for key, n in each.items() if key[0] == "second"},
            "not ready": {
                (_name(o), _account(o), _state(o), _active(o), f"{_active(o)} {_state(o)}"): (
                    datetime.fromisoformat(o["status"]["stateSince"]).timestamp() * 1000
                )
                for o in objects
                if _ready(o) == "False"
            },
            "waiting": sum(TABLE[State(_state(o))].remedy is not Remedy.NOTHING for o in on),
            "up": {
                (_name(a),): float(_ready(a) == "True")
                for a in accounts
                if _ready(a) in ("True", "False")
            },
            "unmanaged": {(_name(a),): len(a["status"].get("unmanaged", [])) for a in accounts},
            "failing": {(name,) for name, down in is_down.items() if down},
            "without series": 0,
        }

    def agree(self, what: str) -> None:
        """Wait until the API server is at rest and the dashboard shows the same."""

        def same() -> bool:
            listed = self.listed()
            self.shows = self.shown()
            self.says = self.listed()
            return listed == self.says == self.shows

        try:
            eventually(same, what, 30)
        except AssertionError as error:
            differs = [key for key in self.says if self.says[key] != self.shows[key]]
            told = [f"{key}: {self.shows[key]}, and not {self.says[key]}" for key in differs]
            raise AssertionError("\n".join([str(error), *told])) from error


def _name(body: JSON) -> str:
    return str(body["metadata"]["name"])


def _account(body: JSON) -> str:
    return str(body["spec"]["accountRef"]["name"])


def _state(body: JSON) -> str:
    return str(body["status"].get("state") or "Unknown")


def _active(body: JSON) -> str:
    return str(body["spec"]["active"]).lower()


def _ready(body: JSON) -> str | None:
    found = [c["status"] for c in body["status"].get("conditions", []) if c["type"] == "Ready"]
    return found[0] if found else None


STATES = [spelling for row in TABLE.values() for spelling in row.upstream] + ["somethingNew"]
"""Every state that Wazzup may show."""


@pytest.mark.timeout(400)
def test_the_fleet_dashboard_answers_what_the_api_server_says(
    world: World,
    tmp_path: Path,
) -> None:
    """Through all states, an outage, a deletion, a change of leader and a restart.

    And every panel of both dashboards has something to show.
    """
    program("prometheus")
    replicas = [replica(world, number) for number in range(2)]
    other = f"{world.account}-second"
    world.simulator.add_account([f"key-{other}"], id=other)
    world.account_with_key()
    world.api.create(secret(f"key-{other}", "second"))
    world.api.create(account("second", "second"))
    added = [_declared(world, number) for number in range(len(STATES))]
    world.declare("never-added", "+79865780099")
    world.declare("twice", "+79865780000")
    world.declare("of-second", "+79865780098", accountRef={"name": "second"})
    world.add("79865780097", state="active")  # nobody declares this one
    replicas[0].start()
    replicas[0].wait_ready()
    eventually(lambda: replicas[0].count("leader_election_master_status") == 1, "it leads")
    replicas[1].start()
    replicas[1].wait_ready()
    webhook = Webhook(of_chart(world.plane), tmp_path / "webhook", Authority())
    world.controllers.append(webhook)
    webhook.start()
    _told_by_webhook(webhook, world.api.namespace)
    began = time.time()
    targets = {
        **{each.name: each.metrics_address for each in replicas},
        "webhook": webhook.metrics_address,
    }
    with Prometheus(tmp_path, targets) as prometheus:
        fleet = Fleet(prometheus, world.api)
        fleet.agree("at first")
        assert {state for _, state, _ in fleet.shows["each"]} == {str(state) for state in State}
        _stir(world, fleet, added, replicas)
        total = " + ".join(fleet.expression(f"Declared {each}") for each in ("on", "off"))
        sums = prometheus.history(total, began)
        assert len(sums) > 60, "seconds of which there is an answer"
        assert set(sums) <= set(range(len(STATES) + 2, len(STATES) + 4)), "objects at any time"
        scraped = prometheus.scraped("leader_election_master_status")
        leaders = [labels["pod"] for _, labels, value in scraped if value]
        # No scrape of a former leader came after the first of the new one.
        assert [pod for pod, _ in itertools.groupby(leaders)] == ["replica-0", "replica-1"]
        assert prometheus.told_of_itself("prometheus_rule_group_rules") == len(ALERTS)
        assert prometheus.told_of_itself("prometheus_rule_evaluations_total") > 60 * len(ALERTS)
        assert prometheus.told_of_itself("prometheus_rule_evaluation_failures_total") == 0
        shown = {
            title
            for name in DASHBOARDS
            for title, _, expression in queries(name)
            if prometheus.ask(expression)
        }
        every = {panel["title"] for name in DASHBOARDS for panel in panels(name)}
        assert every - shown == set()


def _stir(
    world: World,
    fleet: Fleet,
    added: list[Any],
    replicas: list[Replica],
) -> None:
    """Change one thing after the other; the dashboard has to follow each of them."""
    for shift in range(1, 14, 2):
        for number, each in enumerate(added):
            world.simulator.patch_channel(each, state=STATES[(number + shift) % len(STATES)])
        _wait_listed(world)
        fleet.agree(f"the states shifted by {shift}")
    world.simulator.run_out_of_money(world.account)
    _wait_listed(world)
    fleet.agree("out of money")
    world.api.patch("wazzupchannel", "channel-4", {"spec": {"active": False}})
    world.api.delete("wazzupchannel", "twice")
    fleet.agree("one declared off, one deleted")
    world.simulator.add_fault("status", account=f"{world.account}-second", code=503)
    world.wait_reason("second", "AccountUnreachable", "wazzupaccount")
    fleet.agree("an outage of the second account")
    replicas[0].stop()
    eventually(lambda: replicas[1].count("leader_election_master_status") == 1, "the other leads")
    world.simulator.pay(world.account)
    _wait_listed(world)
    fleet.agree("another leader")
    replicas[1].kill()
    replicas[1].start()
    world.simulator.clear_faults()
    world.wait_reason("second", "UpToDate", "wazzupaccount", seconds=60)
    fleet.agree("a crash and a restart")


def _declared(world: World, number: int) -> Any:
    phone = f"798657800{number:02d}"
    world.declare(f"channel-{number}", f"+{phone}", active=number % 5 != 3)
    return world.add(phone, state=STATES[number])


def _wait_listed(world: World) -> None:
    """Wait until Wazzup was asked anew."""
    before = world.requests()
    eventually(lambda: world.requests() >= before + 2, "Wazzup is asked", 20)
