"""The judge of statuses, who must believe the truth and find every lie."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.drills.drill import Drill
from tests.drills.judge import Facts, Write, judge
from tests.drills.truth import AuditLog
from tests.integration.harness.api import JSON, Api, eventually
from tests.integration.harness.world import printed
from wazzup_simulator.client import Change, Request

# The judge on plain data. Beside the number A with one channel, which was Active until 100, waited
# for a scan until 200, and was deleted then, there are B, which was never in Wazzup, and C, which
# has two channels, one of which changed at 312. The account was listed each 5 s until 300, and not
# any more after that.
A, B, C = "79000000001", "79000000002", "79000000003"
FACTS = Facts(
    changes={
        "default": [
            Change(0, "w", "id-a", "active"),
            Change(0, "w", "id-c", "disabled"),
            Change(0, "w", "id-c2", "gone-fishing"),
            Change(100, "w", "id-a", "qridle"),
            Change(200, "w", "id-a", None),
            Change(312, "w", "id-c2", "active"),
        ]
    },
    requests={
        "default": [
            *(Request(at, "w", "GET", "/v3/channels", None, 200, None) for at in range(0, 301, 5)),
            Request(305, "w", "GET", "/v3/channels", None, 200, "empty"),
            Request(310, "w", "GET", "/v3/channels", None, 500, "status"),
            Request(315, "w", "GET", "/v3/channels", None, None, "hang"),
        ]
    },
    numbers={"id-a": A, "id-c": C, "id-c2": C},
    window=10,
    stale_after=60,
    grace=3,
    allow={"second": {"DuplicatePhoneNumber"}, "quiet-*": {"Paused"}},
)


def status(state: str | None, ready: tuple[str, str], **fields: Any) -> JSON:
    """Return a status of generation 1."""
    types = [("Ready", ready[0])]
    if ready[0] != "True" and ready[1] != "Paused":
        types.append((fields.pop("progress", "Reconciling"), "True"))
    conditions = [
        {
            "type": type_,
            "status": each,
            "reason": ready[1],
            "message": "",
            "observedGeneration": 1,
            "lastTransitionTime": fields.get("stateSince", "2026-01-01T00:00:00Z"),
        }
        for type_, each in types
    ]
    found = {"observedGeneration": 1, "state": state, "conditions": conditions, **fields}
    return {key: value for key, value in found.items() if value is not None}


ACTIVE = status("Active", ("True", "Active"), channelID="id-a", upstreamState="active", plainID=A)
SCAN = status(
    "ScanQRCode", ("False", "ScanQRCode"), channelID="id-a", upstreamState="qridle", plainID=A
)
NOT_ADDED = status("NotAdded", ("False", "NotAdded"))
UNREACHABLE = status("Unknown", ("Unknown", "AccountUnreachable"), channelID="id-a", plainID=A)
OFF = status("Off", ("False", "Off"), channelID="id-c", upstreamState="disabled", plainID=C)
FISHING = status(
    "SomethingWentWrong",
    ("False", "SomethingWentWrong"),
    channelID="id-c2",
    upstreamState="gone-fishing",
)
NEW = {"observedGeneration": -1}
READY, RECONCILING = (SCAN["conditions"][number] for number in range(2))


def write(at: float, said: JSON, before: JSON | None = NEW, **fields: Any) -> Write:
    """Return a write for A, by replica-1, in generation 1, of an object that is to be on."""
    values = {
        "name": "first",
        "uid": "u1",
        "replica": "replica-1",
        "account": "default",
        "number": A,
        "active": True,
        "generation": 1,
        "last_known": before or {},
        **fields,
    }
    return Write(time=at, status=said, before=before, **values)


class Case(NamedTuple):
    """Writes, and words of the sentences that are said about them."""

    writes: list[Write]
    words: list[str]


TRUE = {
    "each-state": [
        write(50, ACTIVE),
        write(105, SCAN, ACTIVE),
        write(206, NOT_ADDED, SCAN),
    ],
    "listed-just-before-it-changed": [write(104, ACTIVE), write(204, SCAN)],
    "not-in-wazzup": [write(50, NOT_ADDED, number=B)],
    "spelt-otherwise": [write(50, {**ACTIVE, "upstreamState": "ACTIVE"})],
    "a-state-that-is-new": [write(50, FISHING, number=C)],
    "listed-long-ago-but-still-so": [write(318, OFF, number=C)],
    "off-as-declared": [
        write(50, {**OFF, **status("Off", ("True", "Off"))}, number=C, active=False)
    ],
    "still-active": [
        write(
            50,
            status("Active", ("False", "StillActive"), channelID="id-a", upstreamState="active"),
            active=False,
        )
    ],
    "never-seen-in-an-outage": [write(320, UNREACHABLE), write(320, UNREACHABLE, {}, uid="u2")],
    "unknown-beyond-stale-after": [write(361, UNREACHABLE, OFF)],
    "kept-in-an-outage": [
        write(330, {**OFF, **status("Off", ("Unknown", "AccountUnreachable"))}, OFF, number=C)
    ],
    "kept-until-stalled": [
        write(355, {**OFF, **status("Off", ("False", "Off"), progress="Stalled")}, OFF, number=C)
    ],
    "in-doubt-from-the-beginning": [write(50, status("Unknown", ("Unknown", "Unknown")))],
    "allowed": [
        write(50, status("Unknown", ("False", "DuplicatePhoneNumber")), name="second"),
        write(250, {**ACTIVE, **status("Active", ("Unknown", "Paused"))}, ACTIVE, name="quiet-1"),
        write(50, status("Unknown", ("Unknown", "Paused")), {}, name="quiet-2", uid="u2"),
    ],
    "a-new-name": [write(50, {**ACTIVE, "displayName": "Sales"}, ACTIVE)],
    "a-new-message": [
        write(150, {**SCAN, "conditions": [READY, {**RECONCILING, "message": "Now."}]}, SCAN)
    ],
    "another-replica-tells-more": [
        write(120, SCAN),
        write(
            125,
            status(
                "ScanQRCode",
                ("False", "ScanQRCode"),
                progress="Stalled",
                channelID="id-a",
                upstreamState="qridle",
            ),
            SCAN,
            replica="replica-2",
        ),
    ],
    "what-was-there-is-not-known": [write(50, ACTIVE, None), write(55, ACTIVE, None)],
}
LIES = {
    "not-yet": Case(
        [write(99, SCAN)], ["qridle: in the 10.0 s before, with 2 listings, id-a showed"]
    ),
    "not-listed-since": Case([write(316, FISHING, number=C)], ["with 0 listings, id-c showed"]),
    "added-before-the-listing": Case([write(4, NOT_ADDED)], ["had a channel whenever"]),
    "no-more": Case([write(111, ACTIVE)], ["did not show active"]),
    "kept-too-long-although-listed": Case(
        [write(150, {**ACTIVE, "displayName": "Sales"}, ACTIVE)], ["did not show active"]
    ),
    "gone": Case([write(211, SCAN)], ["did not show qridle"]),
    "not-added-although-there": Case([write(150, NOT_ADDED, SCAN)], ["had a channel whenever"]),
    "not-added-with-an-id": Case(
        [write(250, {**NOT_ADDED, "channelID": "id-a"})], ["has no channelID"]
    ),
    "one-of-two-gone-is-not-gone": Case(
        [write(250, NOT_ADDED, number=C)], ["id-c showed disabled"]
    ),
    "no-such-account": Case(
        [write(50, ACTIVE, account="other")],
        ["id-a is the channel of 79000000001", "did not show active"],
    ),
    "another-number-s-channel": Case(
        [write(50, {**ACTIVE, "channelID": "id-c2", "plainID": A})],
        ["the object's number is 79000000001", "did not show active"],
    ),
    "another-number": Case([write(50, {**ACTIVE, "plainID": B})], [f"plainID is {B}"]),
    "no-id": Case(
        [write(50, {k: v for k, v in ACTIVE.items() if k != "channelID"})], ["without the channel"]
    ),
    "no-state": Case(
        [write(50, status(None, ("Unknown", "Unknown")))], ["Ready must be", "without a state"]
    ),
    "another-word": Case([write(50, {**ACTIVE, "upstreamState": "qridle"})], ["means", "did not"]),
    "unknown-too-early": Case([write(359, UNREACHABLE, OFF)], ["staleAfter is 60 s"]),
    "unknown-while-all-is-well": Case([write(150, UNREACHABLE, SCAN)], ["listed 0.0 s before"]),
    "kept-beyond-stale-after": Case(
        [write(369, {**OFF, "displayName": "Sales"}, OFF, number=C)],
        ["no listing for 64.0 s, it must be Unknown"],
    ),
    "a-doubt-forgets": Case(
        [write(150, status("Unknown", ("Unknown", "Unknown")), SCAN)], ["must not change that"]
    ),
    "unknown-for-nothing": Case(
        [write(50, status("Unknown", ("Unknown", "Because")))], ["no reason"]
    ),
    "unknown-and-not-ready": Case(
        [write(320, status("Unknown", ("False", "AccountUnreachable")))], ["must be Unknown"]
    ),
    "duplicate-without-cause": Case(
        [write(50, status("Unknown", ("False", "DuplicatePhoneNumber")))], ["gives no cause"]
    ),
    "paused-and-changed": Case(
        [
            write(
                150, {**SCAN, **status("ScanQRCode", ("Unknown", "Paused"))}, ACTIVE, name="quiet-1"
            )
        ],
        ["a pause must not"],
    ),
    "paused-and-false": Case(
        [write(150, {**SCAN, **status("ScanQRCode", ("False", "Paused"))}, SCAN, name="quiet-1")],
        ["Ready is Unknown"],
    ),
    "ready-although-it-waits": Case(
        [write(150, {**SCAN, "conditions": [{**READY, "status": "True"}]})],
        ["active: true Ready must be False (ScanQRCode)"],
    ),
    "not-ready-although-off": Case(
        [write(50, OFF, number=C, active=False)], ["active: false Ready must be True (Off)"]
    ),
    "ready-and-reconciling": Case(
        [write(50, {**ACTIVE, "conditions": [*ACTIVE["conditions"], RECONCILING]})],
        ["condition Reconciling"],
    ),
    "neither-reconciling-nor-stalled": Case(
        [write(150, {**SCAN, "conditions": [READY]})], ["0 of Reconciling and Stalled"]
    ),
    "ahead-of-the-generation": Case([write(50, {**ACTIVE, "observedGeneration": 2})], ["has 1"]),
    "back-to-an-older-generation": Case(
        [write(50, {**ACTIVE, "displayName": "x"}, {**ACTIVE, "observedGeneration": 2})],
        ["went back from 2 to 1"],
    ),
    "the-same-again": Case([write(50, ACTIVE, ACTIVE)], ["stored already"]),
    "only-times-differ": Case(
        [
            write(
                150,
                {
                    **SCAN,
                    "stateSince": "2026-02-02T00:00:00Z",
                    "conditions": [
                        {**each, "lastTransitionTime": "2026-02-02T00:00:00Z"}
                        for each in SCAN["conditions"][::-1]
                    ],
                },
                SCAN,
            )
        ],
        ["stored already"],
    ),
    "a-patch-without-effect": Case([write(50, ACTIVE, None, changed=False)], ["stored already"]),
    "a-patch-without-a-version": Case([write(50, ACTIVE, guarded=False)], ["no resourceVersion"]),
    "written-by-two": Case(
        [
            write(120, SCAN),
            write(
                121,
                {**SCAN, "conditions": [{**READY, "message": "Scan."}, RECONCILING]},
                SCAN,
                replica="replica-2",
            ),
        ],
        ["replica-1 had written this very change"],
    ),
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("process_cpu_seconds_total 19.790000000000003", False),
        ("79000000000", True),
        ("the number +79000000000 is taken", True),
        ("id:79000000000.", True),
        ("no.79000000000", True),
        ("0079000000000", True),
        ("790000000000", True),
        ("7900000000 0", False),
    ],
)
def test_a_number_that_was_printed_is_found(text: str, found: bool) -> None:
    assert (printed({"79000000000"}, text) == ["79000000000"]) is found


@pytest.mark.parametrize("name", TRUE)
def test_the_truth_is_believed(name: str) -> None:
    assert judge(TRUE[name], FACTS) == []


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_found(name: str) -> None:
    lies = judge(LIES[name].writes, FACTS)
    assert len(lies) == len(LIES[name].words), [str(lie) for lie in lies]
    for lie, words in zip(lies, LIES[name].words, strict=True):
        assert words in lie.sentence
        assert str(lie).startswith("00:0")
        assert "first: replica-" in str(lie) or "quiet-1: replica-" in str(lie)


def test_a_deleted_number_that_comes_back() -> None:
    """A new channel of the number, which the other account's one is not."""
    changes = [*FACTS.changes["default"], Change(250, "w", "id-a2", "active")]
    numbers = {**FACTS.numbers, "id-a2": A}
    facts = replace(FACTS, changes={"default": changes, "other": []}, numbers=numbers)
    back = {**ACTIVE, "channelID": "id-a2"}
    assert judge([write(255, back, NOT_ADDED)], facts) == []
    assert len(judge([write(249, back, NOT_ADDED)], facts)) == 1
    assert len(judge([write(255, ACTIVE, NOT_ADDED)], facts)) == 1
    assert len(judge([write(255, back, account="other")], facts)) == 2
    assert judge([write(254, NOT_ADDED)], facts) == []
    assert len(judge([write(256, NOT_ADDED)], facts)) == 1


