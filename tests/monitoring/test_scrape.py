"""Scrapes compared with the API server: always consistent, and without personal data."""

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
    def counts(self) -> dict[Names, float]:
        return self.by("wazzup_channels", "account", "state", "active")

    @property
    def states(self) -> dict[Names, float]:
        return self.by("wazzup_channel_state", *STATE_LABELS)

    @property
    def total(self) -> float:
        return sum(self.counts.values())

    def assert_consistent(self) -> None:
        """Check the scrape for contradictions."""
        assert self.total == len(self.states) + self.number("wazzup_channels_without_series")
        assert set(self.states.values()) <= {1.0}
        shown = Counter((name, state, active) for _, name, _, active, state, *_ in self.states)
        for key, count in shown.items():
            assert count <= self.counts[key], key
        per_account = Counter(key[0] for key in self.counts)
        assert set(per_account.values()) <= {2 * len(BY_NAME)}, "an unknown state"
        names = {name for name, *_ in self.states}
        since = self.by("wazzup_channel_state_since_timestamp_seconds", "name")
        assert {name for (name,) in since} <= names

    def facts(self) -> JSON:
        """Return what must equal `stored_facts`."""
        return {
            "counts": {key: count for key, count in self.counts.items() if count},
            "states": set(self.states),
            "since": self.by("wazzup_channel_state_since_timestamp_seconds", "name"),
            "up": self.by("wazzup_account_up", "account"),
            "unmanaged": self.by("wazzup_account_unmanaged_channels", "account"),
        }


def stored_facts(api: Api) -> JSON:
    """Return the expected `Scrape.facts`, from the API server."""
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
    """Scrapes a controller continuously in a thread and checks each scrape."""

    controller: Controller
    scrapes: list[Scrape] = field(default_factory=list)
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
                scrape = Scrape.of(text)
                if scrape.samples.get("wazzup_channels_without_series"):  # it leads
                    scrape.assert_consistent()
                    self.scrapes.append(scrape)
                    self.texts.append(text)
            except AssertionError as error:
                self._failures.append(error)


def agree(world: World, controller: Controller, what: str, seconds: float = 20) -> Scrape:
    """Wait until a scrape equals the API server's facts before and after it; return another."""
    seen: list[JSON] = []

    def same() -> bool:
        before = stored_facts(world.api)
        scrape = Scrape.of(controller.metrics())
        if "wazzup_channels_without_series" not in scrape.samples:
            return False
        seen[:] = [scrape.facts(), stored_facts(world.api)]
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
    return Scrape.of(text)


