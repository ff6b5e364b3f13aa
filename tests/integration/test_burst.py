"""Many objects at once, crashes in the middle of that, and what every change costs and takes.

The writes are counted by the API server (its audit log), the listings by Wazzup (the simulator).
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
"""Seconds allowed on top of a contract of time, as this machine may be busy with other things."""

# What Wazzup lists for every fifth object, and what the object then has to say.
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

    def wait_seen(self, controller: Controller) -> None:
        """Wait until no object is without a state any more, and the accounts have counted them."""

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
                f"the account {name} has counted its channels",
                30,
            )

    def seen(self) -> dict[str, tuple[str, str | None, str, str, int]]:
        """Return of each object what `expected` has of it."""
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
        """Return how often each of the two accounts was listed."""
        simulator = self.world.simulator
        return self.world.requests(), simulator.requests(self.second).total

    @contextmanager
    def listed(self, times: int) -> Iterator[None]:
        """Wait after the block until both accounts were listed so many times since its begin."""
        before = self.listings()
        yield

        def look() -> bool:
            return (
                min(now - then for now, then in zip(self.listings(), before, strict=True)) >= times
            )

        eventually(look, f"{times} more listings of both accounts", 30)

    def list_three_times(self) -> None:
        """Have both accounts listed three times, without waiting for their intervals."""
        for _ in range(3):
            with self.listed(1):
                request_listing(self.world, "default")
                request_listing(self.world, SECOND)


def writes(world: World) -> list[JSON]:
    """Return the operator's PATCHes of channels and accounts."""
    found = world.writes("patch", "wazzupchannels") + world.writes("patch", "wazzupaccounts")
    return world.by_operator(found)


def patched_channels(world: World) -> Counter[str]:
    """Return how often each channel object was written."""
    return Counter(
        entry["objectRef"]["name"]
        for entry in writes(world)
        if entry["objectRef"]["resource"] == "wazzupchannels"
        and entry["responseStatus"]["code"] == 200
    )


def refused(world: World) -> list[int]:
    return [code for entry in writes(world) if (code := entry["responseStatus"]["code"]) != 200]


def request_listing(world: World, name: str, kind: str = "wazzupaccount") -> None:
    annotations = {"wazzup.dev/requested-at": str(time.time_ns())}
    world.api.patch(kind, name, {"metadata": {"annotations": annotations}})


def test_a_burst_costs_one_patch_for_each_object_and_then_nothing(world: World) -> None:
    burst = Burst(world)
    controller = world.controller()
    controller.wait_ready()
    eventually(lambda: min(burst.listings()) == 1, "both accounts are listed", 30)

    begun = time.time()
    with burst.created() as created:
        created.result()
    burst.wait_seen(controller)
    took = time.time() - begun

    assert burst.seen() == burst.expected
    assert refused(world) == []
    assert patched_channels(world) == dict.fromkeys(burst.expected, 1)
    for wazzup_account in (world.account, burst.second):
        requests = world.simulator.requests(wazzup_account).requests
        listings = [each for each in requests if begun <= each.time <= begun + took]
        assert len(listings) <= 2 + took // 5

    before = len(writes(world))
    burst.list_three_times()
    assert len(writes(world)) == before

    controller.stop()
    with burst.listed(1):
        world.controller().wait_ready()
    burst.list_three_times()
    assert len(writes(world)) == before
    assert burst.seen() == burst.expected


def test_a_controller_killed_in_a_burst_ends_in_the_same_state(world: World) -> None:
    burst = Burst(world)
    first = world.controller()
    first.wait_ready()
    with burst.created():
        kill_after(first, 100)
        kill_after(world.controller(), 200)
        last = world.controller()
    burst.wait_seen(last)

    assert burst.seen() == burst.expected
    # What one process wrote, the next one finds and does not write again: all PATCHes of an object,
    # also those whose answer nobody was there to take (504), were for the version first created.
    versions: dict[str, set[str]] = {name: set() for name in burst.expected}
    for entry in world.writes("patch", "wazzupchannels"):
        metadata = entry["requestObject"]["metadata"]
        versions[entry["objectRef"]["name"]].add(metadata["resourceVersion"])
    assert [name for name, seen in versions.items() if len(seen) != 1] == []
    assert max(patched_channels(world).values()) == 1
    assert set(refused(world)) <= {504}


def kill_after(controller: Controller, patches: int) -> None:
    """Kill the controller when it has written about so many statuses, and not yet all."""

    def written() -> float:
        return controller.count("rest_client_requests_total", method="PATCH", code="200")

    eventually(lambda: written() >= patches, f"{patches} statuses are written", 60)
    assert written() < 2 * IN_EACH
    controller.kill()


def test_changes_show_in_time(world: World) -> None:
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
    request_listing(world, "default", "wazzupaccount")
    world.wait_reason("support", "ScanQRCode", seconds=1 + SLACK)
    assert world.requests() == 2

    world.simulator.act(listed, "scan")
    request_listing(world, "support", "wazzupchannel")
    world.wait_reason("support", "Active", seconds=1 + SLACK)
    assert world.requests() == 3


def test_a_name_changed_in_wazzup_is_drift_and_nothing_but_status_is_written(world: World) -> None:
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
    request_listing(world, "default")
    eventually(lambda: "drift" in world.status("support"), "the drift shows", 30)

    status = world.status("support")
    assert status["drift"] == [{"field": "displayName", "declared": "Support", "observed": "Sales"}]
    assert status["displayName"] == "Sales"
    assert "action" not in status
    assert world.condition("support", "Ready") == ready
    assert [each["type"] for each in status["conditions"]] == ["Ready", "Synced"]
    after = [world.api.get("wazzupchannel", "support"), world.api.get("wazzupaccount", "default")]
    # The account has but the annotation of `request_listing` more than before.
    requested_at = after[1]["metadata"]["annotations"].pop("wazzup.dev/requested-at")
    assert requested_at
    before[1]["metadata"].setdefault("annotations", {})
    assert [own(body) for body in after] == [own(body) for body in before]

    world.api.patch("wazzupchannel", "support", {"spec": {"displayName": "Sales"}})
    eventually(lambda: "drift" not in world.status("support"), "the drift has gone", 30)

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
    """Return what belongs to whoever declared the object."""
    metadata = {
        key: value
        for key, value in body["metadata"].items()
        if key not in {"resourceVersion", "managedFields"}
    }
    return {"metadata": metadata, "spec": body["spec"]}


def changes(world: World) -> list[JSON]:
    """Return every request of the operator in this namespace that is not one for reading."""
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
