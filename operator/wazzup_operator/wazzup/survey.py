"""What an account holds, also what objects cannot declare and what this version does not know."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from msgspec.json import Decoder

from wazzup_operator.domain.listing import Listing
from wazzup_operator.domain.states import State
from wazzup_operator.domain.transport import Transport
from wazzup_operator.wazzup.wire import MAX_TEXT, parse, read_listing

_DECODER = Decoder(list[dict[str, Any]])
_TRANSPORTS = set(map(str, Transport))

_FIELDS = {"channelId", "transport", "plainId", "state", "name"}
_SHOWN = 20
"""How many unknown words are named; there is no end to what an answer can hold."""


@dataclass(frozen=True, slots=True)
class OtherChannel:
    """A channel of a transport that objects cannot declare."""

    channel_id: str
    transport: str
    name: str | None


@dataclass(frozen=True, slots=True)
class Survey:
    """A listing and what it leaves out. `unknown_states` counts channels."""

    listing: Listing
    rows: int
    others: tuple[OtherChannel, ...]
    unknown_states: dict[str, int]
    unknown_fields: tuple[str, ...]


def read_survey(body: bytes | bytearray) -> Survey:
    """Parse a listing. Raises WazzupError if the body is not one."""
    listing = read_listing(body)
    rows = parse(body, _DECODER)
    states = Counter(
        each.upstream_state
        for each in listing.channels.values()
        if each.state is State.SOMETHING_WENT_WRONG
    )
    fields = {_short(key) for row in rows for key in row.keys() - _FIELDS}
    return Survey(
        listing,
        len(rows),
        tuple(_other(row) for row in rows if _is_other(row, listing)),
        dict(states.most_common(_SHOWN)),
        tuple(sorted(fields)[:_SHOWN]),
    )


def _is_other(row: dict[str, Any], listing: Listing) -> bool:
    """Return whether the listing ignored the row, and did not find it ambiguous."""
    if not isinstance(row.get("transport"), str) or row.get("channelId") in listing.ambiguous_ids:
        return False
    return row["transport"] not in _TRANSPORTS


def _other(row: dict[str, Any]) -> OtherChannel:
    name = row.get("name")
    return OtherChannel(
        _short(row.get("channelId")),
        _short(row["transport"]),
        _short(name) if isinstance(name, str) and name else None,
    )


def _short(value: object) -> str:
    return str(value)[:MAX_TEXT]
