"""Faults in the answers of the API.

Faults form a queue, and a request gets the oldest one that matches it: "500 twice, then a 401" is
two faults. A listing fault matches only requests that would get a listing.
"""

import asyncio
import gzip
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from wazzup_simulator.answers import JSON_TYPE, Answer
from wazzup_simulator.fields import Fields
from wazzup_simulator.refusals import InvalidError
from wazzup_simulator.state import Channel

MAX_CHARACTERS = 100_000_000

OnListing = Callable[[list[Channel]], object]
OnAnswer = Callable[[Answer], Answer]


def _rows(channels: list[Channel]) -> list[dict[str, object]]:
    return [channel.row for channel in channels]


def _selection(fields: Fields) -> Callable[[Channel], bool]:
    ids = fields.texts("channels")
    return lambda channel: ids is None or channel.id in ids


def _empty(fields: Fields) -> OnListing:
    return lambda channels: []


def _wrapped(fields: Fields) -> OnListing:
    return lambda channels: {"channels": _rows(channels)}


def _not_an_array(fields: Fields) -> OnListing:
    value = fields.value("value")
    if isinstance(value, list):
        raise InvalidError("The field value must not be an array.")
    return lambda channels: value


def _duplicate(fields: Fields) -> OnListing:
    selected = _selection(fields)
    return lambda channels: [
        channel.row for channel in channels for _ in range(2 if selected(channel) else 1)
    ]


def _contradict(fields: Fields) -> OnListing:
    selected = _selection(fields)
    return lambda channels: (
        _rows(channels) + [_contradicted(channel.row) for channel in channels if selected(channel)]
    )


def _contradicted(row: dict[str, object]) -> dict[str, object]:
    state = "qridle" if row.get("state") == "active" else "active"
    return {**row, "plainId": "10000000000", "state": state}


def _partial(fields: Fields) -> OnListing:
    if "channels" in fields:
        selected = _selection(fields)
        return lambda channels: _rows([found for found in channels if not selected(found)])
    fraction = fields.number("fraction", 0, 1)
    share = 0.5 if fraction is None else fraction
    return lambda channels: _rows(channels[: len(channels) - math.ceil(len(channels) * share)])


def _no_id(fields: Fields) -> OnListing:
    selected = _selection(fields)

    def without(channel: Channel) -> dict[str, object]:
        row = channel.row
        if selected(channel):
            row.pop("channelId", None)
        return row

    return lambda channels: [without(channel) for channel in channels]


def _huge(fields: Fields) -> OnListing:
    extra = fields.whole("extra", 1) or 1
    length = fields.whole("nameLength", 1) or 20
    if extra * length > MAX_CHARACTERS:
        raise InvalidError(f"The names would exceed {MAX_CHARACTERS} characters in total.")
    name = "x" * length
    more: list[dict[str, object]] = [
        {
            "channelId": f"00000000-0000-4000-8000-{n:012d}",
            "transport": "whatsapp",
            "plainId": f"999{n:09d}",
            "state": "active",
            "name": name,
        }
        for n in range(extra)
    ]
    return lambda channels: _rows(channels) + more


def _status(fields: Fields) -> OnAnswer:
    code = fields.whole("code", 200, 599)
    if code is None:
        raise InvalidError("The field code is missing.")
    body = fields.value("body")
    given = {name.lower(): value for name, value in fields.string_map("headers").items()}
    if body is None:
        return lambda regular: Answer(code, headers=given)
    sent = body if isinstance(body, str) else json.dumps(body)
    headers = {"content-type": JSON_TYPE, **given}
    return lambda regular: Answer(code, sent.encode(), headers)


def _bulk(fields: Fields) -> OnAnswer:
    """Send a repeated text, optionally compressed, to test size limits."""
    unit, count = fields.required_text("unit"), fields.whole("count", 1) or 1
    prefix, suffix = fields.text("prefix") or "", fields.text("suffix") or ""
    compressed = fields.flag("gzip")
    headers = {"Content-Type": JSON_TYPE} | ({"Content-Encoding": "gzip"} if compressed else {})
    if len(unit) * count > MAX_CHARACTERS:
        raise InvalidError(f"The body would exceed {MAX_CHARACTERS} characters.")
    body = f"{prefix}{unit * count}{suffix}".encode()
    sent = gzip.compress(body) if compressed else body
    return lambda regular: Answer(200, sent, headers)


