"""Synchronous client of the control interface, for tests and demos."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

TIMEOUT_SECONDS = 30
STOP_SECONDS = 10


class SimulatorError(Exception):
    """The simulator refused a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Account:
    """An account of the simulated service."""

    id: str
    keys: list[str]
    sidecar_keys: list[str]
    forbidden: bool


@dataclass(frozen=True)
class Channel:
    """A channel at the time of the call. `row` is its row in the listing."""

    account: str
    id: str
    row: dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """A queued fault. `times` and `seconds` are what is left; None means no limit."""

    kind: str
    account: str | None
    times: int | None
    seconds: float | None
    hits: int
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A request to the API. `status` is None until it is answered."""

    time: float
    account: str | None
    method: str
    path: str
    key: str | None
    status: int | None
    fault: str | None


@dataclass(frozen=True)
class Requests:
    """The last requests, oldest first, and the total count."""

    total: int
    requests: list[Request]


@dataclass(frozen=True)
class Change:
    """A channel's state changed at `time`. `state` is None if it has none or was deleted."""

    time: float
    account: str
    channel: str
    state: Any


class Simulator:
    """A running simulator."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")

    @classmethod
    @contextmanager
    def launch(cls, keys: Sequence[str] = (), port: int = 0) -> Iterator[Self]:
        """Run a simulator in a child process until the context exits."""
        options = [f"--port={port}", *(f"--api-key={key}" for key in keys)]
        # The child may lack this process's import path.
        path = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        process = subprocess.Popen(  # noqa: S603 - runs only this package
            [sys.executable, "-m", "wazzup_simulator", *options],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        )
        with process:
            try:
                yield cls(_address(process))
            finally:
                _stop(process)

    def accounts(self) -> list[Account]:
        """Return all accounts."""
        return [_account(found) for found in self._call("GET", "/accounts")]

    def add_account(
        self,
        keys: Sequence[str] = (),
        *,
        id: str | None = None,
        sidecar_keys: Sequence[str] = (),
        forbidden: bool = False,
    ) -> Account:
        """Create an account with these keys."""
        body = {
            "id": id,
            "keys": list(keys),
            "sidecarKeys": list(sidecar_keys),
            "forbidden": forbidden,
        }
        return _account(self._call("POST", "/accounts", body))

    def change_account(
        self,
        account: str,
        *,
        keys: Sequence[str] | None = None,
        sidecar_keys: Sequence[str] | None = None,
        forbidden: bool | None = None,
    ) -> Account:
        """Replace an account's keys, or revoke its permissions; None leaves a value unchanged."""
        body = {
            "keys": None if keys is None else list(keys),
            "sidecarKeys": None if sidecar_keys is None else list(sidecar_keys),
            "forbidden": forbidden,
        }
        return _account(self._call("PATCH", f"/accounts/{quote(account, safe='')}", body))

    def run_out_of_money(self, account: str = "default") -> None:
        """Make every channel of an account unpaid."""
        self.act_on_account("run-out-of-money", account)

    def pay(self, account: str = "default") -> None:
        """Make every channel of an account paid again."""
        self.act_on_account("pay", account)

    def channels(self, account: str = "default") -> list[Channel]:
        """Return the channels of an account in the order of the listing."""
        return [Channel(**found) for found in self._call("GET", _channels(account))]

    def add_channel(
        self,
        phone: str,
        transport: str = "whatsapp",
        *,
        account: str = "default",
        name: str | None = None,
        state: str | None = None,
        channel_id: str | None = None,
        duplicate: bool = False,
    ) -> Channel:
        """Add a number; a number that the account already has gets its old channel back."""
        body = {
            "phone": phone,
            "transport": transport,
            "name": name,
            "state": state,
            "channelId": channel_id,
            "duplicate": duplicate,
        }
        return Channel(**self._call("POST", _channels(account), body))

    def add_channels(
        self, channels: Sequence[Mapping[str, Any]], account: str = "default"
    ) -> list[Channel]:
        """Add many numbers in one request; each mapping is a body for the control interface."""
        body = [dict(channel) for channel in channels]
        return [Channel(**added) for added in self._call("POST", _channels(account), body)]

    def patch_channel(self, channel: Channel, **fields: Any) -> Channel:
        """Override fields of a channel's row; None removes a field."""
        return Channel(**self._call("PATCH", _path(channel), fields))

    def delete_channel(self, channel: Channel) -> None:
        """Delete a channel."""
        self._call("DELETE", _path(channel))

    def act(self, channel: Channel, action: str, *, phone: str | None = None) -> Channel:
        """Perform an action on a channel."""
        body = {} if phone is None else {"phone": phone}
        return Channel(**self._call("POST", f"{_path(channel)}/{quote(action, safe='')}", body))

    def act_on_account(self, action: str, account: str = "default") -> None:
        """Perform an action on every channel of an account."""
        self._call("POST", f"/accounts/{quote(account, safe='')}/{quote(action, safe='')}")

    def add_fault(
        self,
        kind: str,
        *,
        account: str | None = None,
        times: int | None = None,
        seconds: float | None = None,
        **parameters: Any,
    ) -> None:
        """Add a fault to the end of the queue."""
        general = {"kind": kind, "account": account, "times": times, "seconds": seconds}
        self._call("POST", "/faults", {**parameters, **general})

    def faults(self) -> list[Fault]:
        """Return the faults that are still active."""
        return [Fault(**found) for found in self._call("GET", "/faults")]

    def clear_faults(self) -> None:
        """Remove all faults and release hanging requests."""
        self._call("DELETE", "/faults")

    def requests(self, account: str | None = None) -> Requests:
        """Return the recorded requests of one account, or all, including rejected keys."""
        found = self._call("GET", "/requests" + _query(account))
        return Requests(found["total"], [Request(**entry) for entry in found["requests"]])

    def clear_requests(self) -> None:
        """Delete the recorded requests."""
        self._call("DELETE", "/requests")

    def history(self, account: str | None = None) -> list[Change]:
        """Return every change of a state, oldest first."""
        return [Change(**change) for change in self._call("GET", "/history" + _query(account))]

    def _call(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection(
            urlsplit(self.base_url).netloc, timeout=TIMEOUT_SECONDS
        )
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, "/_sim" + path, sent, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        except http.client.HTTPException as error:
            raise self._not_a_simulator(0) from error
        finally:
            connection.close()
        return self._read(response.status, content)

    def _read(self, status: int, content: bytes) -> Any:
        try:
            answer: Any = json.loads(content) if content else None
            refusal = str(answer["error"]) if status >= 400 else None
        except (ValueError, TypeError, KeyError) as error:
            raise self._not_a_simulator(status) from error
        if refusal is not None:
            raise SimulatorError(status, refusal)
        return answer

    def _not_a_simulator(self, status: int) -> SimulatorError:
        return SimulatorError(status, f"The server at {self.base_url} is not a simulator.")


def _account(found: Mapping[str, Any]) -> Account:
    return Account(found["id"], found["keys"], found["sidecarKeys"], found["forbidden"])


def _channels(account: str) -> str:
    return f"/accounts/{quote(account, safe='')}/channels"


def _path(channel: Channel) -> str:
    return f"{_channels(channel.account)}/{quote(channel.id, safe='')}"


def _query(account: str | None) -> str:
    return "" if account is None else f"?account={quote(account, safe='')}"


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("listening on "):
        raise RuntimeError("The simulator did not start. Its error is on stderr.")
    return line.split()[-1]


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
