"""Wazzup as it is on a bad day: refusals, broken answers, doubtful listings, long silences."""

import time
from collections import Counter
from datetime import datetime, timedelta
from typing import NamedTuple

from tests.integration.harness.api import JSON, eventually
from tests.integration.harness.site import PATIENCE, Site, sites, status_writes, told
from tests.integration.harness.world import World
from wazzup_simulator.client import Request

PAUSE = 6
"""Seconds of a Retry-After."""


class Outage(NamedTuple):
    """A fault that gives no listing at all, and words of what is said of it."""

    kind: str
    parameters: JSON
    says: str


OUTAGES = {
    "too-many": Outage("status", {"code": 429}, "too many requests (429)"),
    "too-many-later": Outage(
        "status", {"code": 429, "headers": {"Retry-After": str(PAUSE)}}, "too many requests (429)"
    ),
    "down-later": Outage(
        "status", {"code": 503, "headers": {"Retry-After": str(PAUSE)}}, "an error (503)"
    ),
    "down": Outage("status", {"code": 500, "body": {"error": "INTERNAL"}}, "an error (500)"),
    "cut": Outage("cut", {}, "connection to Wazzup failed"),
    "refuse": Outage("refuse", {}, "connection to Wazzup failed"),
    "malformed": Outage("malformed", {}, "not JSON"),
    "html": Outage("html", {}, "not JSON"),
    "wrapped": Outage("wrapped", {}, "not a list of channels"),
    "null": Outage("not-an-array", {"value": None}, "not a list of channels"),
    "text": Outage("not-an-array", {"value": "soon"}, "not a list of channels"),
    "redirect": Outage("redirect", {}, "redirects to another address"),
    "too-large": Outage("huge", {"extra": 20, "nameLength": 1_000_000}, "exceeds"),
}
TIMES = {"too-many-later": 1, "down-later": 1, "too-large": 1}
"""How often; twice where nothing is said, so that the second failure is seen to be no news."""


def test_a_short_outage(world: World) -> None:
    """It is told of the account, once, and no channel hears of it."""
    all_sites = sites(world, *OUTAGES)
    controller = world.controller()
    for site in all_sites.values():
        site.wait_seen()
    before = {name: site.bodies() for name, site in all_sites.items()}
    assert len(status_writes(world)) == 2 * len(all_sites)

    elsewhere = f"{world.simulator.base_url}/v3/channels?elsewhere"
    for name, (kind, parameters, _) in OUTAGES.items():
        where = {"location": elsewhere} if kind == "redirect" else {}
        all_sites[name].fault(kind, times=TIMES.get(name, 2), **parameters, **where)
    for name in ("too-many-later", "down-later"):
        world.wait_reason(name, "AccountUnreachable", "wazzupaccount", PATIENCE)
        hurry(world, name)
    for name, site in all_sites.items():
        # The fault and what comes after it.
        site.wait_over(TIMES.get(name, 2))
        world.wait_reason(name, "UpToDate", "wazzupaccount", PATIENCE)

    expected = {(name, "Warning", "AccountUnreachable"): 1 for name in OUTAGES}
    expected |= {(name, "Normal", "UpToDate"): 1 for name in OUTAGES}
    expected |= {(f"{name}-b", "Warning", "ScanQRCode"): 1 for name in OUTAGES}  # from the start
    eventually(lambda: told(world) == expected, "two Events for each account, no other")
    notes = {each["regarding"]["name"]: each["note"] for each in warnings(world)}
    for name, outage in OUTAGES.items():
        assert outage.says in notes[name], name
        assert notes[name].endswith("."), name
        assert all_sites[name].bodies() == before[name], name
    assert len(status_writes(world)) == 2 * len(all_sites), (
        "a short outage was written to a channel"
    )

    for name in ("too-many-later", "down-later"):
        refused, following = around_the_fault(all_sites[name].requests())
        assert following.time - refused.time >= PAUSE, f"{name}: asked again too early"
    assert not [each for each in all_sites["redirect"].requests() if "elsewhere" in each.path]
    for code in ("429", "500", "503", "302", "malformed", "connection", "too-large"):
        assert controller.count("wazzup_api_requests_total", code=code) >= 1, code


