"""An API server that dies, hangs, forgets, refuses, and one that is not there but a proxy is.

In each drill the same happens behind the operator's back: channels change in Wazzup; objects are
changed, deleted, made anew with another number under the old name, and new ones come.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
import pytest
import yaml
from aiohttp import web

from dev.controlplane.plane import ControlPlane
from tests.drills.drill import LEASES, Drill, Replica, Site
from tests.drills.duration import SCALE, lasting
from tests.drills.figures import measured
from tests.drills.gate import Gate, Seen, status_body
from tests.drills.truth import Truth
from tests.integration.harness.api import Api, ApiError, channel, eventually
from tests.integration.harness.world import ROOT, served

pytestmark = pytest.mark.timeout(600)

PATIENCE = 90.0
"""An account's loop tries again after up to 60 s, when nothing wakes it before."""

WINDOW = 10.0
"""The account is listed every 5 s, and a change may be planned with a listing of 5 s before."""

STALE_AFTER = 600.0
SILENCE = 150.0

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


def watches(seen: list[Seen]) -> list[Seen]:
    return [each for each in seen if "watch=1" in each.path]


def patches(seen: list[Seen]) -> list[Seen]:
    return [each for each in seen if each.method == "PATCH" and "/wazzupchannels/" in each.path]


def holder(drill: Drill) -> str:
    leases = f"apis/coordination.k8s.io/v1/namespaces/{LEASES}/leases"
    lease = drill.api.request("GET", f"{leases}/{drill.api.namespace}")
    return str(lease["spec"].get("holderIdentity", ""))


@contextmanager
def repaired(plane: ControlPlane) -> Iterator[None]:
    """Whatever happens in the block, the next drill finds etcd and the API server running."""
    try:
        yield
    finally:
        plane.resume_etcd()
        try:
            Api(plane.kubeconfig).request("GET", "readyz")
        except (OSError, ApiError):
            plane.stop_apiserver()
            start_again(plane)


def start_again(plane: ControlPlane) -> None:
    plane.start_apiserver()
    eventually(lambda: served(Api(plane.kubeconfig)), "the kinds are served", PATIENCE)


@pytest.mark.parametrize("seconds", [10, pytest.param(120, marks=long)])
def test_an_api_server_that_is_killed_and_has_forgotten(drill: Drill, seconds: int) -> None:
    """How the operator itself gets over it: without an election nothing ends it."""
    cast, gate, plane = Cast.enter(drill), proxy(drill), drill.plane
    with Kubelet(drill) as kubelet, repaired(plane):
        replica = drill.replica(1, "--no-leader-elect", gate=gate)
        cast.wait_before()
        before, tried = gate.requests, failures(replica)

        lasted = lasting(seconds, at_least=5)
        plane.kill_apiserver()
        gate.close()
        cast.change_wazzup()
        throughout(
            lasted,
            lambda: replica.probe("/readyz") == (200, "ok\n"),
            "it knows every object, and /readyz says so",
        )
        tries = int(failures(replica) - tried)
        assert 3 <= tries <= 20 + lasted / 2

        start_again(plane)
        cast.change_objects()
        # Going on with the watches is answered with 410 now.
        plane.compact()
        plane.stop_apiserver()
        start_again(plane)
        gate.open()
        recovery = cast.wait_after()
        measured(f"API server away for {lasted:g} s", recovery=recovery, tries=tries)
        seen = gate.requests[len(before) :]
        assert len(lists(seen)) == 1
        assert len(seen) < 60
        cast.assert_all_is_well()
        kubelet.assert_nothing_ended()
    assert not cast.truth.written(state="Unknown")
    assert_told(replica, "wazzupchannels cannot be followed", "wazzupaccounts cannot be followed")


def failures(replica: Replica) -> float:
    return replica.count("rest_client_requests_total", code="<error>")