def _malformed(fields: Fields) -> OnAnswer:
    return lambda regular: replace(regular, body=regular.body[: len(regular.body) // 2])


def _html(fields: Fields) -> OnAnswer:
    page = b"<!DOCTYPE html><html><body><h1>Technical works</h1></body></html>"
    return lambda regular: Answer(200, page, {"Content-Type": "text/html; charset=utf-8"})


def _redirect(fields: Fields) -> OnAnswer:
    headers = {"Location": fields.required_text("location")}
    code = fields.whole("code", 301, 308) or 302
    return lambda regular: Answer(code, headers=headers)


LISTING_FAULTS: Mapping[str, Callable[[Fields], OnListing]] = {
    "empty": _empty,
    "wrapped": _wrapped,
    "not-an-array": _not_an_array,
    "duplicate": _duplicate,
    "contradict": _contradict,
    "partial": _partial,
    "no-id": _no_id,
    "huge": _huge,
}
ANSWER_FAULTS: Mapping[str, Callable[[Fields], OnAnswer]] = {
    "status": _status,
    "bulk": _bulk,
    "malformed": _malformed,
    "html": _html,
    "redirect": _redirect,
}
DELIVERY_FAULTS = ("slow", "hang", "cut", "refuse")
KINDS = (*DELIVERY_FAULTS, *ANSWER_FAULTS, *LISTING_FAULTS)


@dataclass
class Fault:
    """One fault: for which account, how often and until when, and what it does."""

    kind: str
    account: str | None
    left: int | None
    until: float | None
    parameters: dict[str, object]
    on_listing: OnListing | None = None
    on_answer: OnAnswer | None = None
    delay: float = 0
    hits: int = 0

    def active(self, now: float) -> bool:
        """Return whether it has uses and time left."""
        return self.left != 0 and (self.until is None or now < self.until)

    def matches(self, account: str | None, listing: bool) -> bool:
        """Return whether it applies to a request of `account` that gets a `listing` or not."""
        return self.account in (None, account) and (listing or self.on_listing is None)


def read_fault(values: Mapping[str, object], now: float) -> Fault:
    """Parse the fault in a control request."""
    fields = Fields(values)
    kind = fields.required_text("kind")
    if kind not in KINDS:
        raise InvalidError(f"Unknown fault {kind}. Faults: {', '.join(KINDS)}.")
    seconds = fields.number("seconds", 0)
    general = ("kind", "account", "times", "seconds")
    fault = Fault(
        kind=kind,
        account=fields.text("account"),
        left=fields.whole("times", 1),
        until=None if seconds is None else now + seconds,
        parameters={name: value for name, value in values.items() if name not in general},
    )
    if kind == "slow":
        fault.delay = fields.number("delay", 0) or 1.0
    elif kind in ANSWER_FAULTS:
        fault.on_answer = ANSWER_FAULTS[kind](fields)
    elif kind in LISTING_FAULTS:
        fault.on_listing = LISTING_FAULTS[kind](fields)
    fields.done()
    return fault


class Faults:
    """The queue of faults."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._queue: list[Fault] = []
        self._cleared = asyncio.Event()

    def add(self, values: Mapping[str, object]) -> Fault:
        """Add a fault to the end."""
        fault = read_fault(values, self._clock())
        self._queue.append(fault)
        return fault

    def active(self) -> list[tuple[Fault, float | None]]:
        """Return the active faults with the seconds they have left."""
        now = self._clock()
        self._queue = [fault for fault in self._queue if fault.active(now)]
        return [
            (fault, None if fault.until is None else fault.until - now) for fault in self._queue
        ]

    def take(self, account: str | None, listing: bool) -> Fault | None:
        """Return the fault for a request, and count its use."""
        for fault, _ in self.active():
            if fault.matches(account, listing):
                fault.hits += 1
                if fault.left is not None:
                    fault.left -= 1
                return fault
        return None

    def clear(self) -> None:
        """Remove all faults and release hanging requests."""
        self._queue.clear()
        self._cleared.set()
        self._cleared = asyncio.Event()

    async def hang(self) -> None:
        """Wait until the faults are cleared."""
        await self._cleared.wait()
