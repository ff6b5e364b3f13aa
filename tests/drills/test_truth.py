"""The judge of statuses accepts correct ones and finds wrong ones."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.drills.drill import Drill
from tests.drills.judge import Facts, Write, judge
from tests.drills.truth import AuditLog
from tests.integration.harness.api import JSON, Api, eventually
from tests.integration.harness.world import printed
from wazzup_simulator.client import Change, Request

# A has one channel: active until 100, qridle until 200, then deleted. B was never in Wazzup. C has
# two channels, one of which changed at 312. The account was listed every 5 s until 300.
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


def status(state: str, ready: tuple[str, str], **fields: Any) -> JSON:
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
    return {"observedGeneration": 1, "state": state, "conditions": conditions, **fields}


ACTIVE = status("Active", ("True", "Active"), channelID="id-a", upstreamState="active", plainID=A)
SCAN = status(
    "ScanQRCode", ("False", "ScanQRCode"), channelID="id-a", upstreamState="qridle", plainID=A
)
NOT_ADDED = status("NotAdded", ("False", "NotAdded"))
UNREACHABLE = status("Unknown", ("Unknown", "AccountUnreachable"), channelID="id-a", plainID=A)
OFF = status("Off", ("False", "Off"), channelID="id-c", upstreamState="disabled", plainID=C)
NEW = {"observedGeneration": -1}
READY, RECONCILING = (SCAN["conditions"][number] for number in range(2))


def write(at: float, content: JSON, before: JSON | None = NEW, **fields: Any) -> Write:
    """Return a write by replica-1 for an active object with number A, in generation 1."""
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
    return Write(time=at, status=content, before=before, **values)


class Case(NamedTuple):
    """Writes, and words of each violation in them."""

    writes: list[Write]
    words: list[str]


CORRECT = {
    "each-state": [
        write(50, ACTIVE),
        write(105, SCAN, ACTIVE),
        write(261, NOT_ADDED, SCAN),
    ],
    "never-added": [write(50, NOT_ADDED, number=B)],
    "listed-just-before-a-change": [write(104, ACTIVE), write(204, SCAN)],
    "kept-in-an-outage": [
        write(330, {**OFF, **status("Off", ("Unknown", "AccountUnreachable"))}, OFF, number=C)
    ],
    "allowed": [
        write(50, status("Unknown", ("False", "DuplicatePhoneNumber")), name="second"),
        write(250, {**ACTIVE, **status("Active", ("Unknown", "Paused"))}, ACTIVE, name="quiet-1"),
        write(50, status("Unknown", ("Unknown", "Paused")), {}, name="quiet-2", uid="u2"),
    ],
    "another-replica-after-a-restore": [
        write(120, SCAN),
        write(130, SCAN, ACTIVE, replica="replica-2", restores=1),
    ],
    "another-replica-continues": [
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
}
WRONG = {
    "not-shown-yet": Case(
        [write(99, SCAN)], ["qridle: in the 10.0 s before, with 2 listings, id-a showed"]
    ),
    "not-added-while-listed": Case(
        [write(150, NOT_ADDED, SCAN)], ["had a channel in every listing"]
    ),
    "not-added-too-early": Case([write(259, NOT_ADDED, SCAN)], ["had lacked id-a for only 59.0 s"]),
    "another-number-s-channel": Case(
        [write(50, {**ACTIVE, "channelID": "id-c2", "plainID": A})],
        ["the object's number is 79000000001", "did not show active"],
    ),
    "unknown-too-early": Case([write(359, UNREACHABLE, OFF)], ["staleAfter is 60 s"]),
    "kept-beyond-stale-after": Case(
        [write(369, {**OFF, "displayName": "Sales"}, OFF, number=C)],
        ["no listing for 69.0 s, it must be Unknown"],
    ),
    "duplicate-not-allowed": Case(
        [write(50, status("Unknown", ("False", "DuplicatePhoneNumber")))],
        ["does not allow"],
    ),
    "ready-while-it-waits-for-a-scan": Case(
        [write(150, {**SCAN, "conditions": [{**READY, "status": "True"}]})],
        ["active: true Ready must be False (ScanQRCode)"],
    ),
    "neither-reconciling-nor-stalled": Case(
        [write(150, {**SCAN, "conditions": [READY]})], ["0 of Reconciling and Stalled"]
    ),
    "back-to-an-older-generation": Case(
        [write(50, {**ACTIVE, "displayName": "x"}, {**ACTIVE, "observedGeneration": 2})],
        ["went back from 2 to 1"],
    ),
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
        ["nothing but times"],
    ),
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
        ["replica-1 had already written"],
    ),
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("process_cpu_seconds_total 19.790000000000003", False),
        ("the number +79000000000 is taken", True),
        ("no.79000000000", True),
        ("0079000000000", True),
        ("7900000000 0", False),
    ],
)
def test_a_printed_number_is_found(text: str, found: bool) -> None:
    assert (printed({"79000000000"}, text) == ["79000000000"]) is found


@pytest.mark.parametrize("name", CORRECT)
def test_a_correct_status_is_accepted(name: str) -> None:
    assert judge(CORRECT[name], FACTS) == []


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_status_is_found(name: str) -> None:
    found = judge(WRONG[name].writes, FACTS)
    assert len(found) == len(WRONG[name].words), [str(each) for each in found]
    for violation, words in zip(found, WRONG[name].words, strict=True):
        assert words in violation.sentence


NAMESPACE = "drill-1"
OPERATOR = "system:serviceaccount:default:drill-1-controller"


def entry(
    version: int,
    status: JSON,
    *,
    code: int = 200,
    by: str = "replica-1",
    **more: Any,
) -> JSON:
    """Return an entry of the audit log: the operator's PATCH of `version` - 1."""
    metadata = {"name": "first", "uid": "u1", "resourceVersion": str(version), "generation": 1}
    stored = {
        "kind": "WazzupChannel",
        "metadata": metadata,
        "spec": {"phoneNumber": f"+{A}", "active": True, "accountRef": {"name": "default"}},
        "status": status,
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
        "requestObject": {"metadata": {"uid": "u1", "resourceVersion": str(version - 1)}},
        "responseObject": stored if code == 200 else {"kind": "Status"},
        "requestReceivedTimestamp": f"1970-01-01T00:00:{version:02d}.500000Z",
        **more,
    }


