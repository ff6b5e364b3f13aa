"""Steps of the wall clock, on the leader and on the standby."""

import os
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.drills.drill import Drill, Replica
from tests.drills.duration import lasting
from tests.drills.leaders import (
    ACTIVE,
    DEFAULT,
    SCAN,
    STALE_AFTER,
    STILL_ACTIVE,
    WINDOW,
    States,
    assert_leaders,
    seconds,
    wait_leads,
    wait_listed,
    wait_until,
    wait_written,
)
from tests.integration.harness.api import JSON, eventually

pytestmark = pytest.mark.timeout(600)
HOUR = 3600


@dataclass
class Clock:
    """A replica's own wall clock, by libfaketime."""

    library: Path
    file: Path
    replica: Replica | None = field(default=None)

    def __post_init__(self) -> None:
        self._write(0)

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: int) -> None:
        """Set how many seconds the replica's clock is ahead of the machine's."""
        self._write(offset)
        eventually(lambda: abs(self.read() - offset) < 5, f"the clock is {offset} s ahead")

    def read(self) -> float:
        """Return the seconds that the replica's Date header is ahead."""
        assert self.replica
        with urllib.request.urlopen(
            f"http://{self.replica.health_address}/readyz", timeout=10
        ) as answer:
            date = parsedate_to_datetime(answer.headers["Date"])
        return date.timestamp() - time.time()

    def _write(self, offset: int) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(f"{offset:+d}\n")
        new.rename(self.file)


@pytest.fixture
def libfaketime() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if found:
        return found[0]
    sentence = "libfaketime is missing: apt-get install faketime"
    if os.environ.get("CI") == "true":
        pytest.fail(sentence)
    pytest.skip(sentence)


def test_steps_of_an_hour(drill: Drill, libfaketime: Path) -> None:
    """Both replicas step forward and back; then a new leader is an hour ahead."""
    site = drill.site("clock", ("active", "qridle", "qridle", "disabled"))
    truth = drill.truth(window=WINDOW, stale_after=STALE_AFTER)
    clocks = [Clock(libfaketime, drill.directory / f"clock-{n}") for n in (1, 2)]
    leader = clocks[0].replica = drill.replica(1, environment=clocks[0].environment)
    wait_leads(drill, leader)
    standby = clocks[1].replica = drill.replica(2, environment=clocks[1].environment)
    standby.wait_ready()
    expected: States = {
        "clock-0": ACTIVE,
        "clock-1": SCAN,
        "clock-2": SCAN,
        "clock-3": ("Off", "False", "Off"),
    }
    wait_written(drill, leader, expected)
    eventually(lambda: drill.condition("clock", "Ready", "wazzupaccount"), "the account is written")
    lasted = lasting(10, at_least=2 * DEFAULT.period + 1)
    steps = ((HOUR, 0, "active"), (0, HOUR, "qridle"), (-HOUR, 0, "active"), (0, -HOUR, "qridle"))
    for *offsets, shown in steps:
        before, untouched, begun = len(truth.written()), waiting(drill), time.time()
        for clock, offset in zip(clocks, offsets, strict=True):
            clock.set(offset)
        # A channel and an object change; nothing else is written.
        site.show(1, shown)
        active = shown == "qridle"
        drill.api.patch("wazzupchannel", "clock-0", {"spec": {"active": active}})
        expected |= {
            "clock-0": ACTIVE if active else STILL_ACTIVE,
            "clock-1": ACTIVE if shown == "active" else SCAN,
        }
        wait_written(drill, leader, expected, 20)
        assert_log_is_off_by(offsets[0], leader)
        wait_until(begun + lasted)
        written = Counter(each.name for each in truth.written()[before:])
        assert written == {"clock-0": 1, "clock-1": 1}
        assert waiting(drill) == untouched
        assert_times_are_right(drill, begun)
        assert_leaders(drill, leader)
        for clock, offset in zip(clocks, offsets, strict=True):
            assert abs(clock.read() - offset) < 5, "the clock changed by itself"
    for step in ("+3600", "-3600"):
        assert leader.log().count(f"the machine's clock stepped by {step} s") == 1

    clocks[1].set(HOUR)
    before, untouched, begun = len(truth.written()), waiting(drill), time.time()
    assert leader.stop() == 0
    wait_leads(drill, standby)
    site.show(1, "active")
    drill.wait_states(expected | {"clock-1": ACTIVE}, 20)
    wait_listed(site, 1)
    assert_log_is_off_by(HOUR, standby)
    assert [each.name for each in truth.written()[before:]] == ["clock-1"]
    assert waiting(drill) == untouched
    assert_times_are_right(drill, begun)
    assert_leaders(drill, leader, standby)
    truth.assert_true()


def waiting(drill: Drill) -> JSON:
    """Return the object that stays Reconciling."""
    found = drill.api.get("wazzupchannel", "clock-2")
    types = {each["type"]: each["status"] for each in found["status"]["conditions"]}
    assert types["Reconciling"] == "True"
    assert "Stalled" not in types
    return found


def assert_log_is_off_by(offset: int, replica: Replica) -> None:
    """Check that the log has the replica's time."""
    stamp = replica.log().splitlines()[-1].split(" ")[0]
    logged = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    assert abs(logged - time.time() - offset) < 60


def assert_times_are_right(drill: Drill, begun: float) -> None:
    """Check that statuses written since then have the machine's time."""
    now = time.time()
    changed = drill.status("clock-1")
    (ready,) = [each for each in changed["conditions"] if each["type"] == "Ready"]
    for moment in (changed["stateSince"], ready["lastTransitionTime"]):
        assert begun - 5 <= seconds(moment) <= now + 5
    assert now - 600 <= seconds(drill.status("clock", "wazzupaccount")["lastSyncTime"]) <= now + 5
