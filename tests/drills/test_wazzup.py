"""Wazzup in trouble: nothing is said that was not so, and all comes back by itself.

Each account has a Wazzup of its own, so that many things are broken side by side.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

import pytest

from tests.drills.drill import Drill, Site
from tests.drills.duration import lasting
from tests.drills.truth import Truth
from tests.integration.harness.api import JSON, eventually, secret

T = TypeVar("T")

WINDOW = 10.0
"""Seconds within which a status follows the listing that it tells of; polls come each 5 s."""

TIME_LIMIT = 30.0
"""Seconds that the operator waits for Wazzup's answer."""

BACK = 90.0
"""Seconds for coming back: the longest wait between two tries is 60 s."""

LATE = 8.0
"""Seconds by which Unknown may come later than staleAfter."""

ACTIVE = ("Active", "True", "Active")
SCAN = ("ScanQRCode", "False", "ScanQRCode")
NOT_ADDED = ("NotAdded", "False", "NotAdded")
NO_PHONE = ("NoConnectionWithPhone", "False", "NoConnectionWithPhone")

Do = Callable[[Site], None]


def fault(kind: str, **parameters: object) -> Callable[[float], Do]:
    """Return how this fault is begun, for so many seconds; it ends by itself."""

    def of(seconds: float) -> Do:
        return lambda site: site.fault(kind, seconds=seconds, **parameters)

    return of


def revoke(site: Site) -> None:
    """Let Wazzup not know the key in the Secret any more."""
    site.drill.simulator.change_account(site.id, keys=[f"{site.key}-new"])


def restore(site: Site) -> None:
    site.drill.simulator.change_account(site.id, keys=[site.key])


def take_up_the_new_key(site: Site) -> None:
    site.set_key(f"{site.key}-new")


def delete_secret(site: Site) -> None:
    site.drill.api.delete("secret", site.name)


def create_secret(site: Site) -> None:
    site.drill.api.create(secret(site.key, site.name))


def nothing(site: Site) -> None:
    """Leave the end to the fault itself."""


class Outage(NamedTuple):
    """Why there is no listing, and what is said of the account meanwhile."""

    begin: Callable[[float], Do]
    end: Do = nothing
    reason: str = "AccountUnreachable"


OUTAGES = {
    "too-many": Outage(fault("status", code=429)),
    "down": Outage(fault("status", code=500, body={"error": "INTERNAL"})),
    "away": Outage(fault("status", code=503)),
    "cut": Outage(fault("cut")),
    "refused": Outage(fault("refuse")),
    "half-json": Outage(fault("malformed")),
    "html": Outage(fault("html")),
    "wrapped": Outage(fault("wrapped")),
    "null": Outage(fault("not-an-array", value=None)),
    "revoked": Outage(lambda _: revoke, restore, "CredentialsInvalid"),
    "new-key": Outage(lambda _: revoke, take_up_the_new_key, "CredentialsInvalid"),
    "no-secret": Outage(lambda _: delete_secret, create_secret, "SecretNotFound"),
}


def told(truth: Truth, name: str) -> list[str]:
    """Return the states that an object was given, one after the other."""
    return [state for state, _ in groupby(each.status["state"] for each in truth.written(name))]


def check_told(truth: Truth, expected: dict[str, list[str]]) -> None:
    found = {name: told(truth, name) for name in expected}
    assert found == expected


@pytest.mark.timeout(600)
def test_what_passes_changes_nothing(drill: Drill) -> None:
    """Shorter than staleAfter, or doubtful: told of the account at most, and made good for."""
    broken = lasting(60, at_least=8)
    pause = round(lasting(30, at_least=6))
    expected: dict[str, tuple[str | None, str, str]] = {}
    written: dict[str, list[str]] = {}
    for name in (*OUTAGES, "later", "hang"):
        drill.site(name, ["active", "qridle"])
        expected |= {f"{name}-0": ACTIVE, f"{name}-1": ACTIVE}
        written |= {f"{name}-0": ["Active"], f"{name}-1": ["ScanQRCode", "Active"]}
    for name in ("empty", "gone"):
        drill.site(name, ["active", "qridle"])
        expected |= {f"{name}-0": ACTIVE, f"{name}-1": SCAN}
        written |= {f"{name}-0": ["Active"], f"{name}-1": ["ScanQRCode"]}
    expected["gone-0"], written["gone-0"] = NOT_ADDED, ["Active", "NotAdded"]
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
    for name, outage in OUTAGES.items():
        outage.begin(broken)(sites[name])
    sites["later"].fault("status", code=429, headers={"Retry-After": str(pause)}, times=2)
    sites["hang"].fault("hang", times=1)
    for name in (*OUTAGES, "later", "hang"):
        sites[name].show(1, "active")
    sites["empty"].fault("empty", times=1)
    sites["half"].fault("partial", fraction=0.5, times=1)
    deleted_at = time.time()
    sites["gone"].delete_channel(0)

    for name, outage in OUTAGES.items():
        sites[name].wait_account(outage.reason)
    shown = flap(flapping, end)
    for name, outage in OUTAGES.items():
        outage.end(sites[name])

    drill.wait_states(expected, max(BACK, 2 * pause + BACK))
    for site in drill.sites:
        site.wait_account("UpToDate")
    truth.assert_true()
    check_told(truth, {**written, "flapping-0": shown})
    assert truth.writes() == {"replica-0": sum(map(len, written.values())) + len(shown)}
    check_requests(sites["too-many"], broken)
    check_retry_after(sites["later"], pause)
    check_gone(sites["gone"], truth, deleted_at)


