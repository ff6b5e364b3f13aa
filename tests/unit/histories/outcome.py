"""What each status must be after everything recovered, or after a long outage."""

from datetime import datetime, timedelta
from typing import Any

from tests.expected_states import carries_none, meant
from tests.unit.histories.demands import (
    DEADLINE,
    DETAILS,
    FINAL,
    condition,
    judged,
    number_of,
    progress,
    words,
)
from tests.unit.histories.process import AC, CH
from tests.unit.histories.world import World
from wazzup_operator.resources.codec import ACCOUNTS, CHANNELS


def on_record(body: Any) -> str | None:
    """Return the channel id recorded from the account that the object refers to."""
    here = body["status"].get("account") == body["spec"]["accountRef"]["name"]
    return body["status"].get("channelID") if here else None


class Oracle:
    """Derives each status from the objects and Wazzup's rows alone."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.channels = world.server.objects[CH]
        self.accounts = world.server.objects[AC]
        self.finds = {key: self._find(body) for key, body in self.channels.items()}

    @staticmethod
    def paused(body: Any) -> bool:
        return body["metadata"]["annotations"].get("wazzup.dev/paused") == "true"

    @staticmethod
    def account_key(body: Any) -> tuple[str, str]:
        return body["metadata"]["namespace"], body["spec"]["accountRef"]["name"]

    @staticmethod
    def seniority(body: Any) -> Any:
        metadata = body["metadata"]
        of_one_second = on_record(body) is None, metadata["namespace"], metadata["name"]
        return "deletionTimestamp" in metadata, metadata["creationTimestamp"], of_one_second

    def rows(self, key: tuple[str, str]) -> dict[str, Any]:
        """Return the rows of an account that objects can declare."""
        secret = self.accounts[key]["spec"]["apiKeySecretRef"]["name"]
        rows = self.world.listed_rows(secret).items()
        return {id_: row for id_, row in rows if row["transport"] in {"whatsapp", "wapi"}}

    def claimants(self, body: Any) -> list[Any]:
        """Return all objects of its account with its number, including itself."""
        spec = body["spec"]
        return [
            other
            for other in self.channels.values()
            if self.account_key(other) == self.account_key(body)
            and other["spec"]["phoneNumber"] == spec["phoneNumber"]
            and other["spec"]["transport"] == spec["transport"]
        ]

    def _find(self, body: Any) -> Any:
        """Return the row of its channel, or the reason why there is none."""
        account = self.accounts.get(self.account_key(body))
        if self.paused(body) or (account and self.paused(account)):
            return "Paused"
        if account is None:
            return "AccountNotFound"
        if min(self.claimants(body), key=self.seniority) is not body:
            return "DuplicatePhoneNumber"
        spec, rows = body["spec"], self.rows(self.account_key(body))
        recorded = on_record(body)
        if declared := spec.get("channelID"):
            row = rows.get(declared)
            if row is None:
                return "NotAdded"
            fits = number_of(row) in {None, spec["phoneNumber"]}
            return row if fits and row["transport"] == spec["transport"] else "ChannelMismatch"
        own = [
            row
            for id_, row in rows.items()
            if (row["transport"], number_of(row)) == (spec["transport"], spec["phoneNumber"])
            or (number_of(row) is None and id_ == recorded)
        ]
        on = [row for row in own if row["state"] != "disabled"]
        now = [row for row in own if row["plainId"] and meant(row["state"]) == "Active"]
        if (
            recorded
            and len(now) == 1
            and (recorded not in rows or carries_none(rows[recorded]["state"]))
        ):
            return now[0]
        for row in on:
            if row["channelId"] == recorded:
                return row
        if len(on) == 1 or len(own) == 1:
            return (on if len(on) == 1 else own)[0]
        return "AmbiguousChannel" if own else "NotAdded"

    def claims(self, key: tuple[str, str]) -> str | None:
        """Return the id of the channel that an object finds or, in an outage, has recorded."""
        find = self.finds[key]
        if isinstance(find, dict):
            return str(find["channelId"])
        body = self.channels[key]
        keeps = find == "Paused" and self.account_key(body) in self.accounts
        return on_record(body) if keeps else None

    def outcome(self, key: tuple[str, str]) -> Any:
        """Return the row that the object gets, or the reason why it gets none."""
        find, body = self.finds[key], self.channels[key]
        if not isinstance(find, dict):
            return find
        wanting = [other for other in self.channels if self.claims(other) == find["channelId"]]
        keeper = min((self.channels[other] for other in wanting), key=self.seniority)
        return find if keeper is body else "DuplicatePhoneNumber"

    def verdict(self, key: tuple[str, str]) -> Any:
        """Return the required details, Ready, action and progress."""
        body, outcome = self.channels[key], self.outcome(key)
        status, active = body["status"], body["spec"]["active"]
        old = {name: status.get(name) for name in DETAILS}
        unknown = {**dict.fromkeys(DETAILS), "state": "Unknown"}
        waiting = {"Reconciling", "Stalled"}
        if outcome == "Paused":
            return old, ("Unknown", outcome), False, set()
        if outcome == "AccountNotFound":
            kept = {name: old[name] for name in ("channelID", "plainID")}
            return {**unknown, **kept}, ("Unknown", outcome), False, waiting
        if outcome == "DuplicatePhoneNumber":
            replaces = body["metadata"]["annotations"].get("wazzup.dev/replaces")
            return unknown, ("False", outcome), True, waiting if replaces else {"Stalled"}
        if isinstance(outcome, str) and outcome in FINAL:
            return unknown, ("False", outcome), True, {"Stalled"}
        state = outcome if outcome == "NotAdded" else meant(outcome["state"])
        ready, reason, acts, may_be = judged(state, active=active)
        details = {**dict.fromkeys(DETAILS), "state": state}
        if isinstance(outcome, dict):
            details |= {
                "upstreamState": outcome["state"],
                "channelID": outcome["channelId"],
                "plainID": outcome["plainId"],
                "displayName": outcome.get("name"),
            }
        return details, (ready, reason), acts, may_be

    def unmanaged(self, key: tuple[str, str]) -> set[str]:
        """Return the ids of an account's rows that nobody declares."""
        mine = [each for each in self.channels.values() if self.account_key(each) == key]
        numbers = {(each["spec"]["transport"], each["spec"]["phoneNumber"]) for each in mine}
        others = [other for other, body in self.channels.items() if body not in mine]
        claimed = {self.claims(other) for other in others}
        held = {on_record(each) for each in mine if "deletionTimestamp" not in each["metadata"]}
        return {
            id_
            for id_, row in self.rows(key).items()
            if (row["transport"], number_of(row)) not in numbers and id_ not in claimed | held
        }