def test_two_replicas_whose_api_server_is_killed(drill: Drill) -> None:
    """The leader ends, as it cannot renew, and is started again like any container."""
    cast, plane = Cast.enter(drill), drill.plane
    with Kubelet(drill) as kubelet, repaired(plane):
        replicas = [drill.replica(1), drill.replica(2)]
        cast.wait_before()
        for replica in replicas:
            replica.wait_ready()
        leader = drill.replicas[holder(drill)]
        (standby,) = (each for each in replicas if each is not leader)

        lasted = lasting(30, at_least=14)
        killed = time.monotonic()
        plane.kill_apiserver()
        cast.change_wazzup()
        eventually(lambda: kubelet.ended, "the leader has ended", PATIENCE)
        ended_after = time.monotonic() - killed
        assert ended_after < 12

        def unready() -> bool:
            status, text = leader.probe("/readyz")
            return status == 503 and "cannot be followed" in text

        eventually(unready, "started again, it says that it knows nothing yet", PATIENCE)
        throughout(
            lasted - (time.monotonic() - killed),
            lambda: unready() and standby.probe("/readyz")[0] == 200,
            "the new process knows nothing, the standby everything",
        )
        assert kubelet.ended == [(leader.name, 1)]

        start_again(plane)
        cast.change_objects()
        recovery = cast.wait_after()
        measured("two replicas", leader_ended_after=ended_after, recovery=recovery)
        eventually(lambda: leader.probe("/readyz")[0] == 200, "both are ready again", PATIENCE)
        assert holder(drill) in drill.replicas
        cast.assert_all_is_well()
        kubelet.assert_healthy()
        assert kubelet.ended == [(leader.name, 1)]
    assert not cast.truth.written(state="Unknown")
    assert "was not renewed within 10 s" in leader.log()
    assert_told(standby, "cannot be followed", "can be neither taken nor renewed")
    assert_told(leader, "this replica ends", times=2)


@pytest.mark.parametrize("election", [pytest.param("alone", marks=long), "elected"])
def test_an_etcd_that_is_stopped_and_continued(drill: Drill, election: str) -> None:
    """What needs etcd hangs, though the API server takes it, and the watches bring nothing."""
    cast, gate, plane = Cast.enter(drill), proxy(drill), drill.plane
    flags = ["--no-leader-elect"] if election == "alone" else []
    with Kubelet(drill) as kubelet, repaired(plane):
        replica = drill.replica(1, *flags, gate=gate)
        cast.wait_before()
        before = len(gate.requests)

        lasted = lasting(30, at_least=13)
        plane.suspend_etcd()
        cast.change_wazzup()
        throughout(lasted, lambda: True, "etcd stands still")
        requests = len(gate.requests) - before
        assert requests <= 15 + lasted
        plane.resume_etcd()
        eventually(lambda: served(drill.api), "the API server serves again", PATIENCE)
        cast.change_objects()
        recovery = cast.wait_after()
        measured(f"etcd stopped for {lasted:g} s", recovery=recovery, requests=requests)
        cast.assert_all_is_well()
        kubelet.assert_healthy()
        assert kubelet.ended == ([] if election == "alone" else [("replica-1", 1)])
    assert not cast.truth.written(state="Unknown")
    if election == "elected":
        assert "was not renewed within 10 s" in replica.log()
    assert_told(replica, times=1 + len(kubelet.ended))


SHOWN = {
    ("active", True): ACTIVE,
    ("qridle", True): SCAN,
    ("active", False): ("Active", "False", "StillActive"),
    ("qridle", False): ("ScanQRCode", "True", "NotConnected"),
}
NUMBERS = 8
"""Objects in the stream of changes; each has two numbers to choose from."""