def flap(site: Site, end: float) -> list[str]:
    """Change a state after each poll until the time is over; return what is to be told of it."""
    words = {"active": "Active", "phoneUnavailable": "NoConnectionWithPhone"}
    shown = ["active"]
    while time.monotonic() < end or shown[-1] == "active":
        shown.append("active" if shown[-1] != "active" else "phoneUnavailable")
        site.show(0, shown[-1])
        wait_polled(site)
    return [words[each] for each in shown]


def wait_polled(site: Site) -> None:
    asked = len(site.requests())
    site.wait_requests(lambda found: len(found) > asked, "it is polled")


def check_requests(site: Site, broken: float) -> None:
    """Whoever refuses is asked less and less often."""
    refused = [each for each in site.requests() if each.fault]
    assert 2 <= len(refused) <= 3 + broken / 2
    assert {each.status for each in refused} == {429}


def check_retry_after(site: Site, pause: float) -> None:
    """Whoever says when to come back is not asked before."""
    requests = site.requests()
    refused = [number for number, each in enumerate(requests) if each.fault]
    assert len(refused) == 2
    for number in refused:
        assert requests[number + 1].time - requests[number].time >= pause


def check_gone(site: Site, truth: Truth, deleted_at: float) -> None:
    """NotAdded with the second listing that lacks it, and not with the first."""
    (write,) = truth.written("gone-0", "NotAdded")
    listings = [each.time for each in site.requests() if deleted_at < each.time < write.time]
    assert len(listings) == 2
    assert listings[1] - listings[0] < 4, "the second listing waited for the interval"


LASTING = {**OUTAGES, "hang": Outage(fault("hang"))}
BEFORE = (ACTIVE, SCAN, ACTIVE, NOT_ADDED)
AFTER = (ACTIVE, ACTIVE, NOT_ADDED, NOT_ADDED, SCAN)
TOLD = (
    ["Active", "Unknown", "Active"],
    ["ScanQRCode", "Unknown", "Active"],
    ["Active", "Unknown", "NotAdded"],
    ["NotAdded", "Unknown", "NotAdded"],
    ["Unknown", "ScanQRCode"],
)
"""What each of an account's objects says: one stays as it was, one was scanned, one was deleted,
one never was, and one came, all of that in the outage."""


@pytest.mark.timeout(900)
def test_what_lasts_is_unknown_until_it_is_over(drill: Drill) -> None:
    """Beyond staleAfter nothing is known, and what is new is not known at all."""
    broken = lasting(300, at_least=30)
    stale_after = lasting(60, at_least=15)
    sites = {name: drill.site(name, ["active", "qridle", "active", None]) for name in LASTING}
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
        site.delete_channel(2)
        wait_noticed(site)
        add_fifth(site)
    wait_unknown(drill, truth, end, stale_after)
    for name, outage in LASTING.items():
        outage.end(sites[name])

    drill.wait_states({"fine-0": ACTIVE, "fine-1": SCAN, **of_each(sites, AFTER)}, BACK)
    for site in drill.sites:
        site.wait_account("UpToDate")
    truth.assert_true()
    check_told(truth, {"fine-0": ["Active"], "fine-1": ["ScanQRCode"], **of_each(sites, TOLD)})
    assert {each.fault for each in fine.requests()} == {None}
    for site in sites.values():
        check_unknown(site, truth, stale_after)


def of_each(sites: Iterable[str], values: Sequence[T]) -> dict[str, T]:
    """Return by the names of the objects what is so in each account."""
    return {f"{name}-{number}": each for name in sites for number, each in enumerate(values)}


def wait_noticed(site: Site) -> None:
    """Wait until a new object cannot be planned with a listing of just before the outage."""
    if site.name == "hang":
        site.wait_requests(lambda found: found[-1].fault == "hang", "it hangs")
    else:
        site.wait_account(LASTING[site.name].reason)


