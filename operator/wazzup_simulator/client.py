"""A synchronous client of the control interface, for tests and demonstrations."""

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
    """The simulator turned a request down."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
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
    """A channel as it was at the time of the call; the row is what the API lists."""

    account: str
    id: str
    row: dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """A fault that is waiting for requests; None: no limit."""

    kind: str
    account: str | None
    times: int | None
    seconds: float | None
    hits: int
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A request to the API; the status is None as long as none was sent."""

    time: float
    account: str | None
    method: str
    path: str
    key: str | None
    status: int | None
    fault: str | None


@dataclass(frozen=True)
class Requests:
    """The last requests, oldest first, and the number of all of them."""

    total: int
    requests: list[Request]


@dataclass(frozen=True)
class Change:
    """From this time on a channel showed this state; None: it showed none, or is gone."""

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
        """Run a simulator as a process of its own, and stop it in the end."""
        options = [f"--port={port}", *(f"--api-key={key}" for key in keys)]
        # What made this package importable here may not be in the environment.
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
        """All accounts."""
        return [_account(found) for found in self._call("GET", "/accounts")]

    def add_account(
        self,
        keys: Sequence[str] = (),
        *,
        id: str | None = None,
        sidecar_keys: Sequence[str] = (),
        forbidden: bool = False,
    ) -> Account:
        """Open an account, which all these keys belong to."""
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
        """Set an account's keys, all of them at once, or take its rights; None leaves as is."""
        body = {
            "keys": None if keys is None else list(keys),
            "sidecarKeys": None if sidecar_keys is None else list(sidecar_keys),
            "forbidden": forbidden,
        }
        return _account(self._call("PATCH", f"/accounts/{quote(account, safe='')}", body))

    def run_out_of_money(self, account: str = "default") -> None:
        """Let every channel of an account become unpaid."""
        self.act_on_account("run-out-of-money", account)

    def pay(self, account: str = "default") -> None:
        """Let every channel of an account come back to what it was."""
        self.act_on_account("pay", account)

    def channels(self, account: str = "default") -> list[Channel]:
        """The channels of an account, in the order they are listed."""
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
        """Add a number; one that the account has already goes back to its channel."""
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
        """Add many numbers in one request; each mapping is a body of the control interface."""
        body = [dict(channel) for channel in channels]
        return [Channel(**added) for added in self._call("POST", _channels(account), body)]

    def patch_channel(self, channel: Channel, **fields: Any) -> Channel:
        """Bend what the API lists of a channel; None takes a field away."""
        return Channel(**self._call("PATCH", _path(channel), fields))

    def delete_channel(self, channel: Channel) -> None:
        """Delete a channel with its messages."""
        self._call("DELETE", _path(channel))

    def act(self, channel: Channel, action: str, *, phone: str | None = None) -> Channel:
        """Do what a person, a phone, the service or Meta does to a channel."""
        body = {} if phone is None else {"phone": phone}
        return Channel(**self._call("POST", f"{_path(channel)}/{quote(action, safe='')}", body))

    def act_on_account(self, action: str, account: str = "default") -> None:
        """Do what concerns every channel of an account."""
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
        """Put a fault at the end of the queue."""
        general = {"kind": kind, "account": account, "times": times, "seconds": seconds}
        self._call("POST", "/faults", {**parameters, **general})

    def faults(self) -> list[Fault]:
        """The faults that are not used up."""
        return [Fault(**found) for found in self._call("GET", "/faults")]

    def clear_faults(self) -> None:
        """Drop all faults and let go of the requests that hang."""
        self._call("DELETE", "/faults")

    def requests(self, account: str | None = None) -> Requests:
        """What was requested of the API, for all accounts and for none, or for one."""
        found = self._call("GET", "/requests" + _query(account))
        return Requests(found["total"], [Request(**noted) for noted in found["requests"]])

    def clear_requests(self) -> None:
        """Forget what was requested."""
        self._call("DELETE", "/requests")

    def history(self, account: str | None = None) -> list[Change]:
        """Every change of a state, oldest first."""
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
            raise self._no_simulator(0) from error
        finally:
            connection.close()
        return self._read(response.status, content)

    def _read(self, status: int, content: bytes) -> Any:
        try:
            answer: Any = json.loads(content) if content else None
            refusal = str(answer["error"]) if status >= 400 else None
        except (ValueError, TypeError, KeyError) as error:
            raise self._no_simulator(status) from error
        if refusal is not None:
            raise SimulatorError(status, refusal)
        return answer

    def _no_simulator(self, status: int) -> SimulatorError:
        return SimulatorError(status, f"What answers at {self.base_url} is not a simulator.")


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
        raise RuntimeError("The simulator did not start; its own words are on stderr.")
    return line.split()[-1]


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
