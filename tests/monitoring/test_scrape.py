"""What a scrape tells, held against what the API server has: true at any time, and of nobody's."""

import subprocess
import threading
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from dev.controlplane.binaries import promtool
from tests.expected_states import BY_NAME
from tests.integration.harness.api import JSON, Api, account, channel, eventually
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
OBJECTS = 2001
PHONE = "+79865784457"

STATE_LABELS = ("name", "account", "transport", "active", "state", "ready", "reason", "by")

Names = tuple[str, ...]


@dataclass
class Told:
    """One scrape, by metric: the values of the labels that are asked for, and the value."""

    samples: dict[str, list[tuple[dict[str, str], float]]]

    @classmethod
    def of(cls, text: str) -> "Told":
        samples = defaultdict(list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples[sample.name].append((sample.labels, sample.value))
        return cls(dict(samples))

    def by(self, metric: str, *labels: str) -> dict[Names, float]:
        """Return the values of a metric by these labels; no two may have the same."""
        samples = self.samples.get(metric, [])
        found = [(tuple(each[label] for label in labels), value) for each, value in samples]
        assert len(dict(found)) == len(found), f"{metric} twice of one object"
        return dict(found)

    def number(self, metric: str) -> float:
        """Return the one value of a metric."""
        ((_, value),) = self.samples[metric]
        return value

    @property
    def counts(self) -> dict[Names, float]:
        return self.by("wazzup_channels", "account", "state", "active")

    @property
    def states(self) -> dict[Names, float]:
        return self.by("wazzup_channel_state", *STATE_LABELS)

    @property
    def total(self) -> float:
        return sum(self.counts.values())

    def hold_together(self) -> None:
        """Fail where this scrape contradicts itself."""
        assert self.total == len(self.states) + self.number("wazzup_channels_without_series")
        assert set(self.states.values()) <= {1.0}
        shown = Counter((name, state, active) for _, name, _, active, state, *_ in self.states)
        for key, count in shown.items():
            assert count <= self.counts[key], key
        per_account = Counter(key[0] for key in self.counts)
        assert set(per_account.values()) <= {2 * len(BY_NAME)}, "a state is not told of"
        names = {name for name, *_ in self.states}
        since = self.by("wazzup_channel_state_since_timestamp_seconds", "name")
        assert {name for (name,) in since} <= names

    def facts(self) -> JSON:
        """Return what has to be as the API server has it."""
        return {
            "counts": {key: count for key, count in self.counts.items() if count},
            "states": set(self.states),
            "since": self.by("wazzup_channel_state_since_timestamp_seconds", "name"),
            "up": self.by("wazzup_account_up", "account"),
            "unmanaged": self.by("wazzup_account_unmanaged_channels", "account"),
        }


def stored_facts(api: Api) -> JSON:
    """Return what `Told.facts` has to be."""
    objects, accounts = api.list("wazzupchannel"), api.list("wazzupaccount")
    states = {
        (
            each["metadata"]["name"],
            each["spec"]["accountRef"]["name"],
            each["spec"]["transport"],
            str(each["spec"]["active"]).lower(),
            each["status"].get("state", "Unknown"),
            *_ready(each),
            each["status"].get("action", {}).get("by", ""),
        )
        for each in objects
    }
    return {
        "counts": dict(Counter((name, state, active) for _, name, _, active, state, *_ in states)),
        "states": states,
        "since": {
            (each["metadata"]["name"],): datetime.fromisoformat(since).timestamp()
            for each in objects
            if (since := each["status"].get("stateSince"))
        },
        "up": {
            (each["metadata"]["name"],): float(up == "true")
            for each in accounts
            if (up := _ready(each)[0]) != "unknown"
        },
        "unmanaged": {
            (each["metadata"]["name"],): len(each["status"].get("unmanaged", []))
            for each in accounts
        },
    }


def _ready(body: JSON) -> Names:
    """Return status and reason of Ready, as the metric spells them."""
    for condition in body["status"].get("conditions", []):
        if condition["type"] == "Ready":
            return condition["status"].lower(), condition["reason"]
    return "unknown", ""


@dataclass
class Scraper:
    """Scrapes a controller as fast as it can, in a thread, and looks for contradictions."""

    controller: Controller
    told: list[Told] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    _failures: list[AssertionError] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator["Scraper"]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()
        assert self._failures == []

    def _run(self) -> None:
        while not self._over.wait(0.02):
            try:
                text = self.controller.metrics()
                told = Told.of(text)
                if told.samples.get("wazzup_channels_without_series"):  # it leads
                    told.hold_together()
                    self.told.append(told)
                    self.texts.append(text)
            except AssertionError as error:
                self._failures.append(error)


def agree(world: World, controller: Controller, what: str, seconds: float = 20) -> Told:
    """Wait until a scrape tells what the API server has, and see that it stays so."""
    seen: list[JSON] = []

    def same() -> bool:
        before = stored_facts(world.api)
        told = Told.of(controller.metrics())
        if "wazzup_channels_without_series" not in told.samples:
            return False
        seen[:] = [told.facts(), stored_facts(world.api)]
        return before == seen[0] == seen[1]

    try:
        eventually(same, what, seconds)
    except AssertionError as error:
        differs = [
            (key, seen[0][key], seen[1][key]) for key in seen[0] if seen[0][key] != seen[1][key]
        ]
        raise AssertionError(f"{error}\n{differs}") from error
    text = controller.metrics()
    world.scraped.append(text)
    return Told.of(text)


class TestTruth:
    """Whatever happens, the numbers are those of the API server."""

    def test_through_restart_deletion_and_a_new_account(self, world: World) -> None:
        world.account_with_key()
        for number, state in enumerate(("active", "qridle", "disabled", "phoneUnavailable")):
            world.declare(f"channel-{number}", f"+7986578445{number}", active=number != 2)
            world.add(f"7986578445{number}", state=state)
        world.add("79865784459", state="active")  # nobody declares this one
        controller = world.controller()
        with Scraper(controller).running() as scraper:
            world.wait_reason("channel-3", "NoConnectionWithPhone")
            assert agree(world, controller, "at first").total == 4

            world.api.delete("wazzupchannel", "channel-1")
            told = agree(world, controller, "one is deleted")
            assert told.total == 3
            assert "channel-1" not in {name for name, *_ in told.states}

            controller.stop()
            world.api.delete("wazzupchannel", "channel-3")
            world.declare("new", "+79865784458")
            controller.start()
            world.wait_reason("new", "NotAdded")
            assert agree(world, controller, "restarted").total == 3

            _account_under_another_name(world, controller)
            controller.kill()
            controller.start()
            agree(world, controller, "after a crash")
        assert len(scraper.told) > 10
        assert {told.total for told in scraper.told} <= {0.0, 1.0, 2.0, 3.0, 4.0}
        world.scraped += scraper.texts

    def test_through_an_outage(self, world: World) -> None:
        world.account_with_key()
        world.declare("channel", PHONE)
        world.add(PHONE, state="active")
        controller = world.controller("--stale-after=1s")
        world.wait_reason("channel", "Active")
        with Scraper(controller).running() as scraper:
            before = agree(world, controller, "before")
            assert before.by("wazzup_account_consecutive_failures", "account") == {("default",): 0}
            world.simulator.add_fault("status", account=world.account, code=503)
            world.wait_reason("channel", "AccountUnreachable", seconds=40)
            during = agree(world, controller, "during")
            synced = "wazzup_account_last_sync_timestamp_seconds"
            assert during.by("wazzup_account_up", "account") == {("default",): 0}
            assert during.by("wazzup_account_consecutive_failures", "account")["default",] >= 2
            assert during.by("wazzup_channel_state", "ready") == {("unknown",): 1}
            assert during.number(synced) >= before.number(synced)
            assert agree(world, controller, "still").number(synced) == during.number(synced)
            world.simulator.clear_faults()
            world.wait_reason("channel", "Active", seconds=60)
            after = agree(world, controller, "after")
            assert after.by("wazzup_account_consecutive_failures", "account") == {("default",): 0}
            assert after.number(synced) > during.number(synced)
        assert {told.total for told in scraper.told} == {1.0}

    def test_a_pause(self, world: World) -> None:
        """A paused object differs from an unknown one; a paused account says nothing of Up."""
        world.account_with_key()
        world.declare("channel", PHONE)
        world.add(PHONE, state="active")
        controller = world.controller()
        world.wait_reason("channel", "Active")
        paused = {"metadata": {"annotations": {"wazzup.dev/paused": "true"}}}
        world.api.patch("wazzupaccount", "default", paused)
        world.wait_reason("channel", "Paused")
        told = agree(world, controller, "paused")
        assert told.total == 1
        assert "wazzup_account_up" not in told.samples
        assert told.by("wazzup_channel_state", "ready", "reason", "by") == {
            ("unknown", "Paused", ""): 1
        }

    @pytest.mark.timeout(900)
    def test_more_objects_than_have_series(self, world: World) -> None:
        world.account_with_key()
        numbers = [f"7900{index:07d}" for index in range(OBJECTS)]
        waiting = {numbers[index]: f"waiting-{index}" for index in range(3, OBJECTS, 500)}
        world.simulator.add_channels(
            [
                {"phone": each, "state": "qridle" if each in waiting else "active"}
                for each in numbers
            ],
            account=world.account,
        )

        def declare(number: str) -> None:
            world.api.create(channel(waiting.get(number, f"channel-{number[4:]}"), f"+{number}"))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(declare, numbers))
        controller = world.controller()
        told = _all_written(world, controller)
        told.hold_together()
        assert len(told.states) == OBJECTS - 1
        assert told.number("wazzup_channels_without_series") == 1
        assert told.counts["default", "Active", "true"] == OBJECTS - len(waiting)
        ready = told.by("wazzup_channel_state", "name", "ready")
        assert {name for name, value in ready if value == "false"} == set(waiting.values())

        world.api.delete("wazzupchannel", "channel-0000000")
        told = agree(world, controller, "one less: all have their own", 30)
        assert told.total == len(told.states) == OBJECTS - 1
        assert told.number("wazzup_channels_without_series") == 0
        controller.stop()

        controller = world.controller("--channel-series-limit=2")
        told = _leading(controller)
        assert {name for name, *_ in told.states} < set(waiting.values())
        assert len(told.states) == 2
        assert told.number("wazzup_channels_without_series") == OBJECTS - 3
        controller.stop()

        controller = world.controller("--channel-series-limit=0")
        told = _leading(controller)
        assert told.total == OBJECTS - 1
        assert "wazzup_channel_state" not in told.samples
        assert told.number("wazzup_channels_without_series") == OBJECTS - 1


