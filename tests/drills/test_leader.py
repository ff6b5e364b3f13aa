"""Leaders that are killed, terminated, suspended or disconnected in the middle of a burst.

A burst is 1,000 new objects, or an account that runs out of money, so that one listing changes all
its channels.
"""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.drills.drill import Drill, Replica
from tests.drills.duration import SCALE, lasting
from tests.drills.figures import measured
from tests.drills.leaders import (
    ACTIVE,
    BRIEF,
    DEFAULT,
    NOT_PAID,
    PATIENCE,
    SCAN,
    STALE_AFTER,
    STILL_ACTIVE,
    WINDOW,
    Money,
    Probes,
    States,
    acts,
    assert_leaders,
    assert_once,
    channels,
    errors,
    first,
    last,
    leader_and_standby,
    wait_leads,
    wait_listed,
    wait_until,
    wait_written,
)
from tests.integration.harness.api import eventually

pytestmark = pytest.mark.timeout(600)
IN_FLIGHT = 16
"""PATCHes in flight at once."""

HANDOVER = 3.0
"""Maximum seconds from a leader's SIGTERM to the first write of its successor."""

CASES = (
    ("active", ACTIVE),
    ("qridle", SCAN),
    ("disabled", ("Off", "False", "Off")),
    (None, ("NotAdded", "False", "NotAdded")),
)
"""API state and expected state of every fourth object of a burst."""


class Burst:
    """1,000 objects, not created yet, and their channels in Wazzup."""

    size = 1000

    def __init__(self, drill: Drill) -> None:
        self.drill = drill
        self.site = site = drill.site("burst", ())
        cases = [CASES[n % len(CASES)] for n in range(self.size)]
        self.expected: States = {f"burst-{n}": status for n, (_, status) in enumerate(cases)}
        rows = {site.phone(n)[1:]: shown for n, (shown, _) in enumerate(cases)}
        drill.simulator.add_channels(
            [{"phone": phone, "state": shown} for phone, shown in rows.items() if shown], site.id
        )
        drill.numbers |= rows.keys()
        self.truth = drill.truth(window=WINDOW, stale_after=STALE_AFTER)

    @contextmanager
    def created(self) -> Iterator[Future[None]]:
        """Create all objects while the block runs."""
        bodies = [self.site.body(n) for n in range(self.size)]
        with ThreadPoolExecutor(1) as thread:
            creation = thread.submit(self.drill.create_all, bodies)
            yield creation
            creation.result(PATIENCE)

    def wait_begun(self) -> None:
        """Wait until some statuses are written, and not most."""
        eventually(lambda: self.truth.writes().total() >= 300, "300 are written", PATIENCE)
        assert self.truth.writes().total() < 900, "the burst was over too soon"

    def assert_written_once(self) -> None:
        """Check that each object was written once, by the leader or its successor."""
        writes = self.truth.written()
        assert_once(self.drill, writes, self.expected)
        # Each replaced the status that the CRD gives to a new object.
        assert all(each.before == {"observedGeneration": -1} for each in writes)


@pytest.mark.parametrize("way", ["killed", "terminated"])
def test_a_leader_that_ends_in_a_burst(drill: Drill, way: str) -> None:
    burst = Burst(drill)
    leader, standby = leader_and_standby(drill)
    with Probes(standby) as probes:
        with burst.created():
            burst.wait_begun()
            ended = time.time()
            if way == "killed":
                leader.kill()
            else:
                assert leader.stop() == 0
        acquired = wait_leads(drill, standby)
        wait_written(drill, standby, burst.expected)
    if way == "terminated":
        assert "gave up the Lease" in leader.log()
        assert not errors(leader.log())
    probes.assert_ready(standby)
    probes.assert_silent_until(acquired, standby)

    writes = burst.truth.written()
    began = first(writes, standby)
    measured(
        f"leader {way} in a burst of 1,000",
        written_before=burst.truth.writes()[leader.name],
        successor_has_the_lease=acquired - ended,
        successor_writes=began - ended,
        last_object_written=last(writes, standby) - ended,
        conflicts=burst.truth.refused().total(),
    )
    assert last(writes, leader) < acquired < began
    assert began - ended <= (DEFAULT.takeover if way == "killed" else HANDOVER)
    burst.assert_written_once()
    assert_counted(drill)
    assert_leaders(drill, leader, standby)
    burst.truth.assert_true()


def assert_counted(drill: Drill) -> None:
    """Check that the account counts the burst's channels."""
    expected = {"declared": 1000, "observed": 750, "ready": 250}
    eventually(
        lambda: drill.status("burst", "wazzupaccount").get("channels") == expected,
        f"the account counts {expected}",
        PATIENCE,
    )