class TestFacts:
    """Scrapes equal what the API server has."""

    def test_through_restart_deletion_and_a_new_account(self, world: World) -> None:
        world.account_with_key()
        for number, state in enumerate(("active", "qridle", "disabled", "phoneUnavailable")):
            world.declare(f"channel-{number}", f"+7986578445{number}", active=number != 2)
            world.add(f"7986578445{number}", state=state)
        world.add("79865784459", state="active")  # unmanaged
        controller = world.controller()
        with Scraper(controller).running() as scraper:
            world.wait_reason("channel-3", "NoConnectionWithPhone")
            assert agree(world, controller, "at first").total == 4

            world.api.delete("wazzupchannel", "channel-1")
            scrape = agree(world, controller, "one is deleted")
            assert scrape.total == 3
            assert "channel-1" not in {name for name, *_ in scrape.states}

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
        assert len(scraper.scrapes) > 10
        assert {scrape.total for scrape in scraper.scrapes} <= {0.0, 1.0, 2.0, 3.0, 4.0}
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
        assert {scrape.total for scrape in scraper.scrapes} == {1.0}

    def test_a_pause(self, world: World) -> None:
        """A paused account has no wazzup_account_up."""
        world.account_with_key()
        world.declare("channel", PHONE)
        world.add(PHONE, state="active")
        controller = world.controller()
        world.wait_reason("channel", "Active")
        paused = {"metadata": {"annotations": {"wazzup.dev/paused": "true"}}}
        world.api.patch("wazzupaccount", "default", paused)
        world.wait_reason("channel", "Paused")
        scrape = agree(world, controller, "paused")
        assert scrape.total == 1
        assert "wazzup_account_up" not in scrape.samples
        assert scrape.by("wazzup_channel_state", "ready", "reason", "by") == {
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
        scrape = _all_written(world, controller)
        scrape.assert_consistent()
        assert len(scrape.states) == OBJECTS - 1
        assert scrape.number("wazzup_channels_without_series") == 1
        assert scrape.counts["default", "Active", "true"] == OBJECTS - len(waiting)
        ready = scrape.by("wazzup_channel_state", "name", "ready")
        assert {name for name, value in ready if value == "false"} == set(waiting.values())

        world.api.delete("wazzupchannel", "channel-0000000")
        scrape = agree(world, controller, "all objects have series", 30)
        assert scrape.total == len(scrape.states) == OBJECTS - 1
        assert scrape.number("wazzup_channels_without_series") == 0
        controller.stop()

        controller = world.controller("--channel-series-limit=2")
        scrape = _leading(controller)
        assert {name for name, *_ in scrape.states} < set(waiting.values())
        assert len(scrape.states) == 2
        assert scrape.number("wazzup_channels_without_series") == OBJECTS - 3
        controller.stop()

        controller = world.controller("--channel-series-limit=0")
        scrape = _leading(controller)
        assert scrape.total == OBJECTS - 1
        assert "wazzup_channel_state" not in scrape.samples
        assert scrape.number("wazzup_channels_without_series") == OBJECTS - 1


def _account_under_another_name(world: World, controller: Controller) -> None:
    world.api.delete("wazzupaccount", "default")
    world.wait_reason("new", "AccountNotFound")
    scrape = agree(world, controller, "the account is deleted")
    for metric in ("up", "last_sync_timestamp_seconds", "unmanaged_channels"):
        assert f"wazzup_account_{metric}" not in scrape.samples
    assert scrape.counts["default", "Unknown", "true"] == 2  # its objects still exist

    world.api.create(account("renamed"))
    world.wait_reason("renamed", "UpToDate", "wazzupaccount")
    scrape = agree(world, controller, "it is created under another name")
    assert sum(n for (name, *_), n in scrape.counts.items() if name == "renamed") == 0
    assert scrape.by("wazzup_account_up", "account") == {("renamed",): 1}

    for name in ("channel-0", "channel-2", "new"):
        world.api.delete("wazzupchannel", name)
    for name, phone in (("channel-0", "+79865784450"), ("new", "+79865784458")):
        world.declare(name, phone, accountRef={"name": "renamed"})
    world.wait_reason("channel-0", "Active")
    world.wait_reason("new", "NotAdded")
    scrape = agree(world, controller, "its objects, too")
    assert {name for name, *_ in scrape.counts} == {"renamed"}, "the old account is exported"


def _all_written(world: World, controller: Controller) -> Scrape:
    def look() -> Scrape | None:
        scrape = Scrape.of(controller.metrics())
        written = scrape.samples.get("wazzup_channel_first_status_seconds_count", [({}, 0)])[0][1]
        return scrape if written == OBJECTS and scrape.total == OBJECTS else None

    scrape = eventually(look, "every object has its first status", 300)
    assert scrape.counts["default", "Unknown", "true"] == 0
    return scrape


def _leading(controller: Controller) -> Scrape:
    def look() -> Scrape | None:
        scrape = Scrape.of(controller.metrics())
        return scrape if "wazzup_channels_without_series" in scrape.samples else None

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
        agree(world, second, "after the change of leader")

    def test_a_scrape_sends_no_request(self, world: World) -> None:
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
            scrape = Scrape.of(controller.metrics())
        assert scrape.number("leader_election_master_status") == 1
        assert controller.count("rest_client_requests_total") == before
        assert world.requests() == wazzup

    def test_a_change_is_timed_from_its_first_listing(
        self,
        world: World,
    ) -> None:
        """Not from the latest listing, while the API server refuses the status."""
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
        eventually(lambda: not _may_patch(world, user), "the permission is revoked")
        world.simulator.patch_channel(listed, state="qridle")
        eventually(
            lambda: controller.count("wazzup_status_writes_total", result="refused"), "refused"
        )
        first = world.requests()
        eventually(lambda: world.requests() >= first + 3, "three more listings", 40)
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
    """Return whether no request was sent for a second."""
    before = controller.count("rest_client_requests_total")
    return not threading.Event().wait(1) and before == controller.count(
        "rest_client_requests_total"
    )


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
        agree(world, controller, "all are written")
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
        agree(world, controller, "at rest")
        request = urllib.request.Request(
            f"http://{controller.metrics_address}/metrics",
            headers={"Accept": "application/openmetrics-text;version=1.0.0"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            families = list(openmetrics_families(answer.read().decode()))
        names = {sample.name for family in families for sample in family.samples}
        assert names == set(Scrape.of(controller.metrics()).samples)


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