def _account_under_another_name(world: World, controller: Controller) -> None:
    world.api.delete("wazzupaccount", "default")
    world.wait_reason("new", "AccountNotFound")
    told = agree(world, controller, "the account is deleted")
    for metric in ("up", "last_sync_timestamp_seconds", "unmanaged_channels"):
        assert f"wazzup_account_{metric}" not in told.samples
    assert told.counts["default", "Unknown", "true"] == 2  # its objects are still there

    world.api.create(account("renamed"))
    world.wait_reason("renamed", "UpToDate", "wazzupaccount")
    told = agree(world, controller, "it is made again under another name")
    assert sum(n for (name, *_), n in told.counts.items() if name == "renamed") == 0
    assert told.by("wazzup_account_up", "account") == {("renamed",): 1}

    for name in ("channel-0", "channel-2", "new"):
        world.api.delete("wazzupchannel", name)
    for name, phone in (("channel-0", "+79865784450"), ("new", "+79865784458")):
        world.declare(name, phone, accountRef={"name": "renamed"})
    world.wait_reason("channel-0", "Active")
    world.wait_reason("new", "NotAdded")
    told = agree(world, controller, "its objects as well")
    assert {name for name, *_ in told.counts} == {"renamed"}, "the former account is still told of"


def _all_written(world: World, controller: Controller) -> Told:
    def look() -> Told | None:
        told = Told.of(controller.metrics())
        written = told.samples.get("wazzup_channel_first_status_seconds_count", [({}, 0)])[0][1]
        return told if written == OBJECTS and told.total == OBJECTS else None

    told = eventually(look, "every object has its first status", 300)
    assert told.counts["default", "Unknown", "true"] == 0
    return told