@dataclass
class Stream:
    """A stream of changes to objects and channels, which knows what they must come to."""

    site: Site
    steps: int = 0
    shown: list[str] = field(default_factory=lambda: ["active"] * 2 * NUMBERS)
    """What each channel shows in Wazzup."""

    declared: dict[int, tuple[int, bool]] = field(
        default_factory=lambda: {n: (n, True) for n in range(NUMBERS)}
    )
    """Of each object its number and whether it is active."""

    def step(self) -> None:
        """Change one thing, each object's and each channel's turn after the other's."""
        object_, round_ = self.steps % NUMBERS, self.steps // NUMBERS
        self.steps += 1
        if object_ not in self.declared:
            # Another number than the one that it had.
            self._create(object_, object_ + NUMBERS * (round_ // 6 % 2))
        elif round_ % 3 == 0:
            self._show(self.declared[object_][0])
        elif round_ % 3 == 1:
            self._switch(object_)
        else:
            self._delete(object_)

    def expected(self) -> dict[str, tuple[str, str, str]]:
        return {
            f"stream-{n}": SHOWN[self.shown[number], active]
            for n, (number, active) in self.declared.items()
        }

    def _show(self, number: int) -> None:
        self.shown[number] = "qridle" if self.shown[number] == "active" else "active"
        self.site.show(number, self.shown[number])

    def _switch(self, object_: int) -> None:
        number, active = self.declared[object_]
        self.declared[object_] = number, not active
        self._api.patch("wazzupchannel", f"stream-{object_}", {"spec": {"active": not active}})

    def _delete(self, object_: int) -> None:
        del self.declared[object_]
        self._api.delete("wazzupchannel", f"stream-{object_}")

    def _create(self, object_: int, number: int) -> None:
        self.declared[object_] = number, True
        reference = {"name": self.site.name}
        body = channel(f"stream-{object_}", self.site.phone(number), accountRef=reference)
        self._api.create(body)

    @property
    def _api(self) -> Api:
        return self.site.drill.api


def test_watches_that_are_cut_every_five_seconds_under_a_stream_of_changes(drill: Drill) -> None:
    gate = proxy(drill)
    site = drill.site("stream", ["active"] * 2 * NUMBERS)
    for number in range(NUMBERS, 2 * NUMBERS):
        drill.api.delete("wazzupchannel", f"stream-{number}")
    truth = drill.truth(window=WINDOW, stale_after=STALE_AFTER)
    stream = Stream(site)
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, "--no-leader-elect", gate=gate)
        drill.wait_states(stream.expected(), PATIENCE)
        before = len(gate.requests)
        lasted, beat = lasting(120, at_least=20), 0.25
        begun = time.monotonic()
        cuts = expired = 0
        while (now := time.monotonic() - begun) < lasted:
            if now >= 5 * (cuts + 1):
                cuts += 1
                if cuts % 3 == 1:
                    # The answer to the next watch of each kind.
                    gate.answer(410, times=2, watch=True)
                    expired += 2
                elif cuts % 3 == 2:
                    expired += gate.inject({"type": "ERROR", "object": status_body(410)})
                gate.cut_watches()
            stream.step()
            # The changes come at this pace; nothing is waited for.
            time.sleep(max(0.0, begun + beat * stream.steps - time.monotonic()))
        assert cuts >= 3
        ended = time.monotonic()
        drill.wait_states(stream.expected(), PATIENCE)
        measured(
            f"{cuts} cuts in {lasted:g} s",
            recovery=time.monotonic() - ended,
            changes=stream.steps,
            lists=len(lists(gate.requests[before:])),
            watches=len(watches(gate.requests[before:])),
            patches=len(patches(gate.requests[before:])),
        )
        eventually(
            lambda: replica.count("wazzup_channels") == len(stream.declared),
            "neither a ghost nor one forgotten",
            PATIENCE,
        )
        assert {body["metadata"]["name"] for body in drill.api.list("wazzupchannel")} == {
            *stream.expected()
        }
        kubelet.assert_nothing_ended()
        seen = gate.requests[before:]
        relists = len(lists(seen)) + len(lists(seen, "wazzupaccounts"))
        # What expired is listed once, and nothing else is.
        assert relists <= expired
        assert len(watches(seen)) <= 4 * cuts + expired
    truth.assert_true()
    assert_told(replica, times=expired)


def test_a_list_that_expires_between_its_pages(drill: Drill) -> None:
    """The pages of 500 objects each are listed again from the first one, and not in a hurry."""
    gate = proxy(drill)
    site = drill.site("many", ["active"] * 540)
    truth = drill.truth(window=30, stale_after=STALE_AFTER)
    expiring = gate.answer(410, method="GET", path="continue=", times=3)
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, "--no-leader-elect", gate=gate)
        drill.wait_states({f"many-{n}": ACTIVE for n in range(540)}, PATIENCE)
        assert expiring.hits == 3
        assert len(lists(gate.requests)) == 8
        gate.answer(410, times=1, path="wazzupchannels?watch")
        gate.answer(410, method="GET", path="continue=", times=1)
        gate.close()
        for number in range(0, 540, 20):
            drill.api.delete("wazzupchannel", f"many-{number}")
        drill.api.create(site.body(0, active=False))
        gate.open()
        drill.wait_states({"many-0": ("Active", "False", "StillActive")}, PATIENCE)
        eventually(lambda: replica.count("wazzup_channels") == 514, "514 are left", PATIENCE)
        assert len(lists(gate.requests)) == 12
        kubelet.assert_nothing_ended()
    truth.assert_true()


