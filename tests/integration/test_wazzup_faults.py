"""Faults of Wazzup: errors, broken answers, ambiguous and incomplete listings."""

import time
from typing import NamedTuple

from tests.integration.harness.api import JSON, eventually
from tests.integration.harness.site import PATIENCE, Site, count_events, sites, status_writes
from tests.integration.harness.world import World
from wazzup_simulator.client import Request

PAUSE = 6
"""Seconds of a Retry-After."""


class Outage(NamedTuple):
    """A fault that prevents a listing, and words of the account's message."""

    kind: str
    parameters: JSON
    message: str


OUTAGES = {
    "retry-after": Outage(
        "status", {"code": 429, "headers": {"Retry-After": str(PAUSE)}}, "too many requests (429)"
    ),
    "error": Outage("status", {"code": 500, "body": {"error": "INTERNAL"}}, "an error (500)"),
    "cut": Outage("cut", {}, "connection to Wazzup failed"),
    "malformed": Outage("malformed", {}, "not JSON"),
    "redirect": Outage("redirect", {}, "redirects to another address"),
    "empty": Outage("empty", {}, "listing is empty"),
}
TIMES = {"retry-after": 1}
"""Occurrences of a fault; the default is two, of which the second must cause no Event."""


def test_a_short_outage(world: World) -> None:
    """One Event on the account, and no write to a channel."""
    all_sites = sites(world, *OUTAGES)
    controller = world.controller()
    for site in all_sites.values():
        site.wait_listed()
    before = {name: site.bodies() for name, site in all_sites.items()}
    assert len(status_writes(world)) == 2 * len(all_sites)

    elsewhere = f"{world.simulator.base_url}/v3/channels?elsewhere"
    for name, (kind, parameters, _) in OUTAGES.items():
        where = {"location": elsewhere} if kind == "redirect" else {}
        all_sites[name].fault(kind, times=TIMES.get(name, 2), **parameters, **where)
    world.wait_reason("retry-after", "AccountUnreachable", "wazzupaccount", PATIENCE)
    world.api.request_listing("retry-after")  # Retry-After comes first
    for name, site in all_sites.items():
        site.wait_over(TIMES.get(name, 2))
        world.wait_reason(name, "UpToDate", "wazzupaccount", PATIENCE)

    expected = {(name, "Warning", "AccountUnreachable"): 1 for name in OUTAGES}
    expected |= {(name, "Normal", "UpToDate"): 1 for name in OUTAGES}
    expected |= {(f"{name}-b", "Warning", "ScanQRCode"): 1 for name in OUTAGES}  # at first
    eventually(lambda: count_events(world) == expected, "two Events per account, no others")
    notes = {each["regarding"]["name"]: each["note"] for each in warnings(world)}
    for name, outage in OUTAGES.items():
        assert outage.message in notes[name], name
        assert notes[name].endswith("."), name
        assert all_sites[name].bodies() == before[name], name
    assert len(status_writes(world)) == 2 * len(all_sites), "an outage was written to a channel"

    refused, following = around_the_fault(all_sites["retry-after"].requests())
    assert following.time - refused.time >= PAUSE, "retried too early"
    assert not [each for each in all_sites["redirect"].requests() if "elsewhere" in each.path]
    for code in ("429", "500", "302", "malformed", "connection"):
        assert controller.count("wazzup_api_requests_total", code=code) >= 1, code


def around_the_fault(requests: list[Request]) -> tuple[Request, Request]:
    (number,) = (number for number, each in enumerate(requests) if each.fault)
    return requests[number], requests[number + 1]


def warnings(world: World) -> list[JSON]:
    return [
        each
        for each in world.api.list("event")
        if each["type"] == "Warning" and each["regarding"]["kind"] == "WazzupAccount"
    ]


def test_incomplete_and_ambiguous_listings(world: World) -> None:
    """Affected channels keep their state; all others are updated."""
    names = ["partial", "gone", "duplicate", "contradict", "no-id", "odd", "huge", "hang"]
    all_sites = sites(world, *names)
    partial, gone, duplicate, contradict, no_id, odd, huge, hang = all_sites.values()
    controller = world.controller()
    for site in all_sites.values():
        site.wait_listed()
    settled = {name: all_sites[name].bodies() for name in ("partial", "gone", "hang")}

    hang.fault("hang")
    partial.fault("partial", times=1, channels=[partial.a.id])
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

    # A hanging request does not block other accounts: all this is observed meanwhile.
    (hanging,) = hang.wait_listings(lambda found: found[-1].fault == "hang", "hangs")[-1:]
    for site in (duplicate, contradict, no_id):
        site.wait("b", "Active")
    duplicate.wait("a", "NoConnectionWithPhone")
    assert world.status("contradict-a")["state"] == "Active"
    assert world.status("no-id-a")["state"] == "Active"
    check_odd(odd)
    check_huge(world, huge)
    partial.wait_over(1)
    assert hang.requests()[-1] == hanging, "the request no longer hangs"
    assert world.condition("hang", "Ready", "wazzupaccount")["status"] == "True"
    assert controller.probe("/healthz")[0] == 200

    world.simulator.clear_faults()
    contradict.wait("a", "NoConnectionWithPhone")
    no_id.wait("a", "NoConnectionWithPhone")
    deleted_at = time.time()
    world.simulator.delete_channel(gone.a)
    gone.wait_listings(lambda found: found[-2].time > deleted_at, "two listings lack the channel")
    for name, bodies in settled.items():
        assert all_sites[name].bodies() == bodies, name
    assert not written(world, "NotAdded")
    assert not [key for key in count_events(world) if key[0] in names], "an Event on an account"


def written(world: World, state: str) -> list[JSON]:
    """Return the writes after which an object had this state."""
    return [
        each
        for each in status_writes(world)
        if each["responseStatus"]["code"] == 200
        and each["responseObject"]["status"]["state"] == state
    ]


def check_odd(odd: Site) -> None:
    """Check that an unknown state is shown verbatim, and a number is ignored."""
    status = odd.wait("a", "SomethingWentWrong")
    assert status["upstreamState"] == "gone-fishing"
    assert "support" in status["action"]["summary"]
    assert status["channelID"] == odd.a.id
    assert odd.wait("b", "ScanQRCode")["upstreamState"] == "qridle"


def check_huge(world: World, huge: Site) -> None:
    """Check that names are truncated, and at most 100 unmanaged channels shown."""

    def shown() -> bool:
        return len(world.status("huge", "wazzupaccount").get("unmanaged", [])) == 100

    eventually(shown, "100 unmanaged channels are shown", PATIENCE)
    status = world.status("huge", "wazzupaccount")
    assert status["channels"] == {"declared": 2, "observed": 122, "ready": 1}
    assert max(len(each["name"]) for each in status["unmanaged"]) <= 256
    assert 1 <= len(world.status("huge-a")["displayName"]) <= 256
    assert world.status("huge-a")["state"] == "Active"
