"""What happens behind the operator's back in each drill of the API server, and who looks on.

Channels change in Wazzup; objects are changed, deleted, made anew with another number under the old
name, and new ones come.
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
"""An account's loop tries again after up to 60 s, when nothing wakes it before."""

WINDOW = 10.0
"""The account is listed every 5 s, and a change may be planned with a listing of 5 s before."""

STALE_AFTER = 600.0
ACTIVE = ("Active", "True", "Active")
SCAN = ("ScanQRCode", "False", "ScanQRCode")
long = pytest.mark.skipif(SCALE < 1, reason="only at full durations (DRILL_SCALE=1)")
"""What the shortened drills leave out."""

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
    """An account and its objects, and what happens to them; names and ends are in BEFORE, AFTER."""

    drill: Drill
    site: Site
    truth: Truth

    @classmethod
    def enter(cls, drill: Drill, **allow: set[str]) -> Self:
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
        """Delete main-3, make main-4 anew, change main-5 and main-6, make main-8."""
        api = self.drill.api
        api.delete("wazzupchannel", "main-3")
        old = api.get("wazzupchannel", "main-4")["metadata"]["uid"]
        api.delete("wazzupchannel", "main-4")
        new = self.create("main-4", 8)
        assert new["metadata"]["uid"] != old
        for name in ("main-5", "main-6"):
            api.patch("wazzupchannel", name, {"spec": {"active": False}})
        self.create("main-8", 9)

    def create(self, name: str, number: int) -> dict[str, Any]:
        """Make an object of this name for the site's number."""
        body = channel(name, self.site.phone(number), accountRef={"name": self.site.name})
        return self.drill.api.create(body)

    def wait_before(self) -> None:
        self.drill.wait_states(BEFORE, PATIENCE)

    def wait_after(self, seconds: float = PATIENCE) -> float:
        """Wait until everything is told; return the seconds that it took."""
        began = time.monotonic()
        self.drill.wait_states(AFTER, seconds)
        return time.monotonic() - began

    def assert_all_is_well(self) -> None:
        """Nothing is missing or left over, changes still come through, and nothing was a lie."""
        self.wait_counted(COUNTED)
        eventually(
            lambda: self.drill.status("main", "wazzupaccount").get("channels") == TOTALS,
            f"the account counts {TOTALS}",
            PATIENCE,
        )
        self.drill.api.patch("wazzupchannel", "main-0", {"spec": {"active": False}})
        self.site.show(2, "qridle")
        # What is asked for now need not wait for the next poll.
        asked = {"metadata": {"annotations": {"wazzup.dev/requested-at": str(time.time_ns())}}}
        self.drill.api.patch("wazzupaccount", "main", asked)
        changed = {"main-0": ("Active", "False", "StillActive"), "main-2": SCAN}
        self.drill.wait_states({**AFTER, **changed}, 20)
        self.truth.assert_true()

    def wait_counted(self, expected: Mapping[str, int]) -> None:
        """Wait until the replicas' wazzup_channels, summed, are these and no others."""

        def look() -> bool:
            counted = Counter[str]()
            for replica in self.drill.replicas.values():
                for state in {*expected, *(state for state, _, _ in BEFORE.values())}:
                    counted[str(state)] += int(replica.count("wazzup_channels", state=str(state)))
                counted["all"] += int(replica.count("wazzup_channels"))
            return +counted == Counter({**expected, "all": sum(expected.values())})

        eventually(look, f"wazzup_channels are {dict(expected)}", PATIENCE)


_MOMENT = 5.0


class Kubelet:
    """Starts replicas again that ended, as a kubelet does, and probes /healthz meanwhile."""

    def __init__(self, drill: Drill) -> None:
        self._drill = drill
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self._due: dict[str, float] = {}
        self._answered: dict[str, float] = {}
        self.ended: list[tuple[str, int]] = []
        """Name and exit code of each replica that ended by itself."""
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
        # One that is starting or ending does not listen for a moment.
        silent = status == 0 and begun - self._answered.get(replica.name, begun) < _MOMENT
        if replica.runs and not silent:
            self.unhealthy.append((replica.name, status, text))

    def _restart(self, replica: Replica) -> None:
        if replica.name not in self._due:
            self._answered.pop(replica.name, None)
            before = sum(name == replica.name for name, _ in self.ended)
            self.ended.append((replica.name, replica.wait(0)))
            # At once, then after 10, 20, 40 s and so on.
            wait = 10.0 * 2 ** (before - 1) if before else 0.0
            self._due[replica.name] = time.monotonic() + wait
        if time.monotonic() >= self._due[replica.name]:
            del self._due[replica.name]
            replica.start()

    def assert_nothing_ended(self) -> None:
        assert not self.ended
        self.assert_healthy()

    def assert_healthy(self) -> None:
        assert self.probes
        assert not self.unhealthy


@dataclass(eq=False)
class Proxy(Gate):
    """A gate that can also lose answers, and answer what no API server does."""

    loses: str = ""
    """A method, the answers to which are lost after the API server has given them."""

    lost: list[Seen] = field(default_factory=list)
    page: tuple[str, str] | None = None
    """Body and content type of every answer, whatever was asked for."""

    pages: list[float] = field(default_factory=list)
    """When it was given."""

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
    """Open a proxy for replica-1; it is closed with the drill."""
    launched = Proxy.launch(drill.plane, drill.directory, drill.operator, ("replica-1",))
    return drill._gates.enter_context(launched)


def throughout(seconds: float, look: Callable[[], bool], what: str) -> None:
    """Let so many seconds pass, in which this must always be so."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert look(), f"not throughout: {what}"
        time.sleep(0.2)


def complaints(replica: Replica) -> Counter[str]:
    """Count what a replica said was wrong, but for what it said of channels and accounts."""
    lines = [line.split(" ", 1)[-1] for line in replica.log().splitlines()]
    return Counter(
        line
        for line in lines
        if line.startswith(("WARNING", "ERROR")) and "transition_events: Wazzup" not in line
    )


def assert_told(replica: Replica, *words: str, times: int = 1) -> None:
    """It said this, and nothing at all more often than `times`."""
    told = complaints(replica)
    for each in words:
        assert any(each in line for line in told), f"nothing with {each!r} in {told}"
    often = {line: count for line, count in told.items() if count > times}
    assert not often, f"told more than {times} times: {often}"


def lists(seen: list[Seen], plural: str = "wazzupchannels") -> list[Seen]:
    return [
        each
        for each in seen
        if each.method == "GET" and f"/{plural}?" in each.path and "watch=1" not in each.path
    ]


def patches(seen: list[Seen]) -> list[Seen]:
    return [each for each in seen if each.method == "PATCH" and "/wazzupchannels/" in each.path]


def told_of_the_account(drill: Drill) -> set[str]:
    """Return every reason of Ready that the account ever had."""
    return {
        each["reason"]
        for entry in drill.writes("patch", "wazzupaccounts")
        if entry["responseStatus"]["code"] == 200
        for each in entry["responseObject"].get("status", {}).get("conditions", [])
        if each["type"] == "Ready"
    }
