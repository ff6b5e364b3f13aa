"""Every fault, as seen by an HTTP client."""

import gzip
import json
import threading
import time
from http.client import BadStatusLine, HTTPConnection, IncompleteRead
from urllib.parse import urlsplit

import pytest

from tests.simulator.customer import any_order
from wazzup_simulator.client import Channel, Simulator, SimulatorError
from wazzup_simulator.faults import KINDS, Faults


@pytest.fixture
def pair(simulator: Simulator, customer) -> tuple[Channel, Channel]:
    one = simulator.add_channel("79865784457", account=customer.id, state="active")
    return one, simulator.add_channel("77009252505", "wapi", account=customer.id)


@pytest.fixture
def fault(simulator: Simulator, customer):
    def fault(kind: str, **parameters: object) -> None:
        simulator.add_fault(kind, account=customer.id, **parameters)

    return fault


def test_kinds() -> None:
    assert set(KINDS) == {
        "status", "slow", "hang", "cut", "refuse", "malformed", "html", "empty", "wrapped",
        "not-an-array", "duplicate", "contradict", "partial", "no-id", "redirect", "huge", "bulk",
    }  # fmt: skip


def test_status(customer, get, fault) -> None:
    fault("status", code=429, headers={"Retry-After": "7"}, times=1)
    fault("status", code=500, body={"error": "INTERNAL"}, times=1)
    fault("status", code=503, body="<p>", headers={"Content-Type": "text/html"}, times=1)
    limited, broken, page, regular = (get(customer.key) for _ in range(4))
    assert (limited.status, limited.body, limited.headers["Retry-After"]) == (429, b"", "7")
    assert (broken.status, broken.json) == (500, {"error": "INTERNAL"})
    assert (page.status, page.body, page.headers["Content-Type"]) == (503, b"<p>", "text/html")
    assert (regular.status, regular.json) == (200, [])


def test_slow(customer, get, fault, pair) -> None:
    fault("slow", delay=0.3)
    began = time.monotonic()
    assert {row["channelId"] for row in get(customer.key).json} == {pair[0].id, pair[1].id}
    assert time.monotonic() - began >= 0.3


def test_hang_until_the_client_times_out(simulator: Simulator, customer, get, fault) -> None:
    fault("hang", times=1)
    with pytest.raises(TimeoutError):
        get(customer.key, timeout=0.3)
    assert get(customer.key).status == 200
    hung, answered = simulator.requests(customer.id).requests
    assert (hung.fault, hung.status) == ("hang", None)
    assert (answered.fault, answered.status) == (None, 200)


def test_hang_until_the_faults_are_cleared(simulator: Simulator, customer, get, fault) -> None:
    fault("hang")
    statuses: list[int] = []
    waiting = threading.Thread(target=lambda: statuses.append(get(customer.key).status))
    waiting.start()
    while not simulator.requests(customer.id).requests:
        time.sleep(0.01)
    assert statuses == []
    simulator.clear_faults()
    waiting.join(5)
    assert statuses == [200]


def test_cut(simulator: Simulator, customer, get, fault, pair) -> None:
    whole = get(customer.key).body
    fault("cut")
    connection = HTTPConnection(urlsplit(simulator.base_url).netloc, timeout=5)
    connection.request("GET", "/v3/channels", headers={"Authorization": f"Bearer {customer.key}"})
    response = connection.getresponse()
    assert response.status == 200
    assert response.getheader("Content-Length") == str(len(whole))
    with pytest.raises((IncompleteRead, ConnectionError)):
        response.read()
    connection.close()


def test_refuse(customer, get, fault) -> None:
    fault("refuse", times=1)
    with pytest.raises((BadStatusLine, ConnectionError)):
        get(customer.key)
    assert get(customer.key).status == 200


