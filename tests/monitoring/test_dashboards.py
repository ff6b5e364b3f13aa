"""The dashboards' files, and their queries during a change of leader."""

import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from dev.controlplane.binaries import promtool
from dev.generate.metrics_page import process_metrics
from tests.monitoring.dashboards import DASHBOARDS, panels, query
from wazzup_operator.observability.metrics import DECLARED

ROOT = Path(__file__).parents[2]


class TestFiles:
    """The files."""

    def test_every_metric_is_documented(self) -> None:
        text = (ROOT / "docs" / "metrics.md").read_text()
        for metric in [*DECLARED, *process_metrics()]:
            (line,) = re.findall(rf"^\| `{metric.name}` .*$", text, re.MULTILINE)
            assert metric.meaning in line
            assert re.findall(r"`(\w+)`", line.split("|")[3]) == list(metric.labels)

    @pytest.mark.parametrize("name", DASHBOARDS)
    def test_dashboards_are_portable(self, name: str) -> None:
        body = json.loads(DASHBOARDS[name].read_text())
        assert body["schemaVersion"] == 41
        assert not body.keys() & {"id", "__inputs", "gnetId"}
        sources = {json.dumps(each["datasource"]) for each in panels(name)}
        sources |= {json.dumps(each["datasource"]) for p in panels(name) for each in p["targets"]}
        variables = {each["name"]: each for each in body["templating"]["list"]}
        sources |= {
            json.dumps(each["datasource"]) for each in variables.values() if "datasource" in each
        }
        assert sources == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}
        assert variables["datasource"]["type"] == "datasource"
        more = {"fleet": "account", "operator": "job"}[name]
        assert variables.keys() == {"datasource", "cluster", "namespace", more}

    def test_they_link_to_each_other(self) -> None:
        """By uids that stay the same, for the same cluster."""
        chosen = "?${datasource:queryparam}&${cluster:queryparam}"
        bodies = {name: json.loads(path.read_text()) for name, path in DASHBOARDS.items()}
        uids = {name: body["uid"] for name, body in bodies.items()}
        assert uids == {"fleet": "wazzup-fleet", "operator": "wazzup-operator"}
        for body in bodies.values():
            others = {f"/d/{uid}{chosen}" for uid in uids.values() if uid != body["uid"]}
            assert {link["url"] for link in body["links"]} == others

    @pytest.mark.parametrize("name", DASHBOARDS)
    def test_each_panel_has_a_description_and_a_unit(self, name: str) -> None:
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
    def test_panels_do_not_overlap(self, name: str) -> None:
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


def test_a_former_leader_is_not_added_to_the_new_one(tmp_path: Path) -> None:
    """Its last series still exist; the account has run out of money since."""
    series = []

    def add(pod: str, metric: str, value: str, **labels: str) -> None:
        labels = {"job": "operator", "instance": pod, "pod": pod, **labels}
        shown = ",".join(f'{label}="{text}"' for label, text in labels.items())
        series.append({"series": f"{metric}{{{shown}}}", "values": value})

    def count(pod: str, at: str, namespace: str, account: str, **states: int) -> None:
        where = {"namespace": namespace, "account": account, "active": "true"}
        for state, number in states.items():
            add(pod, "wazzup_channels", at.format(number), **where, state=state)

    def one(
        pod: str,
        at: str,
        namespace: str,
        name: str,
        state: str,
        since: int,
        ready: str = "false",
    ) -> None:
        where = {"namespace": namespace, "name": name}
        labels = {"account": "main", "active": "true", "transport": "whatsapp", "state": state}
        labels |= {"ready": ready, "reason": state, "by": "billing"}
        add(pod, "wazzup_channel_state", at.format(1), **where, **labels)
        metric = "wazzup_channel_state_since_timestamp_seconds"
        add(pod, metric, at.format(since), **where)

    before, now = "{} _", "_ {}"
    count("former", before, "a", "main", Active=14, NotPaidFor=1)
    count("new", now, "a", "main", Active=0, NotPaidFor=15)
    one("former", before, "a", "x", "Blocked", since=10)
    one("new", now, "a", "x", "NotPaidFor", since=20)
    add("former", "wazzup_account_up", "1 _", namespace="a", account="main")
    add("new", "wazzup_account_up", "_ 0", namespace="a", account="main")
    # A deleted account.
    count("former", before, "a", "gone", Active=3)
    # A namespace whose states are now unknown.
    count("former", before, "dark", "main", Blocked=1, Unknown=0)
    count("new", now, "dark", "main", Blocked=0, Unknown=1)
    one("former", before, "dark", "y", "Blocked", since=10)
    one("new", now, "dark", "y", "Unknown", since=20, ready="unknown")
    add("former", "wazzup_account_up", "1 _", namespace="dark", account="main")
    # Another operator's namespace, scraped earlier.
    count("another", before, "b", "main", Active=100)

    unpaid = 'by="billing",name="x",namespace="a",reason="NotPaidFor",state="NotPaidFor"'
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
            {
                f'{{account="main",active="true",ready="false",{unpaid},todo="NotPaidFor"'
                ',transport="whatsapp"}': 20_000
            },
        ),
        ("Accounts", ".*", {'{account="main",namespace="a"}': 0}),
    ]
    test = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {
                "expr": query(title, account=account),
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
