"""500 new objects at once, and the cost and delay of single changes.

The API server's audit log counts the writes, the simulator counts the listings.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from tests.integration.harness.api import JSON, account, channel, eventually, secret
from tests.integration.harness.controller import Controller
from tests.integration.harness.world import World

SECOND = "second"
IN_EACH = 250
SLACK = 3.0
"""Seconds on top of a promised delay, for a busy machine."""

# The state that Wazzup lists for every fifth object; the object's state and its Ready.
CASES = (
    ("active", "Active", "True"),
    ("qridle", "ScanQRCode", "False"),
    ("disabled", "Off", "False"),
    ("init", "WaitAMinute", "False"),
    (None, "NotAdded", "False"),
)


class Burst:
    """500 objects, half of them in the account "default" and half in "second"."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.second = f"{world.account}-2"
        world.simulator.add_account([f"key-{self.second}"], id=self.second)
        world.account_with_key()
        world.api.create(secret(f"key-{self.second}", name=SECOND))
        world.api.create(account(SECOND, secret=SECOND))
        self.expected: dict[str, tuple[str, str | None, str, str, int]] = {}
        self.bodies: list[JSON] = []
        self._add("default", world.account, "7900000")
        self._add(SECOND, self.second, "7901000")

    def _add(self, account: str, wazzup_account: str, prefix: str) -> None:
        rows = {f"{prefix}{n:04d}": CASES[n % len(CASES)] for n in range(IN_EACH)}
        listed = self.world.simulator.add_channels(
            [{"phone": phone, "state": case[0]} for phone, case in rows.items() if case[0]],
            account=wazzup_account,
        )
        ids = {each.row["plainId"]: each.id for each in listed}
        for phone, (_, state, ready) in rows.items():
            name = f"{account}-{len(self.bodies)}"
            self.bodies.append(channel(name, f"+{phone}", accountRef={"name": account}))
            self.expected[name] = (state, ids.get(phone), ready, state, 1)

    @contextmanager
    def created(self) -> Iterator[Future[None]]:
        """Create all objects in parallel while the block runs."""
        with ThreadPoolExecutor(9) as pool:
            yield pool.submit(self._create, pool)

    def _create(self, pool: ThreadPoolExecutor) -> None:
        for each in [pool.submit(self.world.api.create, body) for body in self.bodies]:
            each.result()

    def wait_written(self, controller: Controller) -> None:
        """Wait until every object has a state and the accounts count their channels."""

        def look() -> bool:
            return (
                controller.count("wazzup_channels") == 2 * IN_EACH
                and controller.count("wazzup_channels", state="Unknown") == 0
            )

        eventually(look, "every object has a state", 60)
        for name in ("default", SECOND):
            eventually(
                lambda name=name: (
                    self.world.status(name, "wazzupaccount").get("channels")
                    == {"declared": 250, "observed": 200, "ready": 50}
                ),
                f"the account {name} counts its channels",
                30,
            )

    def written(self) -> dict[str, tuple[str, str | None, str, str, int]]:
        """Return the objects' statuses in the form of `expected`."""
        found = {}
        for body in self.world.api.list("wazzupchannel"):
            status = body["status"]
            (ready,) = [each for each in status["conditions"] if each["type"] == "Ready"]
            found[body["metadata"]["name"]] = (
                status["state"],
                status.get("channelID"),
                ready["status"],
                ready["reason"],
                status["observedGeneration"],
            )
        return found

    def listings(self) -> tuple[int, int]:
        """Count the listings of each account."""
        simulator = self.world.simulator
        return self.world.requests(), simulator.requests(self.second).total

    @contextmanager
    def listed(self) -> Iterator[None]:
        """Wait until both accounts have been listed since the block began."""
        before = self.listings()
        yield

        def look() -> bool:
            return all(now > then for now, then in zip(self.listings(), before, strict=True))

        eventually(look, "both accounts are listed again", 30)

    def list_three_times(self) -> None:
        """Have both accounts listed three times, without waiting for their intervals."""
        for _ in range(3):
            with self.listed():
                self.world.api.request_listing()
                self.world.api.request_listing(SECOND)


def patched_channels(world: World) -> Counter[str]:
    """Count the stored PATCHes of each channel object."""
    return Counter(
        entry["objectRef"]["name"]
        for entry in world.operator_patches()
        if entry["objectRef"]["resource"] == "wazzupchannels"
        and entry["responseStatus"]["code"] == 200
    )


def refused(world: World) -> list[int]:
    codes = [entry["responseStatus"]["code"] for entry in world.operator_patches()]
    return [code for code in codes if code != 200]


