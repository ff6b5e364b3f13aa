"""Limits for Wazzup's answers: size, depth and unusual texts."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from tests.integration.harness.api import JSON, eventually
from tests.integration.harness.controller import Controller
from tests.integration.harness.site import PATIENCE, Site, count_events, sites, status_writes
from tests.integration.harness.world import World

MIB = 2**20


def memory(controller: Controller, which: str = "VmHWM") -> int:
    """Return the controller's memory in MiB: VmRSS now, VmHWM at its peak."""
    status = Path(f"/proc/{controller.pid}/status").read_text()
    return int(re.search(rf"{which}:\s+(\d+) kB", status)[1]) // 1024


class TooMuch(NamedTuple):
    """A refused body, as a fault of kind "bulk", and words of the message."""

    body: JSON
    message: str


VALUES = "exceeds the operator's limit of 1000000 values"
SIZE = "exceeds the operator's limit of 16 MiB"
TOO_MUCH = {
    "empty-rows": TooMuch(
        {"prefix": "[", "unit": "{},", "count": 5_500_000, "suffix": "{}]"}, VALUES
    ),
    "nested-lists": TooMuch(
        {"prefix": "[", "unit": f"{'[' * 900}{']' * 900},", "count": 9_000, "suffix": "[]]"}, VALUES
    ),
    "nested-objects": TooMuch(
        {
            "prefix": "[",
            "unit": '{"a":' * 900 + "1" + "}" * 900 + ",",
            "count": 3_000,
            "suffix": "{}]",
        },
        VALUES,
    ),
    "objects-for-rows": TooMuch(
        # The most expensive body within the limits: a million nested objects.
        {
            "prefix": "[[",
            "unit": '{"a":' * 900 + "1" + "}" * 900 + ",",
            "count": 1_100,
            "suffix": "{}]]",
        },
        "JSON that is not a list of channels",
    ),
    "many-rows": TooMuch(
        {"prefix": "[", "unit": "{},", "count": 100_000, "suffix": "{}]"}, "100001 channels"
    ),
    "deep": TooMuch(
        {"prefix": '[{"name":', "unit": "[", "count": 900_000},
        "not JSON, or is nested too deeply",
    ),
    "long": TooMuch({"prefix": "[", "unit": " ", "count": 17 * MIB, "suffix": "]"}, SIZE),
    "bomb": TooMuch({"prefix": "[", "unit": " ", "count": 99_000_000, "gzip": True}, SIZE),
}
TIMES = 3
"""Mean number of times that each body is read."""


def test_bodies_over_a_limit(world: World) -> None:
    """The account reports the limit, channels keep their state, and memory is freed."""
    all_sites = sites(world, *TOO_MUCH)
    controller = world.controller()
    for site in all_sites.values():
        site.wait_listed()
    before = {name: site.bodies() for name, site in all_sites.items()}
    first = memory(controller, "VmRSS")

    for name, (body, _) in TOO_MUCH.items():
        all_sites[name].fault("bulk", **body)
    for name, (_, message) in TOO_MUCH.items():
        eventually(lambda n=name, m=message: m in shown(world, n), f"{name}: {message}", PATIENCE)
        assert shown(world, name).endswith("."), name
    for code, bodies in (("too-large", 6), ("malformed", 2)):
        eventually(
            lambda code=code, bodies=bodies: read(controller, code) >= bodies * TIMES,
            f"{code}: all are read again",
            2 * PATIENCE,
        )
    most = memory(controller)
    world.simulator.clear_faults()
    for name, site in all_sites.items():
        world.wait_reason(name, "UpToDate", "wazzupaccount", PATIENCE)
        assert site.bodies() == before[name], name

    assert most - first < 500, "MiB: 400 for the most expensive body, plus the bodies"
    eventually(lambda: memory(controller, "VmRSS") - first < 150, "the memory is freed")
    assert len(status_writes(world)) == 2 * len(all_sites), "an outage was written to a channel"
    expected = {(name, "Warning", "AccountUnreachable"): 1 for name in TOO_MUCH}
    expected |= {(name, "Normal", "UpToDate"): 1 for name in TOO_MUCH}
    eventually(lambda: events_of(world, *TOO_MUCH) == expected, "two Events per account")


def shown(world: World, account: str) -> str:
    """Return the message of an account's Ready condition."""
    ready = world.condition(account, "Ready", "wazzupaccount")
    return str(ready["message"]) if ready else ""


def read(controller: Controller, code: str) -> float:
    """Count the answers of Wazzup with this result."""
    return controller.count("wazzup_api_requests_total", code=code)


def events_of(world: World, *names: str) -> dict[tuple[str, str, str], int]:
    return {key: times for key, times in count_events(world).items() if key[0] in names}


EVERY_CONTROL = "".join(map(chr, [*range(32), 127, 133, 0x2028, 0x200E, 0xFFFE]))
UNDECLARED = {
    "a\u0441\U0001f600": "wide",
    '"]}\\{[': "quotes",
    "x" * 64: "\0" * 300,
}
"""Names of undeclared channels in Wazzup, by id."""