class Suspended:
    """A leader that is suspended, and resumed much later."""

    def __init__(self, drill: Drill, leader: Replica) -> None:
        self.drill, self.leader = drill, leader
        self.log = len(leader.log())
        self.at = time.time()
        leader.suspend()
        self.tried = Counter[int]()
        """Status codes of the writes that it tried after it was resumed."""

    def resume(self) -> None:
        """Resume it; it must exit at once with one line in the log."""
        resumed = time.time()
        self.leader.resume()
        assert self.leader.wait(10) == 1
        ended = time.time()
        said = errors(self.leader.log()[self.log :])
        assert len(said) == 1, said
        assert "was not renewed within" in said[0]
        assert "exiting" in said[0]
        self.tried.update(
            each.code
            for each in acts(self.drill)
            if each.replica == self.leader.name
            and each.writes
            and resumed <= each.time <= ended + 1
        )

    def assert_wrote_nothing(self) -> None:
        # 504: it exited before the answer, and the status may be stored.
        taken = sum(count for code, count in self.tried.items() if code not in {404, 409})
        assert not taken, f"{self.leader.name} wrote {taken} statuses after it was resumed"


def test_a_leader_suspended_for_forty_seconds(drill: Drill) -> None:
    money = Money(drill, 400)
    leader, standby = leader_and_standby(drill)
    wait_written(drill, leader, money.all(ACTIVE))

    money.run_out()
    suspended = Suspended(drill, leader)
    lasted = lasting(40, at_least=25)
    # Its listing and its objects become outdated.
    money.pay()
    for number in range(10):
        drill.api.patch("wazzupchannel", f"money-{number}", {"spec": {"active": False}})
    for number in range(390, 400):
        drill.api.delete("wazzupchannel", f"money-{number}")
        drill.api.create(money.site.body(number))
    for number in range(300, 310):
        money.site.show(number, "qridle")
    expected = {
        **money.all(ACTIVE),
        **{f"money-{n}": STILL_ACTIVE for n in range(10)},
        **{f"money-{n}": SCAN for n in range(300, 310)},
    }
    acquired = wait_leads(drill, standby)
    wait_written(drill, standby, expected)
    before = versions(drill)
    began = first(money.truth.written(), standby)
    wait_until(suspended.at + lasted)
    suspended.resume()

    after = versions(drill)
    measured(
        f"SIGSTOP of the leader in a burst, for {lasted:g} s",
        written_before=money.truth.writes()[leader.name],
        successor_has_the_lease=acquired - suspended.at,
        successor_writes=began - suspended.at,
        tried_late=suspended.tried.total(),
        conflicts=money.truth.refused().total(),
    )
    suspended.assert_wrote_nothing()
    assert after == before, "an outdated status was written"
    # The successor finds nothing to correct.
    wait_listed(money.site, 1)
    assert versions(drill) == before
    assert last(money.truth.written(), leader) < acquired < began
    assert began - suspended.at <= DEFAULT.takeover
    assert_leaders(drill, leader, standby)
    money.truth.assert_true()


def versions(drill: Drill) -> dict[str, str]:
    return {
        each["metadata"]["name"]: each["metadata"]["resourceVersion"]
        for each in drill.api.list("wazzupchannel")
    }


@pytest.mark.parametrize("way", ["frozen", "closed"])
def test_a_leader_disconnected_from_the_api_server(drill: Drill, way: str) -> None:
    """It exits before another replica leads, in the middle of a burst."""
    money, gate = Money(drill, 300), drill.gate(1)
    durations = DEFAULT if SCALE >= 1 else BRIEF
    leader, standby = leader_and_standby(drill, *durations.flags, gate=gate)
    wait_written(drill, leader, money.all(ACTIVE))
    with Probes(standby) as probes:
        money.run_out()
        cut = time.time()
        if way == "frozen":
            gate.freeze()
        else:
            gate.close()
        for number in range(10):
            drill.api.patch("wazzupchannel", f"money-{number}", {"spec": {"active": False}})
        assert leader.wait(durations.deadline + 5) == 1
        ended = time.time()
        acquired = wait_leads(drill, standby)
        gate.thaw() if way == "frozen" else gate.open()
        expected = {
            **money.all(NOT_PAID),
            **{f"money-{n}": ("NotPaidFor", "True", "NotConnected") for n in range(10)},
        }
        wait_written(drill, standby, expected)
    probes.assert_ready(standby)
    probes.assert_silent_until(acquired, standby)
    said = errors(leader.log())
    assert len(said) == 1, said
    assert f"was not renewed within {durations.deadline:g} s" in said[0]
    assert "exiting" in said[0]

    writes = money.truth.written()
    began = first(writes, standby)
    measured(
        f"API server {way} for the leader",
        written_before=money.unpaid(),
        last_write_of_the_old_one=last(writes, leader) - cut,
        old_one_exited=ended - cut,
        successor_has_the_lease=acquired - cut,
        successor_writes=began - cut,
        conflicts=money.truth.refused().total(),
    )
    assert last(writes, leader) < ended < acquired < began
    assert began - cut <= durations.takeover

    leader.start()
    leader.wait_ready()
    wait_listed(money.site, 1)
    assert not channels(leader)
    late = [each for each in acts(drill) if each.replica == leader.name and each.time > ended]
    assert not [each for each in late if each.writes]
    assert_leaders(drill, leader, standby)
    money.truth.assert_true()