def check(world: World, *, settled: bool) -> None:
    """Compare everything stored with the expectation; `settled`: long after the last change."""
    world.inspect()
    oracle = Oracle(world)
    for table, plural in ((world.process.store.channels, CH), (world.process.store.accounts, AC)):
        known = {key: each.metadata.resource_version for key, each in table.objects.items()}
        stored = {
            key: each["metadata"]["resourceVersion"]
            for key, each in world.server.objects[plural].items()
        }
        assert known == stored, "the Store is not what the API server holds"
    for key, body in oracle.channels.items():
        if "deletionTimestamp" not in body["metadata"]:
            check_channel(world, oracle, key, body)
    for key, body in oracle.accounts.items():
        check_account(world, oracle, key, body, settled=settled)
    held = [
        body["status"].get("channelID")
        for key, body in oracle.channels.items()
        if isinstance(oracle.finds[key], dict) and "deletionTimestamp" not in body["metadata"]
    ]
    assert len(set(held) - {None}) == len(held) - held.count(None), "two objects hold one channel"


def check_channel(world: World, oracle: Oracle, key: Any, body: Any) -> None:
    details, ready, acts, may_be = oracle.verdict(key)
    status, generation = body["status"], body["metadata"]["generation"]
    assert status["observedGeneration"] == generation, (key, status)
    if ready[1] not in {"Paused", "AccountNotFound"}:  # these keep another account's record
        assert status["account"] == body["spec"]["accountRef"]["name"], (key, status)
    assert {each["observedGeneration"] for each in status["conditions"]} == {generation}
    assert {name: status.get(name) for name in DETAILS} == details, (key, status)
    is_ = condition(status, "Ready")
    assert (is_["status"], is_["reason"]) == ready, (key, status)
    assert ("action" in status) == acts, (key, status)
    assert all(each["message"] for each in status["conditions"])
    synced = condition(status, "Synced")
    expected = {"Paused": ("Unknown", "Paused"), "AccountNotFound": ("False", "AccountNotFound")}
    assert (synced["status"], synced["reason"]) == expected.get(ready[1], ("True", "UpToDate"))
    assert len(progress(status)) == bool(may_be), (key, status)
    assert progress(status) <= may_be, (key, status)
    if reconciling := condition(status, "Reconciling"):
        since = datetime.fromisoformat(reconciling["lastTransitionTime"])
        assert world.process.clock() - since < DEADLINE + timedelta(seconds=1), (
            "it waits for too long"
        )
    outcome, declared = oracle.outcome(key), body["spec"].get("displayName")
    observed = outcome.get("name") if isinstance(outcome, dict) else None
    drift = {
        (each["field"], each["declared"], each["observed"]) for each in status.get("drift", [])
    }
    if ready[1] not in {"Paused", "AccountNotFound"}:
        differs = declared and observed and declared != observed
        assert drift == ({("displayName", declared, observed)} if differs else set())