DEEP: JSON = {}
for _ in range(900):
    DEEP = {"a": DEEP}


def unusual_listing(site: Site, state: str) -> str:
    """Return a listing with both channels of the site, and unusual or invalid rows."""
    rows = [
        {**site.a.row, "state": state, "name": EVERY_CONTROL, "later": DEEP},
        {**site.b.row, "name": "half a \ud83d", "\udc00": "\udc00"},
        *(
            {"channelId": id_, "transport": "wapi", "plainId": f"1000000000{n}\0", "name": name}
            | {"state": "s\0" * 200}
            for n, (id_, name) in enumerate(UNDECLARED.items())
        ),
        {"channelId": DEEP, "transport": "instagram"},
        # The rest is invalid.
        {"channelId": "i" * MIB, "transport": "whatsapp", "state": "active"},
        {"channelId": "line\nbreak", "transport": "whatsapp", "state": "active"},
        {"channelId": "deep", "transport": DEEP, "plainId": DEEP, "state": DEEP},
        {"channelId": "big", "transport": "wapi", "plainId": 10**300, "state": "active"},
        {"channelId": "digits", "transport": "wapi", "plainId": "9" * MIB, "state": "active"},
        {},
    ]
    return json.dumps(rows)


def test_unusual_texts(world: World) -> None:
    """Each is shown verbatim or left out, and each status is written once."""
    site = Site(world, "odd", 0)
    controller = world.controller()
    site.wait_listed()
    site.fault("status", code=200, body=unusual_listing(site, "phoneUnavailable"))
    a = site.wait("a", "NoConnectionWithPhone")
    assert a["displayName"] == EVERY_CONTROL
    eventually(
        lambda: world.status("odd-b").get("displayName") == "half a \ufffd",
        "the lone surrogate is replaced",
    )
    assert world.status("odd-b")["state"] == "ScanQRCode"

    def unmanaged() -> list[JSON]:
        return world.status("odd", "wazzupaccount").get("unmanaged", [])

    eventually(lambda: len(unmanaged()) == 3, "the unmanaged channels are shown")
    assert {each["channelID"]: each["name"] for each in unmanaged()} == {
        "a\u0441\U0001f600": "wide",
        '"]}\\{[': "quotes",
        "x" * 64: "\0" * 256,
    }
    assert {each["plainID"] for each in unmanaged()} == {f"1000000000{n}\0" for n in range(3)}
    account = world.status("odd", "wazzupaccount")
    assert account["channels"] == {"declared": 2, "observed": 5, "ready": 0}
    (ready,) = account["conditions"]
    assert (ready["status"], ready["reason"]) == ("True", "UpToDate")
    assert ready["message"] == (
        "Wazzup lists the account's channels. The operator skipped 6 ambiguous rows (damaged or"
        " contradictory) and truncated the long name or state of 3 channels."
    )

    writes = [len(world.writes(resource=each)) for each in ("wazzupaccounts", "wazzupchannels")]
    seen = len(site.requests())
    site.wait_listings(lambda requests: len(requests) >= seen + 3, "three more listings")
    assert writes == [
        len(world.writes(resource=each)) for each in ("wazzupaccounts", "wazzupchannels")
    ], "an unchanged status was written"
    refused = [each for each in world.writes() if each["responseStatus"]["code"] >= 400]
    assert refused == []
    assert "did not keep" not in controller.log()

    world.simulator.clear_faults()
    site.wait_listed()
    eventually(
        lambda: (
            world.condition("odd", "Ready", "wazzupaccount")["message"]
            == "Wazzup lists the account's channels."
        ),
        "no row is skipped any more",
    )
    assert events_of(world, "odd") == {}, "an Event on the account"


def test_the_largest_listing(world: World) -> None:
    """100,000 channels are counted correctly, and the process stays responsive."""
    site = Site(world, "full", 0)
    controller = world.controller()
    site.wait_listed()
    site.fault("huge", extra=99_998, nameLength=20)
    status = eventually(
        lambda: (
            (found := world.status("full", "wazzupaccount"))["channels"]["observed"] == 100_000
            and found
        ),
        "all channels are counted",
        PATIENCE,
    )
    assert status["channels"] == {"declared": 2, "observed": 100_000, "ready": 1}
    assert len(status["unmanaged"]) == 100
    world.simulator.patch_channel(site.b, state="active")
    site.wait("b", "Active")
    assert controller.probe("/healthz")[0] == 200
    world.simulator.clear_faults()
    world.simulator.add_fault("huge", account=site.id, extra=99_999, nameLength=20)
    world.wait_reason("full", "AccountUnreachable", "wazzupaccount", PATIENCE)
    assert "100001 channels" in world.condition("full", "Ready", "wazzupaccount")["message"]
    assert world.status("full-a")["state"] == world.status("full-b")["state"] == "Active"
    assert memory(controller) < 700