def test_an_error_event_of_another_kind(drill: Drill) -> None:
    """The watch goes on from where it was: nothing is listed anew, nothing is lost."""
    cast, gate = Cast.enter(drill), proxy(drill)
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, "--no-leader-elect", gate=gate)
        cast.wait_before()
        before = len(gate.requests)
        errors = [status_body(500, "etcdserver: no leader"), status_body(504), {"kind": "Status"}]
        for error in errors:
            eventually(lambda: gate.watches == 2, "both watches are open", PATIENCE)
            assert gate.inject({"type": "ERROR", "object": error}) == 2
            eventually(lambda: gate.watches < 2, "a watch was given up", PATIENCE)
        cast.change_wazzup()
        cast.change_objects()
        recovery = cast.wait_after()
        measured("three ERROR events", recovery=recovery)
        seen = gate.requests[before:]
        assert not lists(seen)
        assert not lists(seen, "wazzupaccounts")
        assert len(watches(seen)) <= 2 * len(errors) + 2
        cast.assert_all_is_well()
        kubelet.assert_nothing_ended()
    assert_told(replica, "etcdserver: no leader")


@pytest.mark.skipif(
    SCALE < 1, reason="only at full durations: a silent watch is given up after 150 s"
)
def test_a_watch_that_silently_stops_delivering(drill: Drill) -> None:
    cast, gate = Cast.enter(drill), proxy(drill)
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, "--no-leader-elect", gate=gate)
        cast.wait_before()
        eventually(lambda: gate.watches == 2, "both watches are open", PATIENCE)
        before = len(gate.requests)
        assert gate.silence_watches() == 2
        cast.change_wazzup()
        cast.change_objects()
        recovery = cast.wait_after(SILENCE + PATIENCE)
        seen = gate.requests[before:]
        conflicts = sum(each.status == 409 for each in patches(seen))
        measured("silent watches", recovery=recovery, conflicts=conflicts)
        assert recovery > 60, "the watches were not silent"
        assert not lists(seen)
        assert len(watches(seen)) <= 4
        assert len(patches(seen)) <= 40
        cast.assert_all_is_well()
        kubelet.assert_nothing_ended()
    assert not cast.truth.written(state="Unknown")
    assert_told(replica, "wazzupchannels cannot be followed")


def assert_waited(seen: list[Seen], seconds: float) -> None:
    """After each 429 the same was not asked for again before these seconds were over."""
    refused: dict[tuple[str, str, bool], float] = {}
    for each in seen:
        key = each.method, each.path.split("?")[0], "watch=1" in each.path
        if key in refused:
            waited = each.time - refused.pop(key)
            assert waited >= seconds - 0.05, f"{each} came after {waited:.2f} s"
        if each.status == 429:
            refused[key] = each.time