NAMESPACE = "drill-1"
OPERATOR = "system:serviceaccount:default:drill-1-controller"


def entry(
    version: int,
    said: JSON,
    *,
    uid: str = "u1",
    code: int = 200,
    by: str = "replica-1",
    **more: Any,
) -> JSON:
    """Return a line of the audit log: the operator wrote over version - 1."""
    metadata = {"name": "first", "uid": uid, "resourceVersion": str(version), "generation": 1}
    stored = {
        "kind": "WazzupChannel",
        "metadata": metadata,
        "spec": {"phoneNumber": f"+{A}", "active": True, "accountRef": {"name": "default"}},
        "status": said,
    }
    return {
        "verb": "patch",
        "user": {"username": OPERATOR, "groups": ["system:authenticated", by]},
        "objectRef": {
            "resource": "wazzupchannels",
            "namespace": NAMESPACE,
            "name": "first",
            "subresource": "status",
        },
        "responseStatus": {"code": code},
        "requestObject": {"metadata": {"uid": uid, "resourceVersion": str(version - 1)}},
        "responseObject": stored if code == 200 else {"kind": "Status"},
        "requestReceivedTimestamp": f"1970-01-01T00:00:{version:02d}.500000Z",
        **more,
    }


def lines(*entries: JSON) -> str:
    return "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in entries)


