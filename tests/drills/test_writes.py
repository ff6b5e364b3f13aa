"""Writes that have to wait, fail, or lose their answer."""

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
    assert_told,
    long,
    patches,
    proxy,
    throughout,
    told_of_the_account,
)
from tests.integration.harness.api import eventually

pytestmark = pytest.mark.timeout(600)


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
    assert_told(replica, "Cannot write the status", timed_out)
    assert told_of_the_account(drill) == {"UpToDate"}


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
    assert_told(replica, "Cannot write the status")