def test_a_burst_costs_one_patch_per_object(world: World) -> None:
    burst = Burst(world)
    controller = world.controller()
    controller.wait_ready()
    eventually(lambda: min(burst.listings()) == 1, "both accounts are listed", 30)

    begun = time.time()
    with burst.created() as created:
        created.result()
    burst.wait_written(controller)
    took = time.time() - begun

    assert burst.written() == burst.expected
    assert refused(world) == []
    assert patched_channels(world) == dict.fromkeys(burst.expected, 1)
    for wazzup_account in (world.account, burst.second):
        requests = world.simulator.requests(wazzup_account).requests
        listings = [each for each in requests if begun <= each.time <= begun + took]
        assert len(listings) <= 2 + took // 5

    before = len(world.operator_patches())
    burst.list_three_times()
    assert len(world.operator_patches()) == before

    controller.stop()
    with burst.listed():
        world.controller().wait_ready()
    burst.list_three_times()
    assert len(world.operator_patches()) == before
    assert burst.written() == burst.expected


def test_changes_are_shown_in_time(world: World) -> None:
    world.account_with_key()
    world.declare("support", "+79865784457")
    listed = world.add("79865784457", state="active")
    world.controller().wait_ready()
    world.wait_reason("support", "Active", seconds=30)

    # An object that changed is planned within 1 s.
    changed = time.monotonic()
    world.api.patch("wazzupchannel", "support", {"spec": {"active": False}})
    status = world.wait_reason("support", "StillActive", seconds=30)
    assert time.monotonic() - changed < 1 + SLACK
    assert status["observedGeneration"] == 2

    # A state that changed in Wazzup shows within pollInterval (5 s) + 1 s.
    changed = time.monotonic()
    world.simulator.act(listed, "untick")
    status = world.wait_reason("support", "Off", seconds=30)
    assert time.monotonic() - changed < 5 + 1 + SLACK
    assert status["observedGeneration"] == 2


def test_requested_at_lists_at_once(world: World) -> None:
    world.api.create(secret(world.key))
    world.api.create(account(pollInterval="1h"))
    world.declare("support", "+79865784457")
    listed = world.add("79865784457", state="active")
    world.controller().wait_ready()
    world.wait_reason("support", "Active", seconds=30)
    assert world.requests() == 1

    world.simulator.act(listed, "logout")
    world.api.request_listing()
    world.wait_reason("support", "ScanQRCode", seconds=30)
    assert world.requests() == 2

    world.simulator.act(listed, "scan")
    world.api.request_listing("support", "wazzupchannel")
    world.wait_reason("support", "Active", seconds=30)
    assert world.requests() == 3


def test_a_name_changed_in_wazzup_is_drift_and_only_status_is_written(world: World) -> None:
    world.account_with_key()
    annotations = {"example.org/owner": "support"}
    world.declare("support", "+79865784457", displayName="Support", annotations=annotations)
    world.api.patch("wazzupchannel", "support", {"metadata": {"labels": {"team": "support"}}})
    listed = world.add("79865784457", state="active", name="Support")
    world.controller().wait_ready()
    status = world.wait_reason("support", "Active", seconds=30)
    assert "drift" not in status
    before = [world.api.get("wazzupchannel", "support"), world.api.get("wazzupaccount", "default")]
    ready = world.condition("support", "Ready")

    world.simulator.patch_channel(listed, name="Sales")
    world.api.request_listing()
    eventually(lambda: "drift" in world.status("support"), "the drift is shown", 30)

    status = world.status("support")
    assert status["drift"] == [{"field": "displayName", "declared": "Support", "observed": "Sales"}]
    assert status["displayName"] == "Sales"
    assert "action" not in status
    assert world.condition("support", "Ready") == ready
    assert [each["type"] for each in status["conditions"]] == ["Ready", "Synced"]
    after = [world.api.get("wazzupchannel", "support"), world.api.get("wazzupaccount", "default")]
    assert after[1]["metadata"].pop("annotations").keys() == {"wazzup.dev/requested-at"}
    assert [own(body) for body in after] == [own(body) for body in before]

    world.api.patch("wazzupchannel", "support", {"spec": {"displayName": "Sales"}})
    eventually(lambda: "drift" not in world.status("support"), "the drift is resolved", 30)

    eventually(lambda: changes(world), "the operator's writes are in the audit log")
    for entry in changes(world):
        target = entry["objectRef"]
        if target["resource"] == "events":
            assert entry["verb"] == "create"
            continue
        assert (entry["verb"], target["subresource"]) == ("patch", "status")
        assert entry["requestObject"].keys() == {"metadata", "status"}
        assert entry["requestObject"]["metadata"].keys() == {"uid", "resourceVersion"}


def own(body: JSON) -> JSON:
    """Return the parts of an object that only its users write."""
    metadata = {
        key: value
        for key, value in body["metadata"].items()
        if key not in {"resourceVersion", "managedFields"}
    }
    return {"metadata": metadata, "spec": body["spec"]}


def changes(world: World) -> list[JSON]:
    """Return the operator's write requests in this namespace."""
    entries = [
        json.loads(line)
        for line in world.plane.audit_log.read_text().splitlines()
        if f'"namespace":"{world.api.namespace}"' in line
    ]
    return [
        entry
        for entry in world.by_operator(entries)
        if entry["verb"] not in {"get", "list", "watch"}
    ]
