"""Changes that the operator misses during an outage of the API server.

Channels change in Wazzup; objects are changed, deleted, recreated with another number, and added.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import web

from tests.drills.drill import Drill, Replica, Site
from tests.drills.duration import SCALE
from tests.drills.gate import Gate, Seen
from tests.drills.truth import Truth
from tests.integration.harness.api import channel, eventually

PATIENCE = 90.0
"""Seconds: an account's loop retries after up to 60 s unless something wakes it."""

WINDOW = 10.0
"""Seconds: polls come every 5 s, and a change may use a listing up to 5 s old."""

STALE_AFTER = 600.0
ACTIVE = ("Active", "True", "Active")
SCAN = ("ScanQRCode", "False", "ScanQRCode")
long = pytest.mark.skipif(SCALE < 1, reason="only at full durations (DRILL_SCALE=1)")
"""Marks drills that only run at full durations."""

STATES = ("active", "active", "qridle", "active", "active", "active", "disabled", None)
BEFORE = {
    "main-0": ACTIVE,
    "main-1": ACTIVE,
    "main-2": SCAN,
    "main-3": ACTIVE,
    "main-4": ACTIVE,
    "main-5": ACTIVE,
    "main-6": ("Off", "False", "Off"),
    "main-7": ("NotAdded", "False", "NotAdded"),
}
AFTER = {
    "main-0": ACTIVE,
    "main-1": SCAN,
    "main-2": ACTIVE,
    "main-4": ("Blocked", "False", "Blocked"),
    "main-5": ("Active", "False", "StillActive"),
    "main-6": ("Off", "True", "Off"),
    "main-7": ACTIVE,
    "main-8": ("WrongPhone", "False", "WrongPhone"),
}
COUNTED = {"Active": 4, "ScanQRCode": 1, "Blocked": 1, "Off": 1, "WrongPhone": 1}
TOTALS = {"declared": 8, "observed": 10, "ready": 4}


@dataclass
class Cast:
    """An account and its objects, which change from BEFORE to AFTER."""

    drill: Drill
    site: Site
    truth: Truth

    @classmethod
    def create(cls, drill: Drill, **allow: set[str]) -> Self:
        site = drill.site("main", STATES)
        drill.simulator.add_channels(
            [
                {"phone": site.phone(8)[1:], "state": "blocked"},
                {"phone": site.phone(9)[1:], "state": "foreignphone"},
            ],
            site.id,
        )
        drill.numbers |= {site.phone(8)[1:], site.phone(9)[1:]}
        patterns = {"main-*": allow["reasons"]} if allow else {}
        truth = drill.truth(window=WINDOW, stale_after=STALE_AFTER, allow=patterns)
        return cls(drill, site, truth)

    def change_wazzup(self) -> None:
        self.site.show(1, "qridle")
        self.site.show(2, "active")
        self.drill.simulator.add_channel(
            self.site.phone(7)[1:], account=self.site.id, state="active"
        )
        self.truth.learn()

    def change_objects(self) -> None:
        """Delete main-3, recreate main-4, change main-5 and main-6, create main-8."""
        api = self.drill.api
        api.delete("wazzupchannel", "main-3")
        old = api.get("wazzupchannel", "main-4")["metadata"]["uid"]
        api.delete("wazzupchannel", "main-4")
        new = self.declare("main-4", 8)
        assert new["metadata"]["uid"] != old
        for name in ("main-5", "main-6"):
            api.patch("wazzupchannel", name, {"spec": {"active": False}})
        self.declare("main-8", 9)

    def declare(self, name: str, number: int) -> dict[str, Any]:
        """Create an object of this name for one of the site's numbers."""
        body = channel(name, self.site.phone(number), accountRef={"name": self.site.name})
        return self.drill.api.create(body)

    def wait_before(self) -> None:
        self.drill.wait_states(BEFORE, PATIENCE)

    def wait_after(self, seconds: float = PATIENCE) -> float:
        """Wait for AFTER; return the seconds that it took."""
        began = time.monotonic()
        self.drill.wait_states(AFTER, seconds)
        return time.monotonic() - began

    def assert_recovered(self) -> None:
        """Check metrics and counts, that new changes are written, and that no status was wrong."""
        self.wait_counted(COUNTED)
        eventually(
            lambda: self.drill.status("main", "wazzupaccount").get("channels") == TOTALS,
            f"the account counts {TOTALS}",
            PATIENCE,
        )
        self.drill.api.patch("wazzupchannel", "main-0", {"spec": {"active": False}})
        self.site.show(2, "qridle")
        self.drill.api.request_listing("main")
        changed = {"main-0": ("Active", "False", "StillActive"), "main-2": SCAN}
        self.drill.wait_states({**AFTER, **changed}, 20)
        self.truth.assert_true()

    def wait_counted(self, expected: Mapping[str, int]) -> None:
        """Wait until the sum of the replicas' wazzup_channels is exactly this."""

        def look() -> bool:
            counted = Counter[str]()
            for replica in self.drill.replicas.values():
                for state in {*expected, *(state for state, _, _ in BEFORE.values())}:
                    counted[str(state)] += int(replica.count("wazzup_channels", state=str(state)))
                counted["all"] += int(replica.count("wazzup_channels"))
            return +counted == Counter({**expected, "all": sum(expected.values())})

        eventually(look, f"wazzup_channels are {dict(expected)}", PATIENCE)


