"""Writes that are throttled, fail or lose their answer."""

import time
from collections import Counter

import pytest

from tests.drills.drill import Drill
from tests.drills.duration import lasting
from tests.drills.figures import measured
from tests.drills.gate import Seen
from tests.drills.outage import (
    ACTIVE,
    AFTER,
    PATIENCE,
    Cast,
    Kubelet,
    account_reasons,
    assert_logged,
    long,
    patches,
    proxy,
    throughout,
)
from tests.integration.harness.api import eventually

pytestmark = pytest.mark.timeout(600)


def assert_waited(seen: list[Seen], seconds: float) -> None:
    """Check that each request refused with 429 was retried after this many seconds."""
    refused: dict[tuple[str, str, bool], float] = {}
    for each in seen:
        key = each.method, each.path.split("?")[0], "watch=1" in each.path
        if key in refused:
            waited = each.time - refused.pop(key)
            assert waited >= seconds - 0.05, f"{each} came after {waited:.2f} s"
        if each.status == 429:
            refused[key] = each.time


@pytest.mark.parametrize("retry_after", [2, pytest.param(12, marks=long)])
def test_an_api_server_that_answers_429(drill: Drill, retry_after: int) -> None:
    cast, gate = Cast.create(drill), proxy(drill)
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
            until_all_written=time.monotonic() - begun,
            patches=len(patches(seen)),
        )
        assert all(rule.left == 0 for rule in refused)
        assert_waited(seen, retry_after)
        cast.assert_recovered()
        kubelet.assert_nothing_exited()
    assert_logged(replica)


def test_a_delayed_write_is_planned_again(drill: Drill) -> None:
    """The plan may be outdated after the wait; other objects do not wait."""
    cast, gate = Cast.create(drill), proxy(drill)
    with Kubelet(drill) as kubelet:
        drill.replica(1, "--no-leader-elect", gate=gate)
        cast.wait_before()
        wait = {"Retry-After": "4"}
        refused = gate.answer(429, method="PATCH", path="/main-1/", headers=wait, times=3)
        cast.site.show(1, "qridle")
        eventually(lambda: refused.hits, "the write is refused", PATIENCE)
        begun = time.monotonic()
        cast.site.show(1, "active")
        drill.api.patch("wazzupchannel", "main-5", {"spec": {"active": False}})
        drill.wait_states({"main-5": ("Active", "False", "StillActive")}, PATIENCE)
        took = time.monotonic() - begun
        measured("another object of an account while one waits", until_written=took)
        throughout(
            3 * 4 + 2 - took,
            lambda: drill.states()["main-1"] == ACTIVE,
            "main-1 keeps its correct status",
        )
        kubelet.assert_nothing_exited()
    cast.truth.assert_true()
    assert took < 6, "it waited for the other one"


def test_an_api_server_that_fails_writes_then_secrets(drill: Drill) -> None:
    """A failed read of the Secret is not reported as a missing Secret."""
    cast, gate = Cast.create(drill), proxy(drill)
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, "--no-leader-elect", gate=gate)
        cast.wait_before()
        before, begun = len(gate.requests), time.monotonic()
        lasted = lasting(20, at_least=6)
        failing = gate.answer(500, method="PATCH", message="etcdserver: request timed out")
        cast.change_wazzup()
        cast.change_objects()
        eventually(lambda: failing.hits >= 5, "writes fail with 500", PATIENCE)
        gate.clear()
        gate.answer(503, method="PATCH")
        throughout(lasted - (time.monotonic() - begun), lambda: True, "writes fail")
        tries = len(patches(gate.requests[before:]))
        assert 5 <= tries <= 10 + 3 * lasted
        gate.clear()
        secrets = gate.answer(503, method="GET", path="/secrets/", times=3)
        drill.api.request_listing("main")
        recovery = cast.wait_after()
        measured(f"500 and 503 for {lasted:g} s", recovery=recovery, tries=tries)
        eventually(lambda: secrets.left == 0, "the Secret is read again", PATIENCE)
        cast.assert_recovered()
        kubelet.assert_nothing_exited()
    assert_logged(replica, "Cannot write the status", "the API server refused (500)")
    assert account_reasons(drill) == {"UpToDate"}


def test_writes_whose_answers_are_lost(drill: Drill) -> None:
    """They are not repeated: the watch delivers the result."""
    cast, gate = Cast.create(drill), proxy(drill)
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, "--no-leader-elect", gate=gate)
        cast.wait_before()
        eventually(
            lambda: drill.status("main", "wazzupaccount").get("channels"),
            "the account is written, too",
            PATIENCE,
        )
        before = len(cast.truth.written())
        gate.loses = "PATCH"
        cast.change_wazzup()
        cast.change_objects()
        recovery = cast.wait_after()
        # Nothing is written again.
        throughout(lasting(15, at_least=6), lambda: True, "answers are lost")
        gate.loses = ""
        written = Counter(write.name for write in cast.truth.written()[before:])
        measured("answers lost", recovery=recovery, lost=len(gate.lost))
        assert gate.lost
        # main-4 may have been written twice: before and after it was recreated.
        assert {name for name, count in written.items() if count > 1} <= {"main-4"}
        assert set(written) - {"main-3"} == set(AFTER) - {"main-0"}
        cast.assert_recovered()
        kubelet.assert_nothing_exited()
    assert_logged(replica, "Cannot write the status")
