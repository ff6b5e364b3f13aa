"""Faults of Wazzup: no status is ever wrong, and everything recovers by itself.

Each fault has its own account, so that all occur at the same time.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

import pytest

from tests.drills.drill import Drill, Site
from tests.drills.duration import lasting
from tests.drills.judge import GONE
from tests.drills.truth import Truth
from tests.integration.harness.api import conditions, eventually, secret

T = TypeVar("T")

WINDOW = 10.0
"""Seconds from a listing to its status; polls come every 5 s."""

TIME_LIMIT = 30.0
"""Seconds until the operator's request times out."""

RECOVERY = 90.0
"""Seconds: the longest wait between two attempts is 60 s."""

LATE = 8.0
"""Seconds that Unknown may come after staleAfter."""

ACTIVE = ("Active", "True", "Active")
SCAN = ("ScanQRCode", "False", "ScanQRCode")
NOT_ADDED = ("NotAdded", "False", "NotAdded")
NO_PHONE = ("NoConnectionWithPhone", "False", "NoConnectionWithPhone")

Do = Callable[[Site], None]


def fault(kind: str, **parameters: object) -> Callable[[float], Do]:
    """Return how to start this fault for some seconds; it ends by itself."""

    def of(seconds: float) -> Do:
        return lambda site: site.fault(kind, seconds=seconds, **parameters)

    return of


def revoke(site: Site) -> None:
    """Revoke the key in the Secret."""
    site.drill.simulator.change_account(site.id, keys=[f"{site.key}-new"])


def restore(site: Site) -> None:
    site.drill.simulator.change_account(site.id, keys=[site.key])


def use_the_new_key(site: Site) -> None:
    site.set_key(f"{site.key}-new")


def delete_secret(site: Site) -> None:
    """Delete the Secret, and request a listing, which reads it."""
    site.drill.api.delete("secret", site.name)
    site.drill.api.request_listing(site.name)


def create_secret(site: Site) -> None:
    site.drill.api.create(secret(site.key, site.name))


def nothing(site: Site) -> None:
    """Do nothing: the fault ends by itself."""


class Outage(NamedTuple):
    """A reason for having no listing, and the account's reason meanwhile."""

    begin: Callable[[float], Do]
    end: Do = nothing
    reason: str = "AccountUnreachable"


OUTAGES = {
    "too-many": Outage(fault("status", code=429)),
    "down": Outage(fault("status", code=500, body={"error": "INTERNAL"})),
    "refused": Outage(fault("refuse")),
    "wrapped": Outage(fault("wrapped")),
    "revoked": Outage(lambda _: revoke, restore, "CredentialsInvalid"),
    "new-key": Outage(lambda _: revoke, use_the_new_key, "CredentialsInvalid"),
    "no-secret": Outage(lambda _: delete_secret, create_secret, "SecretNotFound"),
}


SHORT = {**OUTAGES, "empty": Outage(fault("empty"))}
"""Outages that keep the states. Empty listings count from staleAfter on."""


def written_states(truth: Truth, name: str) -> list[str]:
    """Return the states written to an object, in order."""
    return [state for state, _ in groupby(each.status["state"] for each in truth.written(name))]


def check_written(truth: Truth, expected: dict[str, list[str]]) -> None:
    found = {name: written_states(truth, name) for name in expected}
    assert found == expected


@pytest.mark.timeout(600)
def test_short_faults_change_no_channel(drill: Drill) -> None:
    """Outages shorter than staleAfter and incomplete listings: at most the account reports them."""
    broken = lasting(60, at_least=8)
    pause = round(lasting(30, at_least=6))
    expected: dict[str, tuple[str | None, str, str]] = {}
    written: dict[str, list[str]] = {}
    for name in (*SHORT, "later", "hang"):
        drill.site(name, ["active", "qridle"])
        expected |= {f"{name}-0": ACTIVE, f"{name}-1": ACTIVE}
        written |= {f"{name}-0": ["Active"], f"{name}-1": ["ScanQRCode", "Active"]}
    drill.site("gone", ["active", "qridle"])
    expected |= {"gone-0": NOT_ADDED, "gone-1": SCAN}
    written |= {"gone-0": ["Active", "NotAdded"], "gone-1": ["ScanQRCode"]}
    drill.site("half", ["active"] * 10)
    expected |= {f"half-{n}": ACTIVE for n in range(10)}
    written |= {f"half-{n}": ["Active"] for n in range(10)}
    flapping = drill.site("flapping", ["active", "qridle"])
    expected |= {"flapping-0": NO_PHONE, "flapping-1": SCAN}
    written |= {"flapping-1": ["ScanQRCode"]}
    sites = {site.name: site for site in drill.sites}

    truth = drill.truth(window=WINDOW, stale_after=600)
    drill.replica(0)
    first = {"active": ACTIVE, "qridle": SCAN}
    drill.wait_states(
        {
            f"{site.name}-{n}": first[channel.row["state"]]
            for site in drill.sites
            for n, channel in enumerate(site.channels)
            if channel
        }
    )
    for site in drill.sites:
        site.wait_account("UpToDate")

    end = time.monotonic() + broken
    for name, outage in SHORT.items():
        outage.begin(broken)(sites[name])
    sites["later"].fault("status", code=429, headers={"Retry-After": str(pause)}, times=2)
    sites["hang"].fault("hang", times=1)
    for name in (*SHORT, "later", "hang"):
        sites[name].show(1, "active")
    sites["half"].fault("partial", fraction=0.5, times=1)
    deleted_at = time.time()
    sites["gone"].delete_channel(0)

    for name, outage in SHORT.items():
        sites[name].wait_account(outage.reason)
    shown = flap(flapping, end)
    for name, outage in SHORT.items():
        outage.end(sites[name])

    drill.wait_states(expected, max(RECOVERY, 2 * pause + RECOVERY))
    for site in drill.sites:
        site.wait_account("UpToDate")
    truth.assert_true()
    check_written(truth, {**written, "flapping-0": shown})
    assert truth.writes() == {"replica-0": sum(map(len, written.values())) + len(shown)}
    check_requests(sites["too-many"], broken)
    check_retry_after(sites["later"], pause)
    check_gone(sites["gone"], truth, deleted_at)


