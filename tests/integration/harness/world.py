"""A namespace with an account, the controllers of one test, and what must never be printed."""

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pytest
import yaml

from dev.controlplane.binaries import kubectl_path
from dev.controlplane.plane import ControlPlane
from tests.integration.harness.api import JSON, Api, ApiError, account, channel, eventually, secret
from tests.integration.harness.controller import Controller
from tests.integration.harness.release import ACCOUNTS, Given, given
from wazzup_simulator.client import Channel, Simulator

ROOT = Path(__file__).parents[3]


def install(plane: ControlPlane) -> None:
    """Apply the CRDs, and wait until the kinds are served."""
    api = Api(plane.kubeconfig)
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        api.request(
            "POST",
            "apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            yaml.safe_load(file.read_text()),
        )
    eventually(lambda: served(api), "the kinds are served")


def served(api: Api) -> bool:
    try:
        api.list("wazzupchannel"), api.list("wazzupaccount")
    except ApiError:
        return False
    return True


@dataclass
class World:
    """A namespace with one account, the controllers of one test, and what must never be printed."""

    plane: ControlPlane
    simulator: Simulator
    api: Api
    directory: Path
    account: str
    """The id, in the simulator, of the Wazzup account; its key is "key-" and this id."""

    controllers: list[Controller] = field(default_factory=list)
    scraped: list[str] = field(default_factory=list)
    numbers: set[str] = field(default_factory=set)
    """Every phone number that was ever declared or added, digits only."""

    others: list[str] = field(default_factory=list)
    """Namespaces that its controllers watch beside its own."""

    @property
    def key(self) -> str:
        return f"key-{self.account}"

    def controller(self, *flags: str, kubeconfig: Path | None = None) -> Controller:
        """Start a controller of this test's release, with these flags more."""
        controller = Controller(
            kubeconfig or self.release.kubeconfig,
            self.directory / f"controller-{len(self.controllers)}.log",
            *self.release.arguments,
            *flags,
            environment=self.release.environment,
        )
        self.controllers.append(controller)
        controller.start()
        return controller

    @cached_property
    def release(self) -> Given:
        """The controller of a release of the chart that watches this test's namespaces."""
        return given(
            self.plane,
            self.api.namespace,
            "controller",
            f"watchNamespaces={{{','.join([self.api.namespace, *self.others])}}}",
            f"settings.wazzupUrl={self.simulator.base_url}",
            "webhook.enabled=false",
        )

    def elsewhere(self) -> "World":
        """Return another namespace, whose account has a second key of the same Wazzup account.

        The controllers watch it too; none may have been started yet.
        """
        assert "release" not in self.__dict__, "it is settled what the controllers watch"
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
        """Return those entries of the audit log that are a controller's."""
        controller = re.compile(f"{ACCOUNTS}.+-controller")
        return [each for each in entries if controller.fullmatch(each["user"]["username"])]

    def writes(self, verb: str = "patch", resource: str = "wazzupchannels") -> list[JSON]:
        """Return the audit log's entries of this namespace for a verb on a resource."""
        return [
            entry
            for line in self.plane.audit_log.read_text().splitlines(keepends=True)
            if line.endswith("\n") and f'"namespace":"{self.api.namespace}"' in line
            for entry in (json.loads(line),)
            if entry["verb"] == verb and entry["objectRef"]["resource"] == resource
        ]

    def requests(self) -> int:
        """Return how many requests Wazzup got for this test's account."""
        return self.simulator.requests(self.account).total


def a_namespace(
    plane: ControlPlane, simulator: Simulator, request: pytest.FixtureRequest, length: int = 50
) -> str:
    """Make a namespace that is called by its test, and in Wazzup an account of that name."""
    number = f"-{time.monotonic_ns() % 10**9:09d}"
    slug = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).removeprefix("test-")
    name = slug[: length - len(number)].strip("-") + number
    Api(plane.kubeconfig).request("POST", "api/v1/namespaces", {"metadata": {"name": name}})
    simulator.add_account([f"key-{name}"], id=name)
    return name


def tell_no_secrets(world: World) -> None:
    """Search everything that this test's controllers printed for keys and whole numbers."""
    for controller in world.controllers:
        world.scraped.append(controller.metrics())
        controller.stop()
        world.scraped.append(controller.log())
        assert "Traceback" not in controller.log()
    world.scraped += [json.dumps([e["note"], e["reason"]]) for e in world.api.list("event")]
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
    """Return those of the phone numbers, digits only, that are in a text.

    Not what comes after a decimal point: of 2,000 numbers one may be in seconds of CPU time.
    """
    digits = " ".join(re.findall(r"(?<!\d)(?<!\d\.)\d+", text))
    return [number for number in numbers if number in digits]
