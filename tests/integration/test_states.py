"""Every state, declared on and off: status, conditions, Events, kubectl, metric."""

import re
from collections import Counter
from datetime import datetime
from typing import NamedTuple

from tests.expected_states import BY_NAME, STATES, WAZZUP, Expected
from tests.integration.harness.api import JSON, account, eventually
from tests.integration.harness.verdicts import (
    DEGRADED,
    HEALTHY,
    PROGRESSING,
    Verdict,
    verdicts,
)
from tests.integration.harness.world import World

DEADLINE = 6


class Case(NamedTuple):
    """An object and its expected state."""

    name: str
    phone: str
    active: bool
    expected: Expected
    raw: str | None
    """The API state in Wazzup; None: no such channel."""

    @property
    def state(self) -> str:
        return self.expected.state

    @property
    def ready(self) -> tuple[str, str]:
        """Status and reason of Ready; objects are Unknown here because their Secret is missing."""
        status, reason = self.expected.ready(active=self.active)
        return status, "SecretNotFound" if self.state == "Unknown" else reason

    @property
    def action(self) -> str | None:
        return self.expected.action(active=self.active)


def cases() -> list[Case]:
    """Return each state twice, in two spellings where Wazzup has several."""
    found: list[Case] = []
    for number, each in enumerate(STATES):
        raw_on: str | None = None
        raw_off: str | None = None
        if each.state == "SomethingWentWrong":
            raw_on, raw_off = "gone-fishing", ""
        elif each.spellings:
            raw_on, raw_off = each.spellings[0], each.spellings[-1].upper()
        name, phone = each.state.lower(), f"+7986578{number:02d}0"
        found += [
            Case(f"{name}-on", f"{phone}1", True, each, raw_on),
            Case(f"{name}-off", f"{phone}2", False, each, raw_off),
        ]
    return found


CASES = cases()


def test_every_state_declared_on_and_off(world: World) -> None:
    world.account_with_key()
    world.api.create(account("keyless", "nowhere"))
    added = world.simulator.add_channels(
        [
            {"phone": case.phone.lstrip("+"), "state": case.raw or None}
            for case in CASES
            if case.raw is not None
        ],
        world.account,
    )
    ids = {f"+{each.row['plainId']}": each.id for each in added}
    # A channel cannot be added with an empty state.
    (empty,) = (each for each in added if each.id == ids[phone_of("somethingwentwrong-off")])
    world.simulator.patch_channel(empty, state="")
    for case in CASES:
        holder = "keyless" if case.state == "Unknown" else "default"
        world.declare(case.name, case.phone, active=case.active, accountRef={"name": holder})
    controller = world.controller(f"--progress-deadline={DEADLINE}s")
    controller.wait_ready()

    eventually(lambda: settled(world), "every object is Ready or Stalled", 30)
    statuses = {
        each["metadata"]["name"]: each["status"] for each in world.api.list("wazzupchannel")
    }
    for case in CASES:
        check_status(case, statuses[case.name], ids.get(case.phone))
    check_progress(world)
    check_verdicts(world)
    check_events(world)
    check_kubectl(world)
    check_metric(world)
    check_that_stalled_stays(world)


def phone_of(name: str) -> str:
    return next(case.phone for case in CASES if case.name == name)


def settled(world: World) -> bool:
    return all(
        (ready := find(each["status"], "Ready"))
        and (ready["status"] == "True" or find(each["status"], "Stalled"))
        for each in world.api.list("wazzupchannel")
    )


def find(status: JSON, type_: str) -> JSON | None:
    return next((each for each in status.get("conditions", []) if each["type"] == type_), None)


def check_status(case: Case, status: JSON, channel_id: str | None) -> None:
    ready, synced = find(status, "Ready"), find(status, "Synced")
    assert ready, case
    assert synced, case
    assert status["observedGeneration"] == 1
    assert (status["state"], (ready["status"], ready["reason"])) == (case.state, case.ready), case
    assert status.get("upstreamState") == case.raw, case
    assert status.get("channelID") == channel_id, case
    assert status.get("plainID") == (case.phone.lstrip("+") if channel_id else None), case
    assert synced["status"] == ("False" if case.state == "Unknown" else "True"), case
    if case.action is None:
        assert "action" not in status, case
    else:
        assert case.action in status["action"]["summary"], case
        assert status["action"]["summary"] in ready["message"], case
        assert status["action"].get("url") in {None, WAZZUP}, case
    types = {each["type"] for each in status["conditions"]}
    assert types == {"Ready", "Synced"} | (set() if case.ready[0] == "True" else {"Stalled"}), case
    assert {each["observedGeneration"] for each in status["conditions"]} == {1}, case