def flap(site: Site, end: float) -> list[str]:
    """Change a state after each poll until the time is over; return the expected states."""
    words = {"active": "Active", "phoneUnavailable": "NoConnectionWithPhone"}
    shown = ["active"]
    while time.monotonic() < end or shown[-1] == "active":
        shown.append("active" if shown[-1] != "active" else "phoneUnavailable")
        site.show(0, shown[-1])
        wait_listed(site)
    return [words[each] for each in shown]


def wait_listed(site: Site) -> None:
    asked = len(site.requests())
    site.wait_requests(lambda found: len(found) > asked, "the account is listed")


def check_requests(site: Site, broken: float) -> None:
    """Check that refused requests are retried with backoff."""
    refused = [each for each in site.requests() if each.fault]
    assert 2 <= len(refused) <= 3 + broken / 2
    assert {each.status for each in refused} == {429}


def check_retry_after(site: Site, pause: float) -> None:
    """Check that Retry-After is respected."""
    requests = site.requests()
    refused = [number for number, each in enumerate(requests) if each.fault]
    assert len(refused) == 2
    for number in refused:
        assert requests[number + 1].time - requests[number].time >= pause


def check_gone(site: Site, truth: Truth, deleted_at: float) -> None:
    """Check that NotAdded was written once listings had lacked the channel for 60 s."""
    (write,) = truth.written("gone-0", "NotAdded")
    lacking = [each.time for each in site.requests() if deleted_at < each.time < write.time]
    assert GONE - 1 <= lacking[-1] - lacking[0] <= GONE + WINDOW


LASTING = {**OUTAGES, "hang": Outage(fault("hang"))}
BEFORE = (ACTIVE, SCAN, NOT_ADDED)
AFTER = (ACTIVE, ACTIVE, NOT_ADDED, SCAN)
WRITTEN = (
    ["Active", "Unknown", "Active"],
    ["ScanQRCode", "Unknown", "Active"],
    ["NotAdded", "Unknown", "NotAdded"],
    ["Unknown", "ScanQRCode"],
)
"""States of an account's objects: during the outage one is unchanged, one scanned, one never added,
and one added."""


@pytest.mark.timeout(900)
def test_long_faults_make_channels_unknown(drill: Drill) -> None:
    """Known channels become Unknown after staleAfter, new ones are Unknown at once."""
    broken = lasting(300, at_least=30)
    stale_after = lasting(60, at_least=15)
    sites = {name: drill.site(name, ["active", "qridle", None]) for name in LASTING}
    fine = drill.site("fine", ["active", "qridle"])
    truth = drill.truth(window=WINDOW, stale_after=stale_after)
    drill.replica(0, f"--stale-after={stale_after:.0f}s")
    drill.wait_states({"fine-0": ACTIVE, "fine-1": SCAN, **of_each(sites, BEFORE)})
    for site in drill.sites:
        site.wait_account("UpToDate")

    end = time.monotonic() + broken
    for name, outage in LASTING.items():
        outage.begin(broken)(sites[name])
    for site in sites.values():
        site.show(1, "active")
        wait_noticed(site)
        add_another(site)
    wait_unknown(drill, truth, end, stale_after)
    for name, outage in LASTING.items():
        outage.end(sites[name])

    drill.wait_states({"fine-0": ACTIVE, "fine-1": SCAN, **of_each(sites, AFTER)}, RECOVERY)
    for site in drill.sites:
        site.wait_account("UpToDate")
    truth.assert_true()
    check_written(
        truth, {"fine-0": ["Active"], "fine-1": ["ScanQRCode"], **of_each(sites, WRITTEN)}
    )
    assert {each.fault for each in fine.requests()} == {None}
    for site in sites.values():
        check_unknown(site, truth, stale_after)