def add_fifth(site: Site) -> None:
    """Add a number in Wazzup and in Kubernetes, while nobody can list it."""
    phone = site.phone(4)[1:]
    site.drill.numbers.add(phone)
    site.channels.append(site.drill.simulator.add_channel(phone, account=site.id, state="qridle"))
    site.drill.api.create(site.body(4))


def wait_unknown(drill: Drill, truth: Truth, end: float, stale_after: float) -> None:
    """Wait until nothing is known any more, and see that it stays so until the end."""

    def all_unknown() -> bool:
        found = {each.name for each in truth.written(state="Unknown")}
        return found == of_each(LASTING, TOLD).keys()

    eventually(all_unknown, "all objects are Unknown", stale_after + TIME_LIMIT + 2 * LATE)
    # A request that hangs may outlast its fault by then, so of that account there is no telling.
    blind = {
        name: ("Unknown", "Unknown", outage.reason)
        for account, outage in OUTAGES.items()
        for name in of_each([account], TOLD)
    }

    def over() -> bool:
        found = drill.states()
        if time.monotonic() >= end:
            return True
        assert {name: found[name] for name in blind} == blind
        return False

    eventually(over, "the outage is over", BACK + max(0.0, end - time.monotonic()))


def check_unknown(site: Site, truth: Truth, stale_after: float) -> None:
    """Unknown came in time, once, and says why; the channel's id stays."""
    reason, late = LASTING[site.name].reason, LATE + (TIME_LIMIT if site.name == "hang" else 0)
    for number in (0, 1, 3):
        name = f"{site.name}-{number}"
        before, write, _ = truth.written(name)
        asked = [each.time for each in site.requests() if each.status == 200 and not each.fault]
        age = write.time - max(each for each in asked if each < write.time)
        assert stale_after <= age <= stale_after + late, f"{name} after {age:.1f} s"
        assert said(write.status) == {
            "Ready": ("Unknown", reason),
            "Synced": ("False", reason),
            "Reconciling": ("True", reason),
        }
        assert write.status.get("channelID") == before.status.get("channelID")
        assert "action" not in write.status


@pytest.mark.timeout(300)
def test_an_account_that_is_empty_for_good(drill: Drill) -> None:
    """NotAdded with the second listing, for as long as it lasts, and back with new channels."""
    emptied = drill.site("emptied", ["active", "qridle", "active"])
    drill.site("fine", ["active", "qridle"])
    fine = {"fine-0": ACTIVE, "fine-1": SCAN}
    truth = drill.truth(window=WINDOW, stale_after=600)
    drill.replica(0)
    before = {"emptied-0": ACTIVE, "emptied-1": SCAN, "emptied-2": ACTIVE}
    drill.wait_states({**fine, **before})
    emptied.wait_account("UpToDate")

    deleted_at = time.time()
    for number in range(3):
        emptied.delete_channel(number)
    gone = dict.fromkeys(before, NOT_ADDED)
    drill.wait_states({**fine, **gone})
    lasts_until = time.monotonic() + lasting(60, at_least=12)
    while time.monotonic() < lasts_until:
        wait_polled(emptied)
        assert drill.states() == {**fine, **gone}
        emptied.wait_account("UpToDate", 0)
    for number, state in enumerate(("active", "active", "qridle")):
        emptied.channels[number] = drill.simulator.add_channel(
            emptied.phone(number)[1:], account=emptied.id, state=state
        )
    after = {"emptied-0": ACTIVE, "emptied-1": ACTIVE, "emptied-2": SCAN}
    drill.wait_states({**fine, **after})

    truth.assert_true()
    states = (["Active", "Active"], ["ScanQRCode", "Active"], ["Active", "ScanQRCode"])
    written = {
        f"emptied-{number}": [first, "NotAdded", then]
        for number, (first, then) in enumerate(states)
    }
    check_told(truth, {"fine-0": ["Active"], "fine-1": ["ScanQRCode"], **written})
    for name in before:
        (write,) = truth.written(name, "NotAdded")
        listings = [each for each in emptied.requests() if deleted_at < each.time < write.time]
        assert len(listings) >= 2, f"{name} was not looked for twice"
    for number, name in enumerate(before):
        assert drill.status(name)["channelID"] == emptied.channel(number).id


@pytest.mark.timeout(600)
def test_a_retry_after_that_lasts_beyond_stale_after(drill: Drill) -> None:
    """Nobody asks meanwhile, and what is not known any more is Unknown all the same."""
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
    assert site.requests()[-1].fault, "it was asked too early"
    drill.wait_states({"later-0": ACTIVE, "later-1": ACTIVE}, pause + 2 * LATE)
    site.wait_account("UpToDate")

    truth.assert_true()
    check_told(
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


def said(status: JSON) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}