def check_progress(world: World) -> None:
    """Check for Reconciling, then Stalled, or for a single write where neither is expected."""
    written: dict[str, list[JSON]] = {case.name: [] for case in CASES}
    for entry in world.writes():
        assert entry["responseStatus"]["code"] == 200
        written[entry["objectRef"]["name"]].append(entry["responseObject"]["status"])
    for case in CASES:
        first, *later = written[case.name]
        progress = case.expected.progress(active=case.active)
        if progress is None:
            assert not find(first, "Reconciling"), case
            assert not later, case
        elif progress == "Stalled":
            assert find(first, "Stalled"), case
            assert not find(first, "Reconciling"), case
            assert not later, case
        else:
            begun = find(first, "Reconciling")
            assert begun, case
            assert not find(first, "Stalled"), case
            assert len(later) == 1, case
            stalled = find(later[0], "Stalled")
            assert stalled, case
            assert not find(later[0], "Reconciling"), case
            waited = moment(stalled) - moment(begun)
            assert DEADLINE <= waited.total_seconds() <= DEADLINE + 10, case


def check_verdicts(world: World) -> None:
    """Check what Argo CD and Flux think of each version of each object."""
    bodies = [
        entry["responseObject"] for entry in [*world.writes("create"), *world.writes("patch")]
    ]
    seen: dict[str, list[Verdict]] = {case.name: [] for case in CASES}
    for body, verdict in zip(bodies, verdicts(bodies), strict=True):
        seen[body["metadata"]["name"]].append(verdict)
    for case in CASES:
        after_first = {
            None: [HEALTHY],
            "Stalled": [DEGRADED],
            "Reconciling": [PROGRESSING, DEGRADED],
        }
        progress = case.expected.progress(active=case.active)
        assert seen[case.name] == [PROGRESSING, *after_first[progress]], case
    accounts = ["default", "keyless"]
    eventually(
        lambda: (
            verdicts([world.api.get("wazzupaccount", each) for each in accounts])
            == [HEALTHY, DEGRADED]
        ),
        "the account without a Secret stalls",
    )


def moment(condition: JSON) -> datetime:
    return datetime.fromisoformat(condition["lastTransitionTime"])


def check_events(world: World) -> None:
    """Check for one Event per channel with Ready=False, and for no other."""
    expected = {
        (case.name, "Warning", reason): 1
        for case in CASES
        for status, reason in [case.ready]
        if status == "False"
    }

    def posted() -> bool:
        events = [
            (each["regarding"]["name"], each["type"], each["reason"])
            for each in world.api.list("event")
            if each["regarding"]["kind"] == "WazzupChannel"
        ]
        return dict(Counter(events)) == expected

    eventually(posted, "one Event for each channel with Ready=False")


def check_kubectl(world: World) -> None:
    table = world.kubectl("get", "wzch", "-o", "wide").stdout
    lines = {line.split()[0]: line for line in table.splitlines()}
    described = world.kubectl("describe", "wzch").stdout
    pages = dict(re.findall(r"(?ms)^Name: +(\S+)\n(.*?)(?=^Name: |\Z)", described))
    for case in CASES:
        for text in (lines[case.name], pages[case.name]):
            for word in (case.phone, case.state, *case.ready, case.action or ""):
                assert word in text, (case, text)
        assert lines[case.name].split()[2] == str(case.active).lower()


def check_metric(world: World) -> None:
    counts = {
        (holder, state, active): int((holder == "keyless") == (state == "Unknown"))
        for holder in ("default", "keyless")
        for state in BY_NAME
        for active in ("true", "false")
    }
    # What has no objects has no series, except for Active.
    expected = {
        key: count for key, count in counts.items() if count or key[1:] == ("Active", "true")
    }
    assert scraped(world) == expected
    world.api.delete("wazzupchannel", "blocked-on")
    world.api.delete("wazzupchannel", "unknown-off")
    del expected["default", "Blocked", "true"]
    del expected["keyless", "Unknown", "false"]
    eventually(lambda: scraped(world) == expected, "the deleted objects are not counted")


def scraped(world: World) -> dict[tuple[str, str, str], int]:
    """Return the samples of wazzup_channels by account, state and active."""
    samples: dict[tuple[str, str, str], int] = {}
    for line in world.controllers[0].metrics().splitlines():
        if line.startswith("wazzup_channels{"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            assert labels.pop("namespace") == world.api.namespace
            assert labels.keys() == {"account", "state", "active"}
            sample = labels["account"], labels["state"], labels["active"]
            assert sample not in samples, line
            samples[sample] = round(float(line.split()[-1]))
    return samples


def check_that_stalled_stays(world: World) -> None:
    """Check that a new generation turns Stalled into Reconciling, and another state does not."""
    channels = {each.row["plainId"]: each for each in world.simulator.channels(world.account)}
    flapping = channels[phone_of("noconnectionwithphone-on").lstrip("+")]
    world.simulator.patch_channel(flapping, state="init")
    world.api.patch("wazzupchannel", "off-on", {"spec": {"displayName": "Sales"}})

    status = world.wait_reason("noconnectionwithphone-on", "WaitAMinute")
    assert find(status, "Stalled")
    assert not find(status, "Reconciling")
    status = eventually(
        lambda: (s := world.status("off-on"))["observedGeneration"] == 2 and s,
        "the new generation is observed",
    )
    assert find(status, "Reconciling")
    assert not find(status, "Stalled")
