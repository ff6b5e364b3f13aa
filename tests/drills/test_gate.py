"""The gate really freezes, cuts and silences."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.controlplane.plane import ControlPlane
from tests.drills.gate import Gate, status_body
from tests.integration.harness.api import JSON, Api, eventually

PATHS = "/api/v1/namespaces/default/configmaps"
SHORT = 0.5
"""Seconds without an answer."""


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
            # Unlike readline, read1 raises if the stream is cut.
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
        eventually(lambda: self.names == [*names], f"the watch has {names}", 10)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the other end may have disconnected
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._answer.close()
        self._connection.close()


def put(plane: ControlPlane, number: int) -> None:
    """Create or change the watched ConfigMap."""
    api = Api(plane.kubeconfig)
    body = {"metadata": {"name": "gate"}, "data": {"n": str(number)}}
    if number == 1:
        api.request("POST", PATHS[1:], body)
    else:
        api.request("PATCH", f"{PATHS[1:]}/gate", body, "application/merge-patch+json")


def delete(plane: ControlPlane) -> None:
    Api(plane.kubeconfig).request("DELETE", f"{PATHS[1:]}/gate")


def test_a_frozen_gate_forwards_nothing_until_it_thaws(gate: Gate, plane: ControlPlane) -> None:
    put(plane, 1)
    follower = Follower(gate)
    follower.wait("ADDED 1")
    gate.freeze()
    put(plane, 2)
    for path in (PATHS, f"{PATHS}/gate"):
        with pytest.raises(TimeoutError):
            ask(gate, path, timeout=SHORT)
    with pytest.raises(TimeoutError):  # not forwarded later: its client has disconnected
        ask(gate, f"{PATHS}/gate", "DELETE", timeout=SHORT)
    assert gate.inject({"type": "BOOKMARK", "object": {}}) == 0
    found: list[tuple[int, JSON]] = []
    patient = threading.Thread(target=lambda: found.append(ask(gate, timeout=30)))
    patient.start()
    eventually(lambda: len(gate.requests) == 5, "the gate has the request")
    assert (follower.names, found) == (["ADDED 1"], [])
    assert [each.status for each in gate.requests] == [200, 0, 0, 0, 0]

    gate.thaw()
    follower.wait("ADDED 1", "MODIFIED 2")
    patient.join(10)
    assert found[0][0] == 200
    assert ask(gate, f"{PATHS}/gate")[0] == 200
    follower.close()
    delete(plane)


def test_watches_are_cut_silenced_and_get_errors(gate: Gate, plane: ControlPlane) -> None:
    put(plane, 1)
    assert (gate.cut_watches(), gate.silence_watches(), gate.inject({})) == (0, 0, 0)
    cut = [Follower(gate), Follower(gate)]
    for each in cut:
        each.wait("ADDED 1")
    assert gate.cut_watches() == 2
    for each in cut:
        eventually(lambda each=each: each.end, "the watch is broken", 10)
        assert each.end != "closed"
        each.close()
    assert gate.watches == 0

    silent, loud = Follower(gate), None
    silent.wait("ADDED 1")
    assert gate.silence_watches() == 1
    try:
        loud = Follower(gate)
        put(plane, 2)
        assert gate.inject({"type": "ERROR", "object": status_body(410)}) == 1
        eventually(lambda: len(loud.events) >= 3, "the new watch continues", 10)
        assert sorted(loud.names) in (
            ["ADDED 1", "ERROR ", "MODIFIED 2"],
            ["ADDED 2", "ERROR "],
        )
        (error,) = [each["object"] for each in loud.events if each["type"] == "ERROR"]
        assert (error["code"], error["reason"]) == (410, "Expired")
        # Not even the end of the stream is forwarded.
        plane.stop_apiserver()
        eventually(lambda: loud.end, "the other watch has ended", 30)
        assert (silent.names, silent.end, gate.watches) == (["ADDED 1"], None, 1)
    finally:
        plane.start_apiserver()
        if loud:
            loud.close()
        silent.close()
    eventually(lambda: gate.watches == 0, "no watch is open")
    delete(plane)