@pytest.mark.parametrize("retry_after", [2, pytest.param(12, marks=long)])
def test_an_api_server_that_asks_to_wait(drill: Drill, retry_after: int) -> None:
    cast, gate = Cast.enter(drill), proxy(drill)
    wait = {"Retry-After": str(retry_after)}
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, "--no-leader-elect", gate=gate)
        cast.wait_before()
        before, begun = len(gate.requests), time.monotonic()
        refused = [
            gate.answer(429, method="PATCH", path="wazzupchannels", headers=wait, times=12),
            gate.answer(410, watch=True, times=1, path="wazzupchannels"),
            gate.answer(429, method="GET", watch=True, headers=wait, times=1),
            gate.answer(429, method="GET", path="wazzupchannels?limit", headers=wait, times=2),
        ]
        gate.cut_watches()
        cast.change_wazzup()
        cast.change_objects()
        cast.wait_after(PATIENCE + 6 * retry_after)
        seen = gate.requests[before:]
        measured(
            f"429 with Retry-After: {retry_after}",
            until_all_told=time.monotonic() - begun,
            patches=len(patches(seen)),
        )
        assert all(rule.left == 0 for rule in refused)
        assert_waited(seen, retry_after)
        cast.assert_all_is_well()
        kubelet.assert_nothing_ended()
    assert_told(replica)


def test_a_write_that_had_to_wait_tells_nothing_old(drill: Drill) -> None:
    """What was planned before the wait may be wrong after it; and nobody else waits with it."""
    cast, gate = Cast.enter(drill), proxy(drill)
    with Kubelet(drill) as kubelet:
        drill.replica(1, "--no-leader-elect", gate=gate)
        cast.wait_before()
        wait = {"Retry-After": "4"}
        refused = gate.answer(429, method="PATCH", path="/main-1/", headers=wait, times=3)
        cast.site.show(1, "qridle")
        eventually(lambda: refused.hits, "it was asked to wait", PATIENCE)
        begun = time.monotonic()
        cast.site.show(1, "active")
        drill.api.patch("wazzupchannel", "main-5", {"spec": {"active": False}})
        drill.wait_states({"main-5": ("Active", "False", "StillActive")}, PATIENCE)
        told = time.monotonic() - begun
        measured("another object of an account while one waits", until_told=told)
        throughout(
            3 * 4 + 2 - told,
            lambda: drill.states()["main-1"] == ACTIVE,
            "main-1 is told as it is",
        )
        kubelet.assert_nothing_ended()
    cast.truth.assert_true()
    assert told < 6, "it had to wait with the other one"


def test_an_api_server_that_fails_each_write(drill: Drill) -> None:
    """Then it fails to read the Secret, which says nothing about the Secret."""
    cast, gate = Cast.enter(drill), proxy(drill)
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, "--no-leader-elect", gate=gate)
        cast.wait_before()
        before, begun = len(gate.requests), time.monotonic()
        lasted = lasting(20, at_least=6)
        timed_out = "etcdserver: request timed out"
        failing = gate.answer(500, method="PATCH", message=timed_out)
        cast.change_wazzup()
        cast.change_objects()
        eventually(lambda: failing.hits >= 5, "it was answered with 500", PATIENCE)
        gate.clear()
        gate.answer(503, method="PATCH")
        throughout(lasted - (time.monotonic() - begun), lambda: True, "it fails")
        tries = len(patches(gate.requests[before:]))
        assert 5 <= tries <= 10 + 3 * lasted
        gate.clear()
        secrets = gate.answer(503, method="GET", path="/secrets/", times=3)
        recovery = cast.wait_after()
        measured(f"500 and 503 for {lasted:g} s", recovery=recovery, tries=tries)
        eventually(lambda: secrets.left == 0, "the Secret was asked for again", PATIENCE)
        cast.assert_all_is_well()
        kubelet.assert_nothing_ended()
    assert_told(replica, "could not be written", timed_out)
    assert told_of_the_account(drill) == {"UpToDate"}


def told_of_the_account(drill: Drill) -> set[str]:
    """Return every reason of Ready that the account ever had."""
    return {
        each["reason"]
        for entry in drill.writes("patch", "wazzupaccounts")
        if entry["responseStatus"]["code"] == 200
        for each in entry["responseObject"].get("status", {}).get("conditions", [])
        if each["type"] == "Ready"
    }