def test_the_audit_log_is_followed_from_version_to_version(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    made = entry(9, NEW, verb="create", user={"username": "admin"}, requestObject={})
    made["objectRef"].pop("subresource")
    away = entry(11, ACTIVE)
    away["objectRef"] = {**away["objectRef"], "namespace": "drill-10"}
    event = entry(11, ACTIVE)
    event["objectRef"] = {**event["objectRef"], "resource": "events"}
    file.write_text(
        # The log is not in the order of versions.
        lines(entry(12, SCAN, by="replica-2"), made, entry(10, ACTIVE), away, event)
        + lines(entry(11, ACTIVE, code=409, by="replica-2"), {**made, "verb": "delete"})
        + '{"verb":"patch","objectRef":{"resource":"wazzupchannels","namespace":"drill-1"\n'
        + lines(entry(13, NOT_ADDED))[:-9]
    )
    log = AuditLog(file, NAMESPACE, OPERATOR)
    first, second = log.writes()
    assert (first.time, first.replica, first.number, first.status) == (10.5, "replica-1", A, ACTIVE)
    assert (first.before, first.guarded, first.changed) == (NEW, True, True)
    # Version 11 is not in the log, so what this one replaced is not known for sure.
    assert (second.replica, second.before, second.last_known) == ("replica-2", None, ACTIVE)
    assert log.refused == {("replica-2", 409): 1}
    assert log.damaged == 1

    file.write_text(file.read_text() + lines(entry(13, NOT_ADDED))[-9:] + lines(entry(14, SCAN)))
    third, fourth = log.writes()[2:]
    assert (third.before, fourth.before) == (SCAN, NOT_ADDED)
    no_effect = entry(14, SCAN)
    no_effect["requestObject"]["metadata"]["resourceVersion"] = "14"
    no_effect["requestObject"]["metadata"].pop("uid")
    file.write_text(file.read_text() + lines(no_effect))
    last = max(log.writes(), key=lambda each: not each.changed)
    assert (last.changed, last.guarded, last.before) == (False, False, SCAN)


def test_a_large_audit_log_is_read_in_seconds(tmp_path: Path) -> None:
    padding = {"managedFields": [{"f": "x" * 3000}]}
    with (tmp_path / "audit.log").open("w") as file:
        for number in range(10_000):
            own = entry(9, ACTIVE, uid=f"u{number}")
            own["responseObject"]["metadata"].update(padding)
            away = {**own, "objectRef": {**own["objectRef"], "namespace": "elsewhere"}}
            file.write(lines(own, away, away, away, away))
    begun = time.process_time()
    writes = AuditLog(tmp_path / "audit.log", NAMESPACE, OPERATOR).writes()
    assert len(judge(writes, FACTS)) == 0
    assert len(writes) == 10_000
    assert time.process_time() - begun < 10


def test_the_truth_of_a_real_log(drill: Drill) -> None:
    """What the operator writes is true; what somebody else writes in its name is not."""
    site = drill.site("real", ["active", "qridle", None])
    truth = drill.truth(window=20, stale_after=600)
    with pytest.raises(AssertionError, match="nothing was written"):
        truth.assert_true()
    gate = drill.gate(1)
    drill.replica(1, gate=gate).wait_ready()
    expected = {
        "real-0": ("Active", "True", "Active"),
        "real-1": ("ScanQRCode", "False", "ScanQRCode"),
        "real-2": ("NotAdded", "False", "NotAdded"),
    }
    drill.wait_states(expected)
    site.wait_account("UpToDate")
    site.delete_channel(0)
    drill.wait_states({"real-0": ("NotAdded", "False", "NotAdded")})
    truth.assert_true()
    assert truth.writes() == {"replica-1": 4}
    assert gate.watches == 2
    assert [write.status["state"] for write in truth.written("real-0")] == ["Active", "NotAdded"]

    liar = Api(drill.plane.kubeconfig_for(drill.operator, ["replica-9"]), drill.api.namespace)
    metadata = drill.api.get("wazzupchannel", "real-1")["metadata"]
    body = {
        "metadata": {key: metadata[key] for key in ("uid", "resourceVersion")},
        "status": {"upstreamState": "active", "state": "Active"},
    }
    path = f"{liar.path('wazzupchannel', 'real-1')}/status"
    liar.request("PATCH", path, body, "application/merge-patch+json")
    with pytest.raises(AssertionError, match="2 statuses were wrong on the way") as caught:
        truth.assert_true()
    first, second = str(caught.value).splitlines()[1:3]
    assert "real-1: replica-9 wrote Active, Ready=False (ScanQRCode)" in first
    assert "with active: true Ready must be True (Active)" in first
    assert "Wazzup did not show active" in second
    assert site.channel(1).id in second
    drill.controllers[0].stop()
    eventually(lambda: gate.watches == 0, "nobody watches any more")