def check_account(world: World, oracle: Oracle, key: Any, body: Any, *, settled: bool) -> None:
    status, ready = body["status"], condition(body["status"], "Ready")
    assert status["observedGeneration"] == body["metadata"]["generation"], (key, status)
    if oracle.paused(body):
        assert (ready["status"], ready["reason"]) == ("Unknown", "Paused")
        return
    assert (ready["status"], ready["reason"]) == ("True", "UpToDate"), (key, status)
    assert not progress(status)
    mine = [
        each["status"]
        for each in oracle.channels.values()
        if oracle.account_key(each) == key and "deletionTimestamp" not in each["metadata"]
    ]
    are_ready = sum(condition(each, "Ready")["status"] == "True" for each in mine)
    observed = len(oracle.rows(key))
    counts = {"declared": len(mine), "observed": observed, "ready": are_ready}
    assert status["channels"] == counts, (key, status)
    assert "lastSyncTime" in status
    if settled:
        unmanaged = {each["channelID"] for each in status.get("unmanaged", [])}
        assert unmanaged == oracle.unmanaged(key), (key, status)


def check_quiet(world: World, *, settled: bool) -> None:
    """List and plan everything again: nothing is left to write."""
    written = len(world.writes)

    def wake() -> None:
        for key in world.process.store.account_keys():
            world.process.reconciler.wake(key, True)

    world.loop.call_soon(wake)
    world.do(("wait", 10))
    for write in world.writes[written:]:
        resource = CHANNELS if write.plural == CH else ACCOUNTS
        before = resource.status_json(write.before.status)
        if not settled and write.plural == AC:
            continue
        differs = {
            name
            for name in before.keys() | write.status.keys()
            if before.get(name) != write.status.get(name)
        }
        overdue = condition(write.status, "Stalled") and not condition(before, "Stalled")
        may_differ = {"lastSyncTime", "conditions"} if overdue else {"lastSyncTime"}
        assert differs <= may_differ, f"it is not quiet: {write}"


def check_unlisted(world: World, reason: str) -> None:
    """Compare everything stored with the expectation after a long outage of Wazzup."""
    world.inspect()
    oracle = Oracle(world)
    for key, body in oracle.channels.items():
        find, status = oracle.finds[key], body["status"]
        if "deletionTimestamp" in body["metadata"]:
            continue
        assert status["observedGeneration"] == body["metadata"]["generation"], (key, status)
        outside = {"Paused": "Unknown", "AccountNotFound": "Unknown"}
        outside["DuplicatePhoneNumber"] = "False"
        cause = find if isinstance(find, str) and find in outside else reason
        assert words(status) == (outside.get(cause, "Unknown"), cause), (key, status)
        if cause != "Paused":
            assert status["state"] == "Unknown", (key, status)
        if cause == reason:
            assert condition(status, "Synced")["status"] == "False"
    for key, body in oracle.accounts.items():
        expected = ("Unknown", "Paused") if oracle.paused(body) else ("False", reason)
        assert words(body["status"]) == expected, (key, body)
