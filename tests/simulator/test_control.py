"""The control interface."""

import json
import time
import uuid
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from wazzup_simulator.client import Account, Simulator, SimulatorError
from wazzup_simulator.record import fingerprint


def send(simulator: Simulator, method: str, path: str, body: str = "") -> tuple[int, object]:
    connection = HTTPConnection(urlsplit(simulator.base_url).netloc, timeout=5)
    try:
        connection.request(method, "/_sim" + path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_accounts(simulator: Simulator) -> None:
    mark = uuid.uuid4().hex
    added = simulator.add_account(
        [f"{mark}-1", f"{mark}-2"], id=mark, sidecar_keys=[f"{mark}-3"], forbidden=True
    )
    assert added == Account(mark, [f"{mark}-1", f"{mark}-2"], [f"{mark}-3"], True)
    changed = simulator.change_account(mark, keys=[f"{mark}-4"], forbidden=False)
    assert changed == Account(mark, [f"{mark}-4"], [f"{mark}-3"], False)
    assert changed in simulator.accounts()


def test_channels(simulator: Simulator, customer) -> None:
    one = simulator.add_channel("79865784457", account=customer.id, channel_id="a/b c")
    other = simulator.add_channel("79865784457", account=customer.id, duplicate=True)
    assert one.id == "a/b c"
    assert simulator.act(one, "scan", phone="7").row["state"] == "foreignphone"
    assert simulator.patch_channel(one, channelId=None).row.get("channelId") is None
    assert [found.id for found in simulator.channels(customer.id)] == [one.id, other.id]
    simulator.delete_channel(one)
    assert simulator.channels(customer.id) == [other]


def test_add_many_channels_in_one_request(simulator: Simulator, customer, get) -> None:
    wanted = [{"phone": f"7900{n:07d}", "state": "active"} for n in range(10_000)]
    added = simulator.add_channels(wanted, account=customer.id)
    assert len({channel.id for channel in added}) == 10_000
    assert {row["plainId"] for row in get(customer.key).json} == {new["phone"] for new in wanted}
    assert simulator.add_channels(wanted[:2], account=customer.id) == added[:2]


def test_requests_are_recorded(simulator: Simulator, customer, get) -> None:
    before = time.time()
    simulator.add_fault("status", code=500, account=customer.id, times=1)
    get(customer.key, "/v3/channels?page=2")
    get(customer.key, "/v3/contacts", method="POST")
    found = simulator.requests(customer.id)
    assert found.total == 2
    assert [
        (entry.account, entry.method, entry.path, entry.status, entry.fault, entry.key)
        for entry in found.requests
    ] == [
        (customer.id, "GET", "/v3/channels?page=2", 500, "status", fingerprint(customer.key)),
        (customer.id, "POST", "/v3/contacts", 404, None, fingerprint(customer.key)),
    ]
    assert before <= found.requests[0].time <= found.requests[1].time <= time.time()


def test_requests_with_unknown_keys_are_recorded(simulator: Simulator, customer, get) -> None:
    simulator.clear_requests()
    get("wrong")
    get(None)
    get(customer.key)
    found = simulator.requests()
    assert found.total == 3
    assert [(entry.account, entry.status, entry.key) for entry in found.requests] == [
        (None, 401, fingerprint("wrong")),
        (None, 401, None),
        (customer.id, 200, fingerprint(customer.key)),
    ]


def test_history(simulator: Simulator, customer) -> None:
    before = time.time()
    channel = simulator.add_channel("79865784457", account=customer.id)
    simulator.act(channel, "scan")
    simulator.delete_channel(channel)
    changes = simulator.history(customer.id)
    assert [(change.account, change.channel, change.state) for change in changes] == [
        (customer.id, channel.id, "qridle"),
        (customer.id, channel.id, "active"),
        (customer.id, channel.id, None),
    ]
    assert before <= changes[0].time <= changes[2].time <= time.time()
    assert simulator.history()[-3:] == changes


ACCOUNT = "/accounts/nobody"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", "/accounts", "{", 400, "The body is not JSON."),
        ("POST", "/accounts", "[]", 400, "The body must be a JSON object."),
        ("POST", "/accounts", '{"name": "x"}', 422, "Unknown field: name."),
        (
            "POST",
            "/accounts",
            '{"keys": "k"}',
            422,
            "The field keys must be a list of non-empty strings.",
        ),
        (
            "POST",
            "/accounts",
            '{"forbidden": 1}',
            422,
            "The field forbidden must be true or false.",
        ),
        ("PATCH", ACCOUNT, "{}", 404, "There is no account nobody."),
        ("POST", ACCOUNT + "/channels", "{}", 422, "The field phone is missing."),
        ("POST", ACCOUNT + "/channels", "[7]", 422, "A channel must be a JSON object."),
        (
            "POST",
            "/faults",
            '{"kind": "status", "code": 99}',
            422,
            "The field code must be a number from 200 to 599.",
        ),
        (
            "POST",
            "/faults",
            '{"kind": "empty", "times": 1.5}',
            422,
            "The field times must be a whole number.",
        ),
        (
            "POST",
            "/faults",
            '{"kind": "not-an-array", "value": []}',
            422,
            "The field value must not be an array.",
        ),
        (
            "POST",
            "/faults",
            '{"kind": "huge", "extra": 1000, "nameLength": 1000000}',
            422,
            "The names would exceed 100000000 characters in total.",
        ),
        ("GET", "/nothing", "", 404, "There is no route GET /_sim/nothing."),
        ("PUT", "/faults", "", 405, "There is no route PUT /_sim/faults."),
    ],
)
def test_refusals(
    simulator: Simulator, method: str, path: str, body: str, status: int, message: str
) -> None:
    assert send(simulator, method, path, body) == (status, {"error": message})


def test_client_raises_refusals(simulator: Simulator, customer) -> None:
    channel = simulator.add_channel("79865784457", account=customer.id)
    with pytest.raises(SimulatorError, match=r"^The action find-phone needs") as refused:
        simulator.act(channel, "find-phone")
    assert refused.value.status == 409
    with pytest.raises(SimulatorError, match=r"^Unknown action pray\. Actions: run-out") as no:
        simulator._call("POST", f"/accounts/{customer.id}/pray")
    assert no.value.status == 404
    with pytest.raises(SimulatorError, match=r"^Unknown fault gremlin\. Faults: slow, "):
        simulator.add_fault("gremlin")
    with pytest.raises(SimulatorError, match=rf"has no channel {channel.id}x"):
        simulator.patch_channel(type(channel)(customer.id, channel.id + "x", {}))