def of_each(sites: Iterable[str], values: Sequence[T]) -> dict[str, T]:
    """Return each value by the name of its object, for each account."""
    return {f"{name}-{number}": each for name in sites for number, each in enumerate(values)}


def wait_noticed(site: Site) -> None:
    """Wait until no listing from before the outage can be used for a new object."""
    if site.name == "hang":
        site.wait_requests(lambda found: found[-1].fault == "hang", "the request hangs")
    else:
        site.wait_account(LASTING[site.name].reason)


def add_another(site: Site) -> None:
    """Add a number in Wazzup and in Kubernetes during the outage."""
    number = len(site.channels)
    phone = site.phone(number)[1:]
    site.drill.numbers.add(phone)
    site.channels.append(site.drill.simulator.add_channel(phone, account=site.id, state="qridle"))
    site.drill.api.create(site.body(number))


def wait_unknown(drill: Drill, truth: Truth, end: float, stale_after: float) -> None:
    """Wait until all objects are Unknown, and check that they stay so until the end."""

    def all_unknown() -> bool:
        found = {each.name for each in truth.written(state="Unknown")}
        return found == of_each(LASTING, WRITTEN).keys()

    eventually(all_unknown, "all objects are Unknown", stale_after + TIME_LIMIT + 2 * LATE)
    # Without "hang", whose request may end at any time.
    unknown = {
        name: ("Unknown", "Unknown", outage.reason)
        for account, outage in OUTAGES.items()
        for name in of_each([account], WRITTEN)
    }

    def over() -> bool:
        found = drill.states()
        if time.monotonic() >= end:
            return True
        assert {name: found[name] for name in unknown} == unknown
        return False

    eventually(over, "the outage is over", RECOVERY + max(0.0, end - time.monotonic()))


def check_unknown(site: Site, truth: Truth, stale_after: float) -> None:
    """Check that Unknown was written once, in time, with the reason and the channel's id."""
    reason, late = LASTING[site.name].reason, LATE + (TIME_LIMIT if site.name == "hang" else 0)
    for number in (0, 1, 2):
        name = f"{site.name}-{number}"
        before, write, _ = truth.written(name)
        asked = [each.time for each in site.requests() if each.status == 200 and not each.fault]
        age = write.time - max(each for each in asked if each < write.time)
        assert stale_after <= age <= stale_after + late, f"{name} after {age:.1f} s"
        assert conditions(write.status) == {
            "Ready": ("Unknown", reason),
            "Synced": ("False", reason),
            "Reconciling": ("True", reason),
        }
        assert write.status.get("channelID") == before.status.get("channelID")
        assert "action" not in write.status


@pytest.mark.timeout(600)
def test_a_retry_after_longer_than_stale_after(drill: Drill) -> None:
    """The operator does not retry early, and channels become Unknown."""
    stale_after = lasting(60, at_least=15)
    pause = round(stale_after + lasting(60, at_least=15))
    site = drill.site("later", ["active", "qridle"])
    truth = drill.truth(window=WINDOW, stale_after=stale_after)
    drill.replica(0, f"--stale-after={stale_after:.0f}s")
    drill.wait_states({"later-0": ACTIVE, "later-1": SCAN})
    site.wait_account("UpToDate")

    site.fault("status", code=429, headers={"Retry-After": str(pause)}, times=1)
    site.show(1, "active")
    site.wait_account("AccountUnreachable")
    unknown = ("Unknown", "Unknown", "AccountUnreachable")
    drill.wait_states({"later-0": unknown, "later-1": unknown}, stale_after + 2 * LATE)
    assert site.requests()[-1].fault, "it retried too early"
    drill.wait_states({"later-0": ACTIVE, "later-1": ACTIVE}, pause + 2 * LATE)
    site.wait_account("UpToDate")

    truth.assert_true()
    check_written(
        truth,
        {
            "later-0": ["Active", "Unknown", "Active"],
            "later-1": ["ScanQRCode", "Unknown", "Active"],
        },
    )
    requests = site.requests()
    (refused,) = [number for number, each in enumerate(requests) if each.fault]
    assert requests[refused + 1].time - requests[refused].time >= pause
    for name in ("later-0", "later-1"):
        (write,) = truth.written(name, "Unknown")
        age = write.time - requests[refused - 1].time
        assert stale_after <= age <= stale_after + LATE, f"{name} after {age:.1f} s"
