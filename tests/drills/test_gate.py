"""The gate before the API server, as the drills use it."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.controlplane.plane import ControlPlane
from tests.drills.gate import Gate, status_body
from tests.integration.harness.api import JSON, Api, eventually

PATHS = "/api/v1/namespaces/default/configmaps"
SHORT = 0.5
"""Seconds in which nothing is to come."""


@pytest.fixture
def gate(plane: ControlPlane, tmp_path: Path) -> Iterator[Gate]:
    with Gate.launch(plane, tmp_path, "gardener", ("system:masters", "replica-3")) as gate:
        yield gate


def ask(
    gate: Gate, path: str = PATHS, method: str = "GET", body: object = None, timeout: float = 5
) -> tuple[int, JSON]:
    connection = http.client.HTTPConnection(gate.url.removeprefix("http://"), timeout=timeout)
    try:
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or "{}")
    finally:
        connection.close()


class Follower:
    """A watch through the gate, read in a thread."""

    def __init__(self, gate: Gate) -> None:
        self.events: list[JSON] = []
        self.end: str | None = None
        self._connection = http.client.HTTPConnection(gate.url.removeprefix("http://"), timeout=30)
        self._connection.request("GET", f"{PATHS}?watch=1&fieldSelector=metadata.name%3Dgate")
        self._socket = self._connection.sock
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        rest = b""
        try:
            # Unlike readline, this tells an end in the middle from one that was meant.
            while chunk := self._answer.read1():
                *lines, rest = (rest + chunk).split(b"\n")
                self.events += map(json.loads, lines)
            self.end = "closed"
        except (OSError, http.client.HTTPException) as error:
            self.end = type(error).__name__

    @property
    def names(self) -> list[str]:
        return [
            f"{each['type']} {each['object'].get('data', {}).get('n', '')}" for each in self.events
        ]

    def wait(self, *names: str) -> None:
        eventually(lambda: self.names == [*names], f"the watch brings {names}", 10)

    def wait_broken(self) -> None:
        eventually(lambda: self.end, "the watch is broken", 10)
        assert self.end != "closed"
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the other end may have gone
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._answer.close()
        self._connection.close()


def put(plane: ControlPlane, number: int) -> None:
    """Let the ConfigMap that is watched have this number."""
    api = Api(plane.kubeconfig)
    body = {"metadata": {"name": "gate"}, "data": {"n": str(number)}}
    if number == 1:
        api.request("POST", PATHS[1:], body)
    else:
        api.request("PATCH", f"{PATHS[1:]}/gate", body, "application/merge-patch+json")


def take_away(plane: ControlPlane) -> None:
    Api(plane.kubeconfig).request("DELETE", f"{PATHS[1:]}/gate")


def test_the_gate_forwards_as_its_user(gate: Gate, plane: ControlPlane) -> None:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    status, answer = ask(gate, "/apis/authentication.k8s.io/v1/selfsubjectreviews", "POST", review)
    assert status == 201
    assert answer["status"]["userInfo"]["username"] == "gardener"
    assert "replica-3" in answer["status"]["userInfo"]["groups"]

    assert ask(gate, f"{PATHS}/absent")[0] == 404
    assert ask(gate, f"{PATHS}?limit=1&labelSelector=a%3Db%2Cc%21%3Dd")[1]["items"] == []
    put(plane, 1)
    patch = {"data": {"big": "x" * 300_000}}
    connection = http.client.HTTPConnection(gate.url.removeprefix("http://"), timeout=5)
    headers = {"Content-Type": "application/merge-patch+json", "Accept-Encoding": "gzip"}
    for _ in range(2):  # on one connection
        connection.request("PATCH", f"{PATHS}/gate", json.dumps(patch), headers)
        compressed = connection.getresponse()
        assert compressed.status == 200
        assert compressed.headers["Content-Encoding"] == "gzip"
        assert compressed.read(2) == b"\x1f\x8b"
        compressed.read()
    connection.close()
    take_away(plane)

    seen = gate.requests
    assert [each.status for each in seen] == [201, 404, 200, 200, 200]
    assert seen[2].path == f"{PATHS}?limit=1&labelSelector=a%3Db%2Cc%21%3Dd"
    assert [each.time for each in seen] == sorted(each.time for each in seen)
    assert time.time() - seen[0].time < 60


def test_a_closed_gate_refuses_and_an_open_one_does_not(gate: Gate, plane: ControlPlane) -> None:
    put(plane, 1)
    followers = [Follower(gate) for _ in range(3)]
    for each in followers:
        each.wait("ADDED 1")
    assert gate.watches == 3
    for _ in range(2):
        gate.close()
        for each in followers:
            each.wait_broken()
        followers.clear()
        eventually(lambda: gate.watches == 0, "no watch is left")
        with pytest.raises(ConnectionRefusedError):
            ask(gate)
        gate.open()
        assert ask(gate)[0] == 200
    take_away(plane)


def test_a_frozen_gate_lets_nothing_through_until_it_thaws(gate: Gate, plane: ControlPlane) -> None:
    put(plane, 1)
    follower = Follower(gate)
    follower.wait("ADDED 1")
    gate.freeze()
    put(plane, 2)
    for path in (PATHS, f"{PATHS}/gate"):
        with pytest.raises(TimeoutError):
            ask(gate, path, timeout=SHORT)
    with pytest.raises(TimeoutError):  # its client gives up, so that it is never forwarded
        ask(gate, f"{PATHS}/gate", "DELETE", timeout=SHORT)
    assert gate.inject({"type": "BOOKMARK", "object": {}}) == 0
    found: list[tuple[int, JSON]] = []
    patient = threading.Thread(target=lambda: found.append(ask(gate, timeout=30)))
    patient.start()
    eventually(lambda: len(gate.requests) == 5, "it has come in")
    assert (follower.names, found) == (["ADDED 1"], [])
    assert [each.status for each in gate.requests] == [200, 0, 0, 0, 0]

    gate.thaw()
    follower.wait("ADDED 1", "MODIFIED 2")
    patient.join(10)
    assert found[0][0] == 200
    assert ask(gate, f"{PATHS}/gate")[0] == 200
    follower.close()
    take_away(plane)


def test_watches_are_cut_silenced_and_told_of_errors(gate: Gate, plane: ControlPlane) -> None:
    put(plane, 1)
    assert (gate.cut_watches(), gate.silence_watches(), gate.inject({})) == (0, 0, 0)
    cut = [Follower(gate), Follower(gate)]
    for each in cut:
        each.wait("ADDED 1")
    assert gate.cut_watches() == 2
    for each in cut:
        each.wait_broken()
    assert gate.watches == 0

    silent, loud = Follower(gate), None
    silent.wait("ADDED 1")
    assert gate.silence_watches() == 1
    try:
        loud = Follower(gate)
        put(plane, 2)
        assert gate.inject({"type": "ERROR", "object": status_body(410)}) == 1
        eventually(lambda: len(loud.events) >= 3, "the new watch goes on", 10)
        assert sorted(loud.names) in (
            ["ADDED 1", "ERROR ", "MODIFIED 2"],
            ["ADDED 2", "ERROR "],
        )
        (error,) = [each["object"] for each in loud.events if each["type"] == "ERROR"]
        assert (error["code"], error["reason"]) == (410, "Expired")
        # Not even the end of the API server's stream is heard.
        plane.stop_apiserver()
        eventually(lambda: loud.end, "the other watch has ended", 30)
        assert (silent.names, silent.end, gate.watches) == (["ADDED 1"], None, 1)
    finally:
        plane.start_apiserver()
        if loud:
            loud.close()
        silent.close()
    eventually(lambda: gate.watches == 0, "a watch that was given up is none")
    take_away(plane)


def test_the_gate_answers_itself(gate: Gate) -> None:
    retry = {"Retry-After": "7"}
    first = gate.answer(429, times=2, method="GET", path="configmaps", headers=retry)
    gate.answer(503, watch=True, message="Not now.")
    status, body = ask(gate)
    assert (status, body["kind"], body["code"]) == (429, "Status", 429)
    assert body["reason"] == "TooManyRequests"
    assert ask(gate, "/api/v1/namespaces/default/secrets")[0] == 200
    assert (first.hits, first.left) == (1, 1)

    connection = http.client.HTTPConnection(gate.url.removeprefix("http://"), timeout=5)
    connection.request("GET", f"{PATHS}?watch=true")
    assert connection.getresponse().headers["Retry-After"] == "7"
    connection.close()
    status, body = ask(gate, f"{PATHS}?watch=true")
    assert (status, body["message"]) == (503, "Not now.")
    assert ask(gate)[0] == 200
    assert ask(gate, PATHS, "POST", {"metadata": {}})[0] == 422
    gate.clear()
    assert ask(gate, f"{PATHS}?watch=true&timeoutSeconds=1&resourceVersion=1")[0] != 503


def test_the_gate_breaks_off_when_the_api_server_does(gate: Gate, plane: ControlPlane) -> None:
    follower = Follower(gate)
    eventually(lambda: gate.watches == 1, "it watches")
    plane.kill_apiserver()
    try:
        eventually(lambda: follower.end, "the watch has ended", 10)
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            ask(gate)
        assert gate.requests[-1].status == 0
    finally:
        plane.start_apiserver()
        follower.close()
    assert ask(gate)[0] == 200