def hurry(world: World, name: str) -> None:
    """Ask for a listing now, which must not make the operator disregard Retry-After."""
    annotations = {"wazzup.dev/requested-at": "now"}
    world.api.patch("wazzupaccount", name, {"metadata": {"annotations": annotations}})


def around_the_fault(requests: list[Request]) -> tuple[Request, Request]:
    (number,) = (number for number, each in enumerate(requests) if each.fault)
    return requests[number], requests[number + 1]


def warnings(world: World) -> list[JSON]:
    return [
        each
        for each in world.api.list("event")
        if each["type"] == "Warning" and each["regarding"]["kind"] == "WazzupAccount"
    ]


def test_doubtful_listings(world: World) -> None:
    """What a listing leaves in doubt keeps its state; everything beside it goes on."""
    names = ["empty", "partial", "gone", "duplicate", "contradict", "no-id", "odd", "huge", "hang"]
    all_sites = sites(world, *names)
    empty, partial, gone, duplicate, contradict, no_id, odd, huge, hang = all_sites.values()
    controller = world.controller()
    for site in all_sites.values():
        site.wait_seen()
    settled = {name: all_sites[name].bodies() for name in ("empty", "partial", "hang")}

    hang.fault("hang")
    empty.fault("empty", times=1)
    partial.fault("partial", times=1, channels=[partial.a.id])
    deleted_at = time.time()
    world.simulator.delete_channel(gone.a)
    duplicate.fault("duplicate")
    contradict.fault("contradict", channels=[contradict.a.id])
    no_id.fault("no-id", channels=[no_id.a.id])
    for site in (duplicate, contradict, no_id):
        world.simulator.act(site.a, "lose-phone")
        world.simulator.act(site.b, "scan")
    world.simulator.patch_channel(odd.a, state="gone-fishing")
    world.simulator.patch_channel(odd.b, state=5)
    world.simulator.patch_channel(huge.a, name="x" * 900_000)
    huge.fault("huge", extra=120, nameLength=10_000)

    # A request that hangs holds up nobody else: all this is seen while it does.
    (hanging,) = hang.wait_listings(lambda found: found[-1].fault == "hang", "hangs")[-1:]
    for site in (duplicate, contradict, no_id):
        site.wait("b", "Active")
    duplicate.wait("a", "NoConnectionWithPhone")
    assert world.status("contradict-a")["state"] == "Active"
    assert world.status("no-id-a")["state"] == "Active"
    check_gone(world, gone, deleted_at)
    check_odd(odd)
    check_huge(world, huge)
    for site in (empty, partial):
        site.wait_over(1)
    assert hang.requests()[-1] == hanging, "it still hangs"
    assert world.condition("hang", "Ready", "wazzupaccount")["status"] == "True"
    assert controller.probe("/healthz")[0] == 200

    world.simulator.clear_faults()
    contradict.wait("a", "NoConnectionWithPhone")
    no_id.wait("a", "NoConnectionWithPhone")
    for name, bodies in settled.items():
        assert all_sites[name].bodies() == bodies, name
    never_gone = {each["objectRef"]["name"] for each in written(world, "NotAdded")}
    assert never_gone == {"gone-a"}
    assert not [key for key in told(world) if key[0] in names], "no account was in trouble"


def written(world: World, state: str) -> list[JSON]:
    """Return the writes after which an object had this state."""
    return [
        each
        for each in status_writes(world)
        if each["responseStatus"]["code"] == 200
        and each["responseObject"]["status"]["state"] == state
    ]


def check_gone(world: World, gone: Site, deleted_at: float) -> None:
    """NotAdded with the second listing that lacks it, which is made soon after the first."""
    status = gone.wait("a", "NotAdded")
    assert status["state"] == "NotAdded"
    assert "channelID" not in status
    (write,) = written(world, "NotAdded")
    written_at = datetime.fromisoformat(write["requestReceivedTimestamp"]).timestamp()
    listings = [each.time for each in gone.requests() if deleted_at < each.time < written_at]
    assert len(listings) == 2
    assert listings[1] - listings[0] < 4, "the second listing waited for the interval"
    assert gone.wait("b", "ScanQRCode")["channelID"] == gone.b.id


