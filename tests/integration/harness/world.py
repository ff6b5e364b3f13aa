"""A namespace with an account, and the controllers of one test."""

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pytest

from dev.controlplane.binaries import kubectl_path
from dev.controlplane.plane import ControlPlane
from tests.integration.harness.api import JSON, Api, account, channel, eventually, secret
from tests.integration.harness.controller import Controller
from tests.integration.harness.release import ACCOUNTS, Given, given
from wazzup_simulator.client import Channel, Simulator

ROOT = Path(__file__).parents[3]


@dataclass
class World:
    """A namespace with one account, the controllers of one test, and secrets not to be printed."""

    plane: ControlPlane
    simulator: Simulator
    api: Api
    directory: Path
    account: str
    """Id of the Wazzup account in the simulator."""

    controllers: list[Controller] = field(default_factory=list)
    scraped: list[str] = field(default_factory=list)
    numbers: set[str] = field(default_factory=set)
    """Every phone number ever declared or added, digits only."""

    others: list[str] = field(default_factory=list)
    """Other namespaces that its controllers watch."""

    values: tuple[str, ...] = ("rbac.secretNames={*}",)
    """Values of its release. Many tests name a Secret after its account."""

    @property
    def key(self) -> str:
        return f"key-{self.account}"

    def controller(
        self, *flags: str, kubeconfig: Path | None = None, pod: str | None = None
    ) -> Controller:
        """Start a controller of this test's release, with additional flags, in a Pod of a name."""
        named = {"POD_NAME": pod, "POD_UID": f"uid-of-{pod}"} if pod else {}
        controller = Controller(
            kubeconfig or self.release.kubeconfig,
            self.directory / f"controller-{len(self.controllers)}.log",
            *self.release.arguments,
            *flags,
            environment={**self.release.environment, **named},
        )
        self.controllers.append(controller)
        controller.start()
        return controller

    @cached_property
    def release(self) -> Given:
        """What the chart gives a controller that watches this test's namespaces."""
        return self.apply_release()

    def apply_release(self) -> Given:
        """Install or upgrade this test's release; return what a controller gets."""
        return given(
            self.plane,
            self.api.namespace,
            "controller",
            f"watchNamespaces={{{','.join([self.api.namespace, *self.others])}}}",
            f"settings.wazzupUrl={self.simulator.base_url}",
            "webhook.enabled=false",
            *self.values,
        )

    def elsewhere(self) -> "World":
        """Create another namespace, whose account has a second key of the same Wazzup account.

        Call it before the first controller is started.
        """
        assert "release" not in self.__dict__, "a controller has been started"
        name = f"elsewhere-{time.monotonic_ns() % 10**9:09d}"
        self.api.request("POST", "api/v1/namespaces", {"metadata": {"name": name}})
        second_key = f"second-{self.key}"
        self.simulator.change_account(self.account, keys=[self.key, second_key])
        other = replace(self, api=Api(self.plane.kubeconfig, name))
        other.api.create(secret(second_key))
        other.api.create(account())
        self.others.append(name)
        return other

    def declare(self, name: str, phone: str, **spec: object) -> JSON:
        self.numbers.add(phone.removeprefix("+"))
        return self.api.create(channel(name, phone, **spec))

    def account_with_key(self) -> None:
        """Create the Secret and the WazzupAccount "default"."""
        self.api.create(secret(self.key))
        self.api.create(account())

    def add(self, phone: str, **fields: str) -> Channel:
        """Add a channel in Wazzup."""
        self.numbers.add(phone.removeprefix("+"))
        return self.simulator.add_channel(phone.removeprefix("+"), account=self.account, **fields)

    def status(self, name: str, kind: str = "wazzupchannel") -> JSON:
        return self.api.get(kind, name)["status"]

    def condition(self, name: str, type_: str, kind: str = "wazzupchannel") -> JSON | None:
        conditions = self.status(name, kind).get("conditions", [])
        return next((each for each in conditions if each["type"] == type_), None)

    def wait_reason(
        self, name: str, reason: str, kind: str = "wazzupchannel", seconds: float = 20
    ) -> JSON:
        """Wait until Ready has this reason; return the status."""

        def look() -> JSON | None:
            status = self.status(name, kind)
            ready = [c for c in status.get("conditions", []) if c["type"] == "Ready"]
            return status if ready and ready[0]["reason"] == reason else None

        return eventually(look, f"{name} is Ready={reason}", seconds)

    def kubectl(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                kubectl_path(),
                f"--namespace={self.api.namespace}",
                f"--cache-dir={self.directory}",
                *words,
            ],
            env={**os.environ, "KUBECONFIG": str(self.plane.kubeconfig)},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @staticmethod
    def by_operator(entries: list[JSON]) -> list[JSON]:
        """Filter entries of the audit log for those of a controller."""
        controller = re.compile(f"{ACCOUNTS}.+-controller")
        return [each for each in entries if controller.fullmatch(each["user"]["username"])]

    def operator_patches(self) -> list[JSON]:
        """Return the operator's PATCHes of channels and accounts, refused ones included."""
        found = self.writes("patch", "wazzupchannels") + self.writes("patch", "wazzupaccounts")
        return self.by_operator(found)

    def writes(self, verb: str = "patch", resource: str = "wazzupchannels") -> list[JSON]:
        """Return this namespace's entries of the audit log for a verb on a resource."""
        return [
            entry
            for line in self.plane.audit_log.read_text().splitlines(keepends=True)
            if line.endswith("\n") and f'"namespace":"{self.api.namespace}"' in line
            for entry in (json.loads(line),)
            if entry["verb"] == verb and entry["objectRef"]["resource"] == resource
        ]

    def requests(self) -> int:
        """Count the requests to Wazzup for this test's account."""
        return self.simulator.requests(self.account).total


