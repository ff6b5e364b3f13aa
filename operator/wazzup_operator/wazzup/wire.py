"""Parses the body of `GET /v3/channels` into a Listing.

Source: Wazzup's API page "Working with channels": a bare array of objects with channelId,
transport, plainId and state. `name` is undocumented, but live accounts have it.
"""

import re
from collections.abc import Iterable
from typing import Any, TypeVar

from msgspec import DecodeError, Struct, ValidationError
from msgspec.json import Decoder

from wazzup_operator.domain.listing import EMPTY, ListedChannel, Listing, Number
from wazzup_operator.domain.phone import canonical
from wazzup_operator.domain.transport import Transport
from wazzup_operator.wazzup.errors import unreachable

T = TypeVar("T")

MAX_CHANNELS = 100_000

MAX_VALUES = 10 * MAX_CHANNELS
"""Maximum number of JSON values in a body, estimated by its `,`, `{` and `[`, also in strings.

Each of these bytes starts at most one value, and an object in an object takes 250 bytes of memory.
This limit keeps any body below 300 MiB. A real listing of 100,000 channels has about 6 of these
bytes per row and takes 100 MiB.
"""

MAX_TEXT = 256
"""Characters of a name or a state; longer ones are truncated before they reach a status."""

MAX_ID = 64
"""Characters of an id or a number, the limit of spec.channelID."""

_CONTACT_SUPPORT = "If this persists, contact Wazzup's support."

_TRANSPORTS = {str(each): each for each in Transport}


class Row(Struct, gc=False, rename="camel"):
    """What the operator reads of a row; a value can have any type."""

    channel_id: Any = None
    transport: Any = None
    plain_id: Any = None
    state: Any = None
    name: Any = None


_DECODER = Decoder(list[Row])

_LONE_SURROGATE = re.compile(
    rb"(?<!\\)((?:\\\\)*+)\\u"
    rb"(?:[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u)[dD][c-fC-F][0-9a-fA-F]{2})"
)
"""An escaped surrogate without its other half; group 1 holds escaped backslashes before it."""


def read_listing(body: bytes | bytearray, previous: Listing = EMPTY) -> Listing:
    """Parse a listing. Raises WazzupError if the body is not one.

    Rows of other transports are ignored. Ambiguous rows are skipped and counted, and their ids and
    numbers recorded: rows without an id or with fields of wrong types, and rows of one id that
    contradict each other. Channels that `previous` lists alike are taken from it, and so is the
    whole listing if nothing differs.
    """
    rows = parse(body, _DECODER)
    if len(rows) > MAX_CHANNELS:
        raise unreachable(
            f"Wazzup listed {len(rows)} channels, over the operator's limit of {MAX_CHANNELS}.",
            "too-large",
        )
    listing = _listing_of(rows, previous)
    return previous if listing == previous else listing


def parse(body: bytes | bytearray, decoder: Decoder[list[T]]) -> list[T]:
    """Parse the rows of a listing. Raises WazzupError."""
    if sum(map(body.count, (b",", b"{", b"["))) > MAX_VALUES:
        raise unreachable(
            f"Wazzup's listing exceeds the operator's limit of {MAX_VALUES} values."
            f" {_CONTACT_SUPPORT}",
            "too-large",
        )
    try:
        return _decode(body, decoder)
    except ValidationError as error:
        raise unreachable(
            f"Wazzup answered with JSON that is not a list of channels. {_CONTACT_SUPPORT}",
            "malformed",
        ) from error
    except (DecodeError, RecursionError) as error:
        raise unreachable(
            "Wazzup answered with something that is not JSON, or is nested too deeply. If this"
            " persists, check the operator's --wazzup-url and any proxy in between.",
            "malformed",
        ) from error


def _decode(body: bytes | bytearray, decoder: Decoder[list[T]]) -> list[T]:
    try:
        return decoder.decode(body)
    except ValidationError:
        raise  # it is a DecodeError, of valid JSON
    except DecodeError:
        # JavaScript that truncates a name inside an emoji writes a lone surrogate. One such name
        # must not make the whole listing invalid.
        return decoder.decode(_LONE_SURROGATE.sub(rb"\1\\ufffd", body, count=MAX_CHANNELS))