def _leading(controller: Controller) -> Told:
    def look() -> Told | None:
        told = Told.of(controller.metrics())
        return told if "wazzup_channels_without_series" in told.samples else None

    return eventually(look, "it leads", 60)


class TestReplicas:
    """Only the leader tells of channels."""

    def test_a_standby_tells_nothing_of_channels(self, world: World) -> None:
        world.account_with_key()
        world.declare("channel", PHONE)
        world.add(PHONE, state="active")
        first, second = (replica(world, number) for number in range(2))
        first.start()
        _leading(first)
        second.start()
        second.wait_ready()
        world.wait_reason("channel", "Active")
        told = Told.of(second.metrics())
        ours = {each for each in told.samples if each.startswith(("wazzup_channel", "wazzup_acc"))}
        assert {each for each in ours if "_seconds_" not in each} == set()
        assert told.number("leader_election_master_status") == 0
        followed = told.by("wazzup_operator_watch_silence_seconds", "resource", "namespace")
        assert {name for name, _ in followed} == {"wazzupaccounts", "wazzupchannels"}
        assert Told.of(first.metrics()).number("leader_election_master_status") == 1

        first.stop()
        told = eventually(lambda: _leading(second), "the other leads")
        assert told.number("leader_election_master_status") == 1
        agree(world, second, "after the change of leader")

    def test_a_scrape_asks_nobody(self, world: World) -> None:
        world.account_with_key()
        world.declare("channel", PHONE)
        world.add(PHONE, state="active")
        controller = world.controller("--no-leader-elect")
        world.wait_reason("channel", "Active")
        paused = {"metadata": {"annotations": {"wazzup.dev/paused": "true"}}}
        world.api.patch("wazzupaccount", "default", paused)
        world.wait_reason("channel", "Paused")
        agree(world, controller, "at rest")
        eventually(lambda: _at_rest(controller), "no request is under way")
        before = controller.count("rest_client_requests_total")
        wazzup = world.requests()
        for _ in range(30):
            told = Told.of(controller.metrics())
        assert told.number("leader_election_master_status") == 1
        assert controller.count("rest_client_requests_total") == before
        assert world.requests() == wazzup

    def test_how_long_a_change_waits_counts_from_when_it_was_first_seen(
        self,
        world: World,
    ) -> None:
        """Not from the newest listing, while the API server refuses the status."""
        world.account_with_key()
        world.declare("channel", PHONE)
        listed = world.add(PHONE, state="active")
        user = f"reader-{world.api.namespace}"
        _let(world, user, "reader", ["wazzupchannels", "wazzupaccounts"], ["list", "watch"])
        _let(world, user, "keys", ["secrets"], ["get"], group="")
        _let(world, user, "writer", _STATUSES, ["patch"])
        controller = world.controller(
            "--no-leader-elect", kubeconfig=world.plane.kubeconfig_for(user)
        )
        world.wait_reason("channel", "Active")
        rbac = f"apis/rbac.authorization.k8s.io/v1/namespaces/{world.api.namespace}/rolebindings"
        world.api.request("DELETE", f"{rbac}/writer")
        eventually(lambda: not _may_patch(world, user), "the right is gone")
        world.simulator.patch_channel(listed, state="qridle")
        eventually(lambda: controller.count("wazzup_status_writes_total", result="refused"), "seen")
        first = world.requests()
        eventually(lambda: world.requests() >= first + 3, "three listings more", 40)
        _let(world, user, "writer-again", _STATUSES, ["patch"])
        world.wait_reason("channel", "ScanQRCode", seconds=90)
        waited = "wazzup_channel_change_to_status_seconds"
        eventually(lambda: controller.count(f"{waited}_count") == 1, "it is measured")
        assert controller.count(f"{waited}_sum") > 10, "three pollIntervals of 5 s are not one"