def lines(*entries: JSON) -> str:
    return "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in entries)


def test_the_audit_log_is_read_in_the_order_of_versions(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    created = entry(9, NEW, verb="create", user={"username": "admin"}, requestObject={})
    created["objectRef"].pop("subresource")
    elsewhere = entry(11, ACTIVE)
    elsewhere["objectRef"] = {**elsewhere["objectRef"], "namespace": "drill-10"}
    event = entry(11, ACTIVE)
    event["objectRef"] = {**event["objectRef"], "resource": "events"}
    file.write_text(
        # The log is not in the order of versions.
        lines(entry(12, SCAN, by="replica-2"), created, entry(10, ACTIVE), elsewhere, event)
        + lines(entry(11, ACTIVE, code=409, by="replica-2"), {**created, "verb": "delete"})
        + '{"verb":"patch","objectRef":{"resource":"wazzupchannels","namespace":"drill-1"\n'
        + lines(entry(13, NOT_ADDED))[:-9]
    )
    log = AuditLog(file, NAMESPACE, OPERATOR)
    first, second = log.writes()
    assert (first.time, first.replica, first.number, first.status) == (10.5, "replica-1", A, ACTIVE)
    assert (first.before, first.guarded, first.changed) == (NEW, True, True)
    # Version 11 is not in the log, so the replaced status is unknown.
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


def test_writes_that_a_restored_etcd_has_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    file.write_text(lines(entry(10, ACTIVE), entry(11, SCAN), entry(12, OFF, by="replica-2")))
    log = AuditLog(file, NAMESPACE, OPERATOR)
    log.restored(10)
    file.write_text(file.read_text() + lines(entry(11, OFF), entry(12, SCAN)))
    log.restored(11)
    file.write_text(file.read_text() + lines(entry(12, ACTIVE)))
    found = [(each.status, each.before, each.restores) for each in log.writes()]
    assert found == [
        (ACTIVE, None, 0),
        (SCAN, ACTIVE, 0),
        (OFF, ACTIVE, 1),
        (OFF, SCAN, 0),
        (SCAN, OFF, 1),
        (ACTIVE, OFF, 2),
    ]


def test_a_real_audit_log(drill: Drill) -> None:
    """The operator's writes are right; a wrong one in its name is found."""
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
    site.show(0, "qridle")
    drill.wait_states({"real-0": ("ScanQRCode", "False", "ScanQRCode")})
    truth.assert_true()
    assert truth.writes() == {"replica-1": 4}
    assert gate.watches == 2
    assert [write.status["state"] for write in truth.written("real-0")] == ["Active", "ScanQRCode"]

    impostor = Api(drill.plane.kubeconfig_for(drill.operator, ["replica-9"]), drill.api.namespace)
    metadata = drill.api.get("wazzupchannel", "real-1")["metadata"]
    body = {
        "metadata": {key: metadata[key] for key in ("uid", "resourceVersion")},
        "status": {"upstreamState": "active", "state": "Active"},
    }
    path = f"{impostor.path('wazzupchannel', 'real-1')}/status"
    impostor.request("PATCH", path, body, "application/merge-patch+json")
    with pytest.raises(AssertionError, match="2 violations") as caught:
        truth.assert_true()
    first, second = str(caught.value).splitlines()[1:3]
    assert "real-1: replica-9 wrote Active, Ready=False (ScanQRCode)" in first
    assert "with active: true Ready must be True (Active)" in first
    assert "Wazzup did not show active" in second
    assert site.channel(1).id in second
    drill.controllers[0].stop()
    eventually(lambda: gate.watches == 0, "no watch is open")