def _listing_of(rows: Iterable[Row], previous: Listing) -> Listing:
    """Return the listing in these rows, with channels that `previous` lists alike."""
    valid, new_rows = _split(rows, previous)
    damaged = foreign = 0
    ambiguous_ids: set[str] = set()
    foreign_ids: set[str] = set()
    long_ids: set[str] = set()
    ambiguous_numbers: set[Number] = set()
    for row in new_rows:
        channel_id = _id(row)
        if isinstance(row.transport, str) and row.transport not in _TRANSPORTS:
            foreign += 1
            if channel_id:
                foreign_ids.add(channel_id)
        elif channel_id and (channel := _read_row(channel_id, row)):
            before = previous.channels.get(channel_id)
            valid.append(before if before and before == channel else channel)
            if _is_long(row):
                long_ids.add(channel_id)
        else:
            damaged += 1
            ambiguous_numbers |= _numbers(row)
            if channel_id:
                ambiguous_ids.add(channel_id)
    channels: dict[str, ListedChannel] = {}
    for channel in valid:
        first = channels.setdefault(channel.channel_id, channel)
        if first is not channel and first != channel:
            ambiguous_ids.add(channel.channel_id)
    ambiguous_ids |= foreign_ids & channels.keys()
    ambiguous = [channel for channel in valid if channel.channel_id in ambiguous_ids]
    ambiguous_numbers |= {channel.number for channel in ambiguous if channel.number}
    for channel in ambiguous:
        channels.pop(channel.channel_id, None)
    return Listing.of(
        channels.values(),
        ambiguous_ids,
        ambiguous_numbers,
        skipped=damaged + len(ambiguous),
        truncated=len(long_ids & channels.keys()),
        foreign=foreign,
    )


def _split(rows: Iterable[Row], previous: Listing) -> tuple[list[ListedChannel], list[Row]]:
    """Return the channels of rows that were parsed before, and the other rows."""
    known, others = [], []
    for row in rows:
        channel_id = row.channel_id
        before = previous.channels.get(channel_id) if isinstance(channel_id, str) else None
        if (
            before
            and row.state == before.upstream_state
            and row.plain_id == before.plain_id
            and row.name == before.name
            and row.transport == before.transport
        ):
            known.append(before)
        else:
            others.append(row)
    return known, others


def _id(row: Row) -> str | None:
    """Return the row's channel id; None if spec.channelID could not hold it."""
    found = row.channel_id
    if isinstance(found, str) and 0 < len(found) <= MAX_ID and found.isprintable():
        return found
    return None


def _transport(row: Row) -> Transport | None:
    return _TRANSPORTS.get(row.transport) if isinstance(row.transport, str) else None


def _is_long(row: Row) -> bool:
    return any(isinstance(text, str) and len(text) > MAX_TEXT for text in (row.state, row.name))


def _read_row(channel_id: str, row: Row) -> ListedChannel | None:
    plain_id, state, name = _as_text(row.plain_id), row.state, row.name
    transport = _transport(row)
    if transport is None or not isinstance(state, str):
        return None
    if plain_id is not None and not (isinstance(plain_id, str) and len(plain_id) <= MAX_ID):
        return None
    return ListedChannel(
        channel_id,
        transport,
        plain_id.removeprefix("+") if plain_id else None,
        state[:MAX_TEXT],
        name[:MAX_TEXT] if isinstance(name, str) else None,
    )


def _as_text(plain_id: Any) -> Any:
    """Return a phone number as text; the partner API says "sometimes as number"."""
    is_number = isinstance(plain_id, int) and not isinstance(plain_id, bool)
    return str(plain_id) if is_number and abs(plain_id) < 10**MAX_ID else plain_id


def _numbers(row: Row) -> set[Number]:
    plain_id = _as_text(row.plain_id)
    if not isinstance(plain_id, str):
        return set()
    number = canonical(plain_id[:MAX_ID])
    transport = _transport(row)
    return {(each, number) for each in ([transport] if transport else Transport)}