def check_odd(odd: Site) -> None:
    """A state that is new is shown as it is; one that is no word at all is not believed."""
    status = odd.wait("a", "SomethingWentWrong")
    assert status["upstreamState"] == "gone-fishing"
    assert "support" in status["action"]["summary"]
    assert status["channelID"] == odd.a.id
    assert odd.wait("b", "ScanQRCode")["upstreamState"] == "qridle"


def check_huge(world: World, huge: Site) -> None:
    """Names are cut, and what nobody declared is listed up to a hundred."""

    def shown() -> bool:
        return len(world.status("huge", "wazzupaccount").get("unmanaged", [])) == 100

    eventually(shown, "a hundred channels that nobody declared", PATIENCE)
    status = world.status("huge", "wazzupaccount")
    assert status["channels"] == {"declared": 2, "observed": 122, "ready": 1}
    assert max(len(each["name"]) for each in status["unmanaged"]) <= 256
    assert 1 <= len(world.status("huge-a")["displayName"]) <= 256
    assert world.status("huge-a")["state"] == "Active"


def test_a_long_outage(world: World) -> None:
    """Beyond staleAfter (here three intervals of 5 s) nothing is known, until Wazzup is back."""
    site = Site(world, "down", 0)
    other = Site(world, "fine", 1)
    world.controller("--stale-after=1s")
    site.wait_seen()
    other.wait_seen()
    before = other.bodies()

    site.fault("status", code=502)
    broken_at = time.time()
    last_good = max(each.time for each in site.requests() if each.time < broken_at)
    world.wait_reason("down", "AccountUnreachable", "wazzupaccount", PATIENCE)
    # The spec may change meanwhile: that is answered, but nothing is claimed.
    world.api.patch("wazzupchannel", "down-b", {"spec": {"active": False}})
    status = eventually(
        lambda: (found := world.status("down-b"))["observedGeneration"] == 2 and found,
        "the new generation is answered",
        10,
    )
    assert (status["state"], status["upstreamState"]) == ("ScanQRCode", "qridle")
    assert world.condition("down-b", "Ready")["status"] == "Unknown"
    assert "action" not in status

    for suffix, listed in (("a", site.a), ("b", site.b)):
        status = eventually(
            lambda name=f"down-{suffix}": (
                (found := world.status(name))["state"] == "Unknown" and found
            ),
            f"down-{suffix} is Unknown",
            PATIENCE,
        )
        assert status["channelID"] == listed.id
        assert status["plainID"] == listed.row["plainId"]
        assert "action" not in status
        ready, synced = (world.condition(f"down-{suffix}", each) for each in ("Ready", "Synced"))
        assert (ready["status"], ready["reason"]) == ("Unknown", "AccountUnreachable")
        assert (synced["status"], synced["reason"]) == ("False", "AccountUnreachable")
    for write in written(world, "Unknown"):
        at = datetime.fromisoformat(write["requestReceivedTimestamp"])
        age = at - datetime.fromtimestamp(last_good, at.tzinfo)
        assert timedelta(seconds=15) <= age <= timedelta(seconds=25)
    names = Counter(each["objectRef"]["name"] for each in status_writes(world))
    assert names == {"down-a": 2, "down-b": 3, "fine-a": 1, "fine-b": 1}

    world.simulator.clear_faults()
    assert site.wait("a", "Active", 60)["channelID"] == site.a.id
    assert site.wait("b", "NotConnected")["state"] == "ScanQRCode"
    assert world.condition("down-a", "Synced")["status"] == "True"
    world.wait_reason("down", "UpToDate", "wazzupaccount")
    expected = {
        ("down", "Warning", "AccountUnreachable"): 1,
        ("down", "Normal", "UpToDate"): 1,
        ("down-b", "Warning", "ScanQRCode"): 1,  # from the start
        ("fine-b", "Warning", "ScanQRCode"): 1,
    }
    eventually(lambda: told(world) == expected, "two Events for the outage")
    assert other.bodies() == before