def test_malformed(customer, get, fault, pair) -> None:
    whole = get(customer.key).body
    fault("malformed")
    got = get(customer.key)
    assert (got.status, len(got.body)) == (200, len(whole) // 2)
    assert got.headers["Content-Length"] == str(len(got.body))
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(got.body)


def test_html(customer, get, fault) -> None:
    fault("html")
    got = get(customer.key)
    assert (got.status, got.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert got.body.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize(("given", "code"), [({}, 302), ({"code": 307}, 307)])
def test_redirect(customer, get, fault, given: dict[str, int], code: int) -> None:
    fault("redirect", location="http://elsewhere.example/", **given)
    got = get(customer.key)
    assert (got.status, got.headers["Location"]) == (code, "http://elsewhere.example/")


def test_empty(customer, get, fault, pair) -> None:
    fault("empty")
    assert get(customer.key).json == []


def test_wrapped(customer, get, fault, pair) -> None:
    fault("wrapped")
    assert get(customer.key).json == {"channels": [pair[0].row, pair[1].row]}


@pytest.mark.parametrize("value", ["text", 7, {"a": []}, None])
def test_not_an_array(customer, get, fault, value: object) -> None:
    fault("not-an-array", value=value)
    assert get(customer.key).json == value


def test_duplicate(customer, get, fault, pair) -> None:
    one, other = pair
    fault("duplicate", times=1)
    fault("duplicate", channels=[other.id])
    assert any_order(get(customer.key).json) == any_order([one.row, one.row, other.row, other.row])
    assert any_order(get(customer.key).json) == any_order([one.row, other.row, other.row])


def test_contradict(customer, get, fault, pair) -> None:
    one, other = pair
    fault("contradict", times=1)
    fault("contradict", channels=[one.id])
    against_one = {**one.row, "plainId": "10000000000", "state": "qridle"}
    against_other = {**other.row, "plainId": "10000000000", "state": "active"}
    assert any_order(get(customer.key).json) == any_order(
        [one.row, other.row, against_one, against_other]
    )
    assert any_order(get(customer.key).json) == any_order([one.row, other.row, against_one])


def test_partial(simulator: Simulator, customer, get, fault, pair) -> None:
    one, other = pair
    third = simulator.add_channel("5214429253333", account=customer.id)
    fault("partial", channels=[one.id], times=1)
    fault("partial", times=1)
    fault("partial", fraction=0.3, times=1)
    fault("partial", fraction=1, times=1)
    assert any_order(get(customer.key).json) == any_order([other.row, third.row])
    assert any_order(get(customer.key).json) == any_order([one.row])
    assert any_order(get(customer.key).json) == any_order([one.row, other.row])
    assert get(customer.key).json == []


def test_no_id(customer, get, fault, pair) -> None:
    one, other = pair
    fault("no-id", channels=[other.id], times=1)
    fault("no-id")
    assert {row.get("channelId") for row in get(customer.key).json} == {one.id, None}
    assert [row.get("channelId") for row in get(customer.key).json] == [None, None]


def test_huge(customer, get, fault, pair) -> None:
    fault("huge", extra=10_000, times=1)
    fault("huge", nameLength=1_048_576)
    rows = get(customer.key).json
    assert all(one.row in rows for one in pair)
    assert len({row["channelId"] for row in rows}) == 10_002
    assert sorted(len(row["name"]) for row in get(customer.key).json) == [11, 11, 1_048_576]


def test_bulk(customer, get, fault) -> None:
    fault("bulk", prefix="[", unit="{},", count=3, suffix="{}]", times=1)
    fault("bulk", unit=" ", count=1_000_000, gzip=True, times=1)
    plain, compressed = get(customer.key), get(customer.key)
    assert (plain.status, plain.body) == (200, b"[{},{},{},{}]")
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert len(compressed.body) < 10_000
    assert gzip.decompress(compressed.body) == b" " * 1_000_000
    with pytest.raises(SimulatorError, match="exceed 100000000 characters"):
        fault("bulk", unit="ab", count=50_000_001)


def test_faults_form_a_queue(customer, get, fault) -> None:
    fault("status", code=500, times=2)
    fault("status", code=401, times=1)
    assert [get(customer.key).status for _ in range(4)] == [500, 500, 401, 200]


def test_listing_fault_waits_for_a_listing(customer, get, fault, pair) -> None:
    fault("empty", times=1)
    assert get(customer.key, "/v3/contacts").status == 404
    assert [get(customer.key).json, len(get(customer.key).json)] == [[], 2]


def test_fault_of_one_account_does_not_affect_others(simulator: Simulator, customer, get) -> None:
    other = simulator.add_account([customer.key[::-1] + "x"])
    simulator.add_fault("status", code=500, account=other.id)
    assert (get(customer.key).status, get(other.keys[0]).status) == (200, 500)
    assert get("nobody's key").status == 401
    simulator.clear_faults()
    simulator.add_fault("status", code=503)
    assert [get(key).status for key in (customer.key, other.keys[0], "nobody")] == [503] * 3


def test_faults_are_listed_while_active(simulator: Simulator, customer, get) -> None:
    simulator.add_fault("status", code=500, account=customer.id, times=2)
    simulator.add_fault("slow", delay=0.01, seconds=60)
    get(customer.key)
    status, slow = simulator.faults()
    assert (status.kind, status.account, status.times, status.hits) == (
        "status",
        customer.id,
        1,
        1,
    )
    assert (status.seconds, status.parameters) == (None, {"code": 500})
    assert (slow.account, slow.times, slow.hits) == (None, None, 0)
    assert slow.seconds is not None
    assert 0 < slow.seconds <= 60
    get(customer.key)
    assert [found.kind for found in simulator.faults()] == ["slow"]
    simulator.clear_faults()
    assert simulator.faults() == []


def test_fault_expires() -> None:
    now = 10.0
    faults = Faults(clock=lambda: now)
    faults.add({"kind": "html", "seconds": 5})
    assert faults.take("acme", listing=True) is not None
    now = 15.0
    assert faults.take("acme", listing=True) is None
