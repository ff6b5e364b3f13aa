"""A namespace with accounts, channels and objects, and the operator's replicas."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.drills.gate import Gate
from tests.drills.truth import Truth
from tests.integration.harness.api import JSON, account, channel, eventually, secret
from tests.integration.harness.controller import Controller
from tests.integration.harness.release import ACCOUNTS, NAMESPACE, RIGHTS
from tests.integration.harness.world import World
from wazzup_simulator.client import Channel, Request

PATIENCE = 60.0
CREATORS = 8
"""Threads that create objects in parallel."""

LEASES = NAMESPACE
"""Namespace of the Leases; each is named after its drill's namespace."""


class Replica(Controller):
    """A replica of the controller, which the audit log identifies by its group."""

    def __init__(
        self,
        name: str,
        kubeconfig: Path,
        log: Path,
        *flags: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        pod = {"POD_NAME": name, "POD_UID": f"uid-of-{name}"}
        super().__init__(kubeconfig, log, *flags, environment={**pod, **(environment or {})})
        self.name = name

    def become_another_pod(self) -> None:
        """Let its next process be the container of a new Pod."""
        self._env = {**self._env, "POD_UID": f"uid-{time.monotonic_ns()}"}


@dataclass
class Drill(World):
    """A World with several accounts (`sites`) and replicas; its own account is not used."""

    sites: list["Site"] = field(default_factory=list)
    replicas: dict[str, Replica] = field(default_factory=dict)
    _truth: Truth | None = None
    _gates: ExitStack = field(default_factory=ExitStack)

    def site(
        self, name: str, states: Sequence[str | None] = ("active", "qridle"), **spec: object
    ) -> "Site":
        """Create an account with one channel and object for each API state.

        None: the number is not in Wazzup. `spec` goes to the WazzupAccount.
        """
        site = Site(self, name, len(self.sites))
        self.sites.append(site)
        site.make(states, spec)
        return site

    def truth(
        self,
        *,
        window: float,
        stale_after: float,
        allow: Mapping[str, set[str]] | None = None,
        grace: float = 3.0,
    ) -> Truth:
        """Return the judge of all statuses ever written in this namespace."""
        self._truth = Truth(
            self.plane,
            self.simulator,
            self.api.namespace,
            self.operator,
            {site.name: site.id for site in self.sites},
            window,
            stale_after,
            allow or {},
            grace,
        )
        return self._truth

    @property
    def operator(self) -> str:
        """User name of this drill's controllers."""
        return f"{ACCOUNTS}{self.api.namespace}-controller"

    def bindings(self) -> list[tuple[str, JSON]]:
        """Return the operator's RoleBindings, each with the path to create it at."""
        name = f"{self.api.namespace}-controller"
        paths = [
            f"{RIGHTS}/namespaces/{each}/rolebindings" for each in (self.api.namespace, LEASES)
        ]
        return [
            (path, each)
            for path in paths
            for each in self.api.request("GET", path)["items"]
            if name in [subject["name"] for subject in each["subjects"]]
        ]

    def learn(self) -> None:
        """Record the channels' numbers before one is deleted."""
        assert self._truth, "call truth() before deleting channels"
        self._truth.learn()

    def replica(
        self,
        number: int,
        *flags: str,
        gate: Gate | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Replica:
        """Start replica-<number>; it appends to the log of an earlier one with this number.

        Its Pod and its group in the audit log have the same name. With a gate, the gate sets the
        group.
        """
        name = f"replica-{number}"
        replica = Replica(
            name,
            gate.kubeconfig if gate else self.plane.kubeconfig_for(self.operator, [name]),
            self.directory / f"{name}.log",
            *self.release.arguments,
            *flags,
            environment=environment,
        )
        self.controllers.append(replica)
        replica.start()
        self.replicas[name] = replica
        return replica

    def gate(self, number: int) -> Gate:
        """Open a gate for replica-<number>."""
        return self._gates.enter_context(
            Gate.launch(self.plane, self.directory, self.operator, (f"replica-{number}",))
        )

    def close(self) -> None:
        for controller in self.controllers:
            controller.stop()
        self._gates.close()

    def create_all(self, bodies: Sequence[JSON]) -> None:
        """Create objects in parallel."""
        with ThreadPoolExecutor(CREATORS) as pool:
            list(pool.map(self.api.create, bodies))

    def states(self) -> dict[str, tuple[str | None, str, str]]:
        """Return state, and status and reason of Ready, by name of the object."""
        found = {}
        for body in self.api.list("wazzupchannel"):
            conditions = body["status"].get("conditions", [])
            ready = [each for each in conditions if each["type"] == "Ready"] or [{}]
            found[body["metadata"]["name"]] = (
                body["status"].get("state"),
                ready[0].get("status", ""),
                ready[0].get("reason", ""),
            )
        return found

    def wait_states(
        self, expected: Mapping[str, tuple[str | None, str, str]], seconds: float = PATIENCE
    ) -> None:
        """Wait until these objects are as expected; on failure, list those that are not."""
        wrong: dict[str, object] = {}

        def look() -> bool:
            found = self.states()
            wrong.clear()
            wrong.update(
                (name, (found.get(name), "instead of", each))
                for name, each in expected.items()
                if found.get(name) != each
            )
            return not wrong

        try:
            eventually(look, "all objects are as expected", seconds)
        except AssertionError:
            some = dict(list(wrong.items())[:20])
            raise AssertionError(f"{len(wrong)} not within {seconds} s: {some}") from None


@dataclass(eq=False)
class Site:
    """A WazzupAccount and its account in Wazzup, with channels and objects.

    The objects are named <name>-0, <name>-1 and so on.
    """

    drill: Drill
    name: str
    index: int
    channels: list[Channel | None] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Id of the account in Wazzup."""
        return f"{self.drill.account}-{self.name}"

    @property
    def key(self) -> str:
        return f"key-{self.id}"

    def phone(self, number: int) -> str:
        return f"+79{self.index:02d}{number:07d}"

    def make(self, states: Sequence[str | None], spec: Mapping[str, object]) -> None:
        drill = self.drill
        drill.simulator.add_account([self.key], id=self.id)
        rows = {self.phone(n)[1:]: state for n, state in enumerate(states)}
        added = drill.simulator.add_channels(
            [{"phone": phone, "state": state} for phone, state in rows.items() if state], self.id
        )
        by_phone = {each.row["plainId"]: each for each in added}
        self.channels = [by_phone.get(phone) for phone in rows]
        drill.numbers |= rows.keys()
        drill.api.create(secret(self.key, self.name))
        drill.api.create(account(self.name, self.name, **spec))
        drill.create_all([self.body(n) for n in range(len(states))])

    def body(self, number: int, **spec: object) -> JSON:
        """Return the object for a number."""
        return channel(
            f"{self.name}-{number}", self.phone(number), accountRef={"name": self.name}, **spec
        )

    def channel(self, number: int) -> Channel:
        found = self.channels[number]
        assert found, f"{self.name}-{number} is not in Wazzup"
        return found

    def show(self, number: int, state: str) -> None:
        """Set the API state of a channel."""
        self.drill.simulator.patch_channel(self.channel(number), state=state)

    def delete_channel(self, number: int) -> None:
        """Delete a channel in Wazzup."""
        self.drill.learn()
        self.drill.simulator.delete_channel(self.channel(number))

    def fault(self, kind: str, **parameters: Any) -> None:
        self.drill.simulator.add_fault(kind, account=self.id, **parameters)

    def set_key(self, key: str) -> None:
        """Put another key into the Secret."""
        self.drill.api.patch("secret", self.name, {"stringData": {"apiKey": key}})

    def requests(self) -> list[Request]:
        return self.drill.simulator.requests(self.id).requests

    def wait_requests(
        self, enough: Callable[[list[Request]], bool], what: str, seconds: float = PATIENCE
    ) -> list[Request]:
        """Wait until the account's recorded requests are enough; return them."""

        def look() -> list[Request]:
            found = self.requests()
            return found if enough(found) else []

        return eventually(look, f"{self.name}: {what}", seconds)

    def wait_account(self, reason: str, seconds: float = PATIENCE) -> JSON:
        return self.drill.wait_reason(self.name, reason, "wazzupaccount", seconds)