_STARTUP = 5.0
"""Seconds in which a process that starts or exits may not answer."""


class Kubelet:
    """Restarts exited replicas and probes /healthz, as the kubelet does."""

    def __init__(self, drill: Drill) -> None:
        self._drill = drill
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self._due: dict[str, float] = {}
        self._answered: dict[str, float] = {}
        self.exited: list[tuple[str, int]] = []
        """Name and exit code of each exited replica."""
        self.unhealthy: list[tuple[str, int, str]] = []
        self.probes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.2):
            for replica in [*self._drill.replicas.values()]:
                if replica.runs:
                    self._probe(replica)
                else:
                    self._restart(replica)

    def _probe(self, replica: Replica) -> None:
        begun = time.monotonic()
        status, text = replica.probe("/healthz")
        if status == 200:
            self.probes += 1
            self._answered[replica.name] = time.monotonic()
            return
        silent = status == 0 and begun - self._answered.get(replica.name, begun) < _STARTUP
        if replica.runs and not silent:
            self.unhealthy.append((replica.name, status, text))

    def _restart(self, replica: Replica) -> None:
        if replica.name not in self._due:
            self._answered.pop(replica.name, None)
            before = sum(name == replica.name for name, _ in self.exited)
            self.exited.append((replica.name, replica.wait(0)))
            # At once, then after 10, 20, 40 s …
            wait = 10.0 * 2 ** (before - 1) if before else 0.0
            self._due[replica.name] = time.monotonic() + wait
        if time.monotonic() >= self._due[replica.name]:
            del self._due[replica.name]
            replica.start()

    def assert_nothing_exited(self) -> None:
        assert not self.exited
        self.assert_healthy()

    def assert_healthy(self) -> None:
        assert self.probes
        assert not self.unhealthy


@dataclass(eq=False)
class Proxy(Gate):
    """A gate that can also lose answers, or answer with a page that is not from an API server."""

    loses: str = ""
    """A method whose answers are lost; its requests reach the API server."""

    lost: list[Seen] = field(default_factory=list)
    page: tuple[str, str] | None = None
    """Body and content type of the answer to every request."""

    pages: list[float] = field(default_factory=list)
    """Times of these answers."""

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.page is None:
            return await super()._handle(request)
        self.pages.append(time.time())
        body, content_type = self.page
        return web.Response(text=body, content_type=content_type)

    async def _pass_on(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, *, watch: bool
    ) -> web.StreamResponse:
        if request.method != self.loses:
            return await super()._pass_on(request, answer, watch=watch)
        await answer.read()
        self.lost.append(Seen(time.time(), request.method, request.raw_path, answer.status))
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


def proxy(drill: Drill) -> Proxy:
    """Open a proxy for replica-1 until the drill ends."""
    launched = Proxy.launch(drill.plane, drill.directory, drill.operator, ("replica-1",))
    return drill._gates.enter_context(launched)


def throughout(seconds: float, look: Callable[[], bool], what: str) -> None:
    """Check repeatedly for this many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert look(), f"not throughout: {what}"
        time.sleep(0.2)


def complaints(replica: Replica) -> Counter[str]:
    """Count a replica's warnings and errors, except those about channels and accounts."""
    lines = [line.split(" ", 1)[-1] for line in replica.log().splitlines()]
    return Counter(
        line
        for line in lines
        if line.startswith(("WARNING", "ERROR")) and "transition_events: Wazzup" not in line
    )


def assert_logged(replica: Replica, *words: str, times: int = 1) -> None:
    """Check that these are logged, and no complaint more often than `times`."""
    found = complaints(replica)
    for each in words:
        assert any(each in line for line in found), f"nothing with {each!r} in {found}"
    often = {line: count for line, count in found.items() if count > times}
    assert not often, f"logged more than {times} times: {often}"


def lists(seen: list[Seen], plural: str = "wazzupchannels") -> list[Seen]:
    return [
        each
        for each in seen
        if each.method == "GET" and f"/{plural}?" in each.path and "watch=1" not in each.path
    ]


def patches(seen: list[Seen]) -> list[Seen]:
    return [each for each in seen if each.method == "PATCH" and "/wazzupchannels/" in each.path]


def account_reasons(drill: Drill) -> set[str]:
    """Return every reason that the account's Ready condition ever had."""
    return {
        each["reason"]
        for entry in drill.writes("patch", "wazzupaccounts")
        if entry["responseStatus"]["code"] == 200
        for each in entry["responseObject"].get("status", {}).get("conditions", [])
        if each["type"] == "Ready"
    }
