"""A control plane whose API server calls a webhook, and kubectl against it."""

import itertools
import json
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.controlplane.plane import ControlPlane
from tests.admission_cases import PHONE
from tests.integration.harness.api import JSON, Api, account
from tests.integration.harness.webhook import Authority, Configuration, Webhook, of_chart
from tests.integration.harness.world import World
from wazzup_simulator.client import Simulator

FAILED_OPEN = "failed-open.validating.webhook.admission.k8s.io/round_0_index_0"
_names = itertools.count()
Kubectl = subprocess.CompletedProcess[str]


@dataclass
class Site:
    """A control plane whose API server calls a webhook."""

    plane: ControlPlane
    directory: Path
    authority: Authority
    webhook: Webhook
    configuration: Configuration

    @classmethod
    @contextmanager
    def open(cls, plane: ControlPlane, directory: Path) -> Iterator["Site"]:
        api = Api(plane.kubeconfig)
        authority = Authority()
        webhook = Webhook(
            of_chart(plane),
            directory / "webhook",
            authority,
            "--min-poll-interval=30s",
            "--log-level=debug",
        )
        site = cls(plane, directory, authority, webhook, Configuration(api))
        webhook.start()
        try:
            webhook.wait_ready()
            site.point_to_webhook()
            yield site
            assert_clean_log(webhook)
        finally:
            site.configuration.remove()
            webhook.stop()

    def point_to_webhook(self) -> None:
        self.configuration.point(self.webhook.port, self.authority.certificate)
        self.configuration.wait_refusing()

    def world(self) -> World:
        """Return a new namespace."""
        name = f"admission-{next(_names)}-{time.monotonic_ns() % 10**6}"
        Api(self.plane.kubeconfig).request(
            "POST", "api/v1/namespaces", {"metadata": {"name": name}}
        )
        api = Api(self.plane.kubeconfig, name)
        return World(self.plane, Simulator(""), api, self.directory, name)


def assert_clean_log(webhook: Webhook) -> None:
    """Check that the webhook's log contains no phone numbers and no tracebacks."""
    log = webhook.log()
    assert "Traceback" not in log
    assert re.findall(r"\d{11,}", log) == []


def without_rules(schema: Any) -> int:
    """Remove the CEL rules from a CRD; return how many lists of them it had."""
    if isinstance(schema, list):
        return sum(map(without_rules, schema))
    if not isinstance(schema, dict):
        return 0
    found = schema.pop("x-kubernetes-validations", None) is not None
    return found + sum(map(without_rules, schema.values()))


def spec_of(world: World, kind: str, name: str) -> JSON:
    spec: JSON = world.api.get(kind, name)["spec"]
    return spec


def refused(done: Kubectl, *sentences: str) -> None:
    assert done.returncode == 1, done.stdout
    assert "denied the request" in done.stderr
    for sentence in sentences:
        assert sentence in done.stderr


def allowed(done: Kubectl, *sentences: str) -> None:
    assert done.returncode == 0, done.stderr
    for sentence in sentences:
        assert f"Warning: {sentence}" in done.stderr


def allowed_silently(done: Kubectl) -> None:
    allowed(done)
    assert "Warning" not in done.stderr


CREATE_WAYS = {
    "create": ["create", "-f", "-"],
    "apply": ["apply", "-f", "-"],
    "apply --server-side": ["apply", "--server-side", "-f", "-"],
    "create --dry-run=server": ["create", "--dry-run=server", "-f", "-"],
    "apply --server-side --dry-run=server": [
        *("apply", "--server-side", "--dry-run=server", "-f", "-")
    ],
}
UPDATE_WAYS = {
    "apply": ["apply", "-f", "-"],
    "apply --server-side": ["apply", "--server-side", "-f", "-"],
    "patch": ["patch", "-f", "-", "--type=json"],
    "replace": ["replace", "-f", "-"],
    "apply --dry-run=server": ["apply", "--dry-run=server", "-f", "-"],
    "patch --dry-run=server": ["patch", "-f", "-", "--type=json", "--dry-run=server"],
}


def each_rule_and_way(rules: Iterable[str], ways: Iterable[str]) -> list[tuple[str, str]]:
    """Return each rule with the first way, and the first rule with each other way."""
    (rule, *other_rules), (way, *other_ways) = rules, ways
    return [
        (rule, way),
        *((each, way) for each in other_rules),
        *((rule, each) for each in other_ways),
    ]


def change(world: World, way: str, old: JSON, new: JSON) -> Kubectl:
    """Create an object, ignoring warnings, and change it in this way."""
    first = "apply --server-side" if way == "apply --server-side" else "apply"
    allowed(world.kubectl(*CREATE_WAYS[first], stdin=json.dumps(old)))
    words = list(UPDATE_WAYS[way])
    if words[0] == "patch":
        patch = [{"op": "replace", "path": "/spec", "value": new["spec"]}]
        words.append(f"--patch={json.dumps(patch)}")
    return world.kubectl(*words, stdin=json.dumps(new))


def add_account_and_channel(world: World) -> None:
    """Create an account and a channel."""
    world.api.create(account(pollInterval="60s"))
    world.declare("support", PHONE)