def test_writes_whose_answers_are_lost(drill: Drill) -> None:
    """They are not made again: the watch says that they were made."""
    cast, gate = Cast.enter(drill), proxy(drill)
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, "--no-leader-elect", gate=gate)
        cast.wait_before()
        eventually(
            lambda: drill.status("main", "wazzupaccount").get("channels"),
            "the account is told, too",
            PATIENCE,
        )
        before = len(cast.truth.written())
        gate.loses = "PATCH"
        cast.change_wazzup()
        cast.change_objects()
        recovery = cast.wait_after()
        # It goes on as long, in which nothing is written again.
        throughout(lasting(15, at_least=6), lambda: True, "answers are lost")
        gate.loses = ""
        written = Counter(write.name for write in cast.truth.written()[before:])
        measured("answers lost", recovery=recovery, lost=len(gate.lost))
        assert gate.lost
        # main-4 may have been told of twice: before it was deleted, and anew.
        assert {name for name, count in written.items() if count > 1} <= {"main-4"}
        assert set(written) - {"main-3"} == set(AFTER) - {"main-0"}
        cast.assert_all_is_well()
        kubelet.assert_nothing_ended()
    assert_told(replica, "could not be written")


PAGES = {
    "html": ("<!DOCTYPE html>\n<html><body>Log in</body></html>\n", "text/html"),
    "array": ("[]\n", "application/json"),
    "object": ('{"message": "Please log in"}\n', "application/json"),
    "nulls": ('{"metadata": null, "items": null, "status": "Success"}\n', "application/json"),
}


@pytest.mark.parametrize(
    ("page", "election"),
    [
        ("html", "alone"),
        pytest.param("array", "alone", marks=long),
        ("object", "elected"),
        pytest.param("nulls", "alone", marks=long),
    ],
)
def test_a_proxy_that_answers_what_no_api_server_does(
    drill: Drill, page: str, election: str
) -> None:
    cast, gate = Cast.enter(drill), proxy(drill)
    flags = ["--no-leader-elect"] if election == "alone" else []
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, *flags, gate=gate)
        cast.wait_before()
        gate.page = PAGES[page]
        gate.cut_watches()
        cast.change_wazzup()
        cast.change_objects()
        lasted = lasting(15, at_least=13 if election == "elected" else 5)
        throughout(lasted, lambda: True, "it answers nonsense")
        pages = len(gate.pages)
        assert 3 <= pages <= 20 + 2 * lasted
        gate.page = None
        recovery = cast.wait_after()
        measured(f"{page} for {lasted:g} s, {election}", recovery=recovery, pages=pages)
        cast.assert_all_is_well()
        kubelet.assert_healthy()
        assert kubelet.ended == ([] if election == "alone" else [("replica-1", 1)])
    assert_told(replica, "cannot be followed", times=1 + len(kubelet.ended))
    assert "Traceback" not in replica.log()
    assert told_of_the_account(drill) == {"UpToDate"}


@pytest.mark.parametrize("election", [pytest.param("alone", marks=long), "elected"])
def test_rights_that_are_taken_away_and_given_back(drill: Drill, election: str) -> None:
    cast, gate = Cast.enter(drill), proxy(drill)
    flags = ["--no-leader-elect"] if election == "alone" else []
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, *flags, gate=gate)
        cast.wait_before()
        with without_rights(drill):
            # A watch that is open goes on; it has to be begun anew to be refused.
            gate.cut_watches()
            before = len(gate.requests)
            cast.change_wazzup()
            cast.change_objects()
            lasted = lasting(20, at_least=13 if election == "elected" else 6)
            sentence = "The operator may not list and watch wazzupchannels; grant it these rights"
            begun = time.monotonic()
            eventually(lambda: sentence in replica.log(), "it says what is missing", PATIENCE)
            if election == "elected":
                eventually(lambda: kubelet.ended, "the leader has ended", PATIENCE)
                eventually(
                    lambda: (
                        replica.probe("/readyz")[0] == 503
                        and "may not list and watch" in replica.probe("/readyz")[1]
                    ),
                    "started again, it says why it knows nothing",
                    PATIENCE,
                )
            throughout(lasted - (time.monotonic() - begun), lambda: True, "it has no rights")
            requests = len(gate.requests) - before
            assert 4 <= requests <= 25 + 2 * lasted
        recovery = cast.wait_after()
        measured(f"no rights for {lasted:g} s, {election}", recovery=recovery, requests=requests)
        cast.assert_all_is_well()
        eventually(lambda: replica.probe("/readyz")[0] == 200, "it is ready", PATIENCE)
        kubelet.assert_healthy()
        assert kubelet.ended == ([] if election == "alone" else [("replica-1", 1)])
    assert_told(replica, sentence, times=1 + len(kubelet.ended))