def create_namespace(
    plane: ControlPlane, simulator: Simulator, request: pytest.FixtureRequest, length: int = 50
) -> str:
    """Create a namespace named after its test, and a Wazzup account of the same name."""
    number = f"-{time.monotonic_ns() % 10**9:09d}"
    slug = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).removeprefix("test-")
    name = slug[: length - len(number)].strip("-") + number
    Api(plane.kubeconfig).request("POST", "api/v1/namespaces", {"metadata": {"name": name}})
    simulator.add_account([f"key-{name}"], id=name)
    return name


def assert_no_secrets_printed(world: World) -> None:
    """Search the controllers' output for keys and phone numbers, after stopping them, and Events.

    Events, like statuses, may name numbers.
    """
    for controller in world.controllers:
        world.scraped.append(controller.metrics())
        controller.stop()
        world.scraped.append(controller.log())
        assert "Traceback" not in controller.log()
    for event in world.api.list("event"):
        assert world.key not in event["note"] + event["reason"], "the API key is in an Event"
    numbers = world.numbers
    numbers |= {body["spec"]["phoneNumber"].lstrip("+") for body in world.api.list("wazzupchannel")}
    numbers |= {
        str(each.row["plainId"])
        for each in world.simulator.channels(world.account)
        if each.row.get("plainId")
    }
    for text in world.scraped:
        assert world.key not in text, "the API key was printed"
        assert printed(numbers, text) == [], "phone numbers were printed"


def printed(numbers: set[str], text: str) -> list[str]:
    """Return the phone numbers (digits only) that a text contains.

    Ignores decimals: the digits of a CPU time may equal one of 2,000 numbers.
    """
    lengths = {len(number) for number in numbers}
    parts = (
        digits[first : first + length]
        for digits in re.findall(r"(?<!\d)(?<!\d\.)\d+", text)
        for length in lengths
        for first in range(len(digits) - length + 1)
    )
    return sorted(numbers.intersection(parts))