_STATUSES = ["wazzupchannels/status", "wazzupaccounts/status"]


def _let(
    world: World,
    user: str,
    name: str,
    resources: list[str],
    verbs: list[str],
    group: str = "wazzup.dev",
) -> None:
    rbac = "rbac.authorization.k8s.io"
    path = f"apis/{rbac}/v1/namespaces/{world.api.namespace}"
    rules = [{"apiGroups": [group], "resources": resources, "verbs": verbs}]
    world.api.request("POST", f"{path}/roles", {"metadata": {"name": name}, "rules": rules})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}],
    }
    world.api.request("POST", f"{path}/rolebindings", binding)


def _may_patch(world: World, user: str) -> bool:
    body = {
        "spec": {
            "user": user,
            "resourceAttributes": {
                "group": "wazzup.dev",
                "resource": "wazzupchannels",
                "subresource": "status",
                "verb": "patch",
                "namespace": world.api.namespace,
            },
        }
    }
    path = "apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(world.api.request("POST", path, body)["status"]["allowed"])


def _at_rest(controller: Controller) -> bool:
    """Return whether nothing was asked for a second."""
    before = controller.count("rest_client_requests_total")
    return not threading.Event().wait(1) and before == controller.count(
        "rest_client_requests_total"
    )


class TestText:
    """What a scrape is, as a text."""

    def test_promtool_has_no_complaint_and_nothing_is_told_of_anybody(
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
        agree(world, controller, "all are looked at")
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
                assert each not in text, f"{each} is told"
        declared = {label for metric in DECLARED for label in metric.labels} | {"le"}
        for text in texts:
            for samples in Told.of(text).samples.values():
                assert all(labels.keys() <= declared for labels, _ in samples)

    def test_openmetrics(self, world: World) -> None:
        """Both formats tell the same."""
        world.account_with_key()
        world.declare("channel", PHONE)
        world.add(PHONE, state="active")
        controller = world.controller()
        world.wait_reason("channel", "Active")
        agree(world, controller, "at rest")
        request = urllib.request.Request(
            f"http://{controller.metrics_address}/metrics",
            headers={"Accept": "application/openmetrics-text;version=1.0.0"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            families = list(openmetrics_families(answer.read().decode()))
        names = {sample.name for family in families for sample in family.samples}
        assert names == set(Told.of(controller.metrics()).samples)


class TestExamples:
    """examples/monitoring."""

    def test_the_monitor_honours_labels(self) -> None:
        body = yaml.safe_load((EXAMPLES / "servicemonitor.yaml").read_text())
        assert body["apiVersion"] == "monitoring.coreos.com/v1"
        assert body["kind"] == "ServiceMonitor"
        (endpoint,) = body["spec"]["endpoints"]
        assert endpoint["honorLabels"] is True
        assert (endpoint["port"], endpoint["path"]) == ("metrics", "/metrics")

    def test_the_plain_one_is_taken_by_promtool(self, tmp_path: Path) -> None:
        (config := tmp_path / "prometheus.yml").write_text(
            (EXAMPLES / "scrape_config.yaml").read_text()
        )
        done = subprocess.run(
            [promtool(), "check", "config", config], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        (scrape,) = yaml.safe_load(config.read_text())["scrape_configs"]
        assert scrape["honor_labels"] is True