@contextmanager
def without_rights(drill: Drill) -> Iterator[None]:
    operator = Api(drill.plane.kubeconfig_for(drill.operator), drill.api.namespace)

    def forbidden() -> bool:
        try:
            operator.list("wazzupchannel")
        except ApiError as error:
            return error.status == 403
        return False

    bindings = drill.bindings()
    for path, body in bindings:
        drill.api.request("DELETE", f"{path}/{body['metadata']['name']}")
    try:
        eventually(forbidden, "it has no rights")
        yield
    finally:
        for path, body in bindings:
            drill.api.request(
                "POST", path, {**body, "metadata": {"name": body["metadata"]["name"]}}
            )
        eventually(lambda: not forbidden(), "it has its rights")


CRDS = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"
KINDS = ("wazzupchannels", "wazzupaccounts")


@pytest.mark.parametrize("seen", [pytest.param("seen", marks=long), "unseen"])
def test_crds_that_are_deleted_and_applied_again(drill: Drill, seen: str) -> None:
    """All objects go with them. Unseen: the way to the API server was broken meanwhile."""
    cast, gate = Cast.enter(drill, reasons={"AccountNotFound"}), proxy(drill)
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, "--no-leader-elect", gate=gate)
        cast.wait_before()
        begun = len(gate.requests)
        if seen == "unseen":
            gate.close()
        with without_kinds(drill.plane):
            cast.change_wazzup()
            if seen == "seen":
                cast.wait_counted({})
                sentence = "does not know wazzupchannels of this version; apply the CRDs (crds/)"
                eventually(lambda: sentence in replica.log(), "it says what is missing", PATIENCE)
                lasted = lasting(15, at_least=4)
                before = len(gate.requests)
                throughout(lasted, lambda: True, "the kinds are gone")
                requests = len(gate.requests) - before
                assert requests <= 10 + lasted
        anew(cast)
        if seen == "unseen":
            gate.open()
        recovery = cast.wait_after()
        measured(f"CRDs deleted and applied again, {seen}", recovery=recovery)
        cast.assert_all_is_well()
        kubelet.assert_nothing_ended()
        assert len(lists(gate.requests[begun:])) <= 20
    assert_told(replica, *([sentence] if seen == "seen" else []))


def anew(cast: Cast) -> None:
    """Make everything anew as AFTER expects it: main-3 is not there any more, main-8 is new."""
    api = cast.drill.api
    api.create(
        {
            "apiVersion": "wazzup.dev/v1",
            "kind": "WazzupAccount",
            "metadata": {"name": "main"},
            "spec": {"apiKeySecretRef": {"name": "main"}, "pollInterval": "5s"},
        }
    )
    for number in (0, 1, 2, 5, 6, 7):
        api.create(cast.site.body(number, active=number not in (5, 6)))
    cast.create("main-4", 8)
    cast.create("main-8", 9)


@contextmanager
def without_kinds(plane: ControlPlane) -> Iterator[None]:
    api = Api(plane.kubeconfig)

    def gone(kind: str) -> bool:
        try:
            api.request("DELETE", f"{CRDS}/{kind}.wazzup.dev")
        except ApiError as error:
            if error.status == 404:
                return True
            raise
        return False

    try:
        for kind in KINDS:
            eventually(lambda kind=kind: gone(kind), f"{kind} are gone", PATIENCE)
        yield
    finally:
        for kind in KINDS:
            if gone(kind):
                body = yaml.safe_load((ROOT / "crds" / f"{kind}.yaml").read_text())
                api.request("POST", CRDS, body)
        eventually(lambda: served(api), "the kinds are served", PATIENCE)
