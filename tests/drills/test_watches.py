"""Watches that are cut, expire, deliver errors or go silent."""

import time
from dataclasses import dataclass, field

import pytest

from tests.drills.drill import Drill, Site
from tests.drills.duration import SCALE, lasting
from tests.drills.figures import measured
from tests.drills.gate import Seen, status_body
from tests.drills.outage import (
    ACTIVE,
    PATIENCE,
    SCAN,
    STALE_AFTER,
    WINDOW,
    Cast,
    Kubelet,
    assert_logged,
    lists,
    patches,
    proxy,
    throughout,
)
from tests.integration.harness.api import Api, channel, eventually

pytestmark = pytest.mark.timeout(600)
SILENCE = 150.0


def watches(seen: list[Seen]) -> list[Seen]:
    return [each for each in seen if "watch=1" in each.path]


SHOWN = {
    ("active", True): ACTIVE,
    ("qridle", True): SCAN,
    ("active", False): ("Active", "False", "StillActive"),
    ("qridle", False): ("ScanQRCode", "True", "NotConnected"),
}
NUMBERS = 8
"""Objects in the stream of changes; each alternates between two numbers."""


@dataclass
class Stream:
    """A stream of changes to objects and channels, and the expected result."""

    site: Site
    steps: int = 0
    shown: list[str] = field(default_factory=lambda: ["active"] * 2 * NUMBERS)
    """API state of each channel."""

    declared: dict[int, tuple[int, bool]] = field(
        default_factory=lambda: {n: (n, True) for n in range(NUMBERS)}
    )
    """Number and spec.active of each object."""

    def step(self) -> None:
        """Change the next object or channel."""
        object_, round_ = self.steps % NUMBERS, self.steps // NUMBERS
        self.steps += 1
        if object_ not in self.declared:
            # With its other number.
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


def test_watches_cut_every_five_seconds_under_a_stream_of_changes(drill: Drill) -> None:
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
            # The pace of the changes; this waits for nothing.
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
            "every object is counted once",
            PATIENCE,
        )
        assert {body["metadata"]["name"] for body in drill.api.list("wazzupchannel")} == {
            *stream.expected()
        }
        kubelet.assert_nothing_exited()
        seen = gate.requests[before:]
        relists = len(lists(seen)) + len(lists(seen, "wazzupaccounts"))
        # One list after each end.
        assert relists <= 2 * cuts + expired
        assert len(watches(seen)) <= 4 * cuts + expired
    truth.assert_true()
    assert_logged(replica, times=expired)


def test_a_list_that_expires_between_its_pages(drill: Drill) -> None:
    """It restarts from the first page of 500 objects, with backoff."""
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
        eventually(lambda: replica.count("wazzup_channels") == 514, "514 are counted", PATIENCE)
        assert len(lists(gate.requests)) == 12
        kubelet.assert_nothing_exited()
    truth.assert_true()


def test_an_error_event_of_another_kind(drill: Drill) -> None:
    """Both kinds are listed once more after each, with backoff."""
    cast, gate = Cast.create(drill), proxy(drill)
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, "--no-leader-elect", gate=gate)
        cast.wait_before()
        before = len(gate.requests)
        errors = [status_body(500, "etcdserver: no leader"), status_body(504), {"kind": "Status"}]
        for error in errors:
            eventually(lambda: gate.watches == 2, "both watches are open", PATIENCE)
            assert gate.inject({"type": "ERROR", "object": error}) == 2
            eventually(lambda: gate.watches < 2, "the operator closes a watch", PATIENCE)
        cast.change_wazzup()
        cast.change_objects()
        recovery = cast.wait_after()
        measured("three ERROR events", recovery=recovery)
        seen = gate.requests[before:]
        assert len(lists(seen)) == len(errors)
        assert len(lists(seen, "wazzupaccounts")) <= len(errors)
        assert len(watches(seen)) <= 2 * len(errors) + 2
        cast.assert_recovered()
        kubelet.assert_nothing_exited()
    assert_logged(replica, "the API server refused (500)")


def test_error_events_that_recur(drill: Drill) -> None:
    """Each watch gets one as soon as it is open; lists and watches back off."""
    cast, gate = Cast.create(drill), proxy(drill)
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, "--no-leader-elect", gate=gate)
        cast.wait_before()
        before = len(gate.requests)
        error = {"type": "ERROR", "object": status_body(500, "etcdserver: no leader")}
        lasted = lasting(30, at_least=10)
        throughout(lasted, lambda: gate.inject(error) >= 0, "errors are injected")
        seen = gate.requests[before:]
        assert 4 <= len(watches(seen)) <= 20 + lasted
        assert len(lists(seen)) <= 10 + lasted / 2
        cast.change_wazzup()
        cast.change_objects()
        recovery = cast.wait_after()
        measured(f"ERROR events for {lasted:g} s", recovery=recovery, watches=len(watches(seen)))
        cast.assert_recovered()
        kubelet.assert_nothing_exited()
    assert_logged(replica, "the API server refused (500)")


@pytest.mark.skipif(
    SCALE < 1, reason="only at full durations: a silent watch times out after 150 s"
)
def test_a_silent_watch(drill: Drill) -> None:
    cast, gate = Cast.create(drill), proxy(drill)
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
        assert len(lists(seen)) == 1
        assert len(lists(seen, "wazzupaccounts")) <= 1
        assert len(watches(seen)) <= 2
        assert len(patches(seen)) <= 40
        cast.assert_recovered()
        kubelet.assert_nothing_exited()
    assert not cast.truth.written(state="Unknown")
    assert_logged(replica, "Cannot list or watch wazzupchannels")
