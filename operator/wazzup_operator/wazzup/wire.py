"""Parses the body of `GET /v3/channels` into a Listing.

Source: Wazzup's API page "Working with channels": a bare array of objects with channelId,
transport, plainId and state. `name` is undocumented, but live accounts have it.
"""

import re
from typing import Any

import orjson

from wazzup_operator.domain.listing import EMPTY, ListedChannel, Listing, Number
from wazzup_operator.domain.phone import canonical
from wazzup_operator.domain.transport import Transport
from wazzup_operator.wazzup.errors import unreachable

MAX_CHANNELS = 100_000

MAX_VALUES = 10 * MAX_CHANNELS
"""Maximum number of JSON values in a body, estimated by its `,`, `{` and `[`, also in strings.

Each of these bytes starts at most one value, and a value of 2 bytes can take 350 in memory. This
limit keeps any body below 400 MB. A real listing of 100,000 channels has about 6 of these
bytes per row and takes 100 MB.
"""

MAX_TEXT = 256
"""Characters of a name or a state; longer ones are truncated before they reach a status."""

MAX_ID = 64
"""Characters of an id or a number, the limit of spec.channelID."""

_CONTACT_SUPPORT = "If this persists, contact Wazzup's support."

_TRANSPORTS = {str(each): each for each in Transport}

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
    listing = listing_of(read_rows(body), previous)
    return previous if listing == previous else listing


def read_rows(body: bytes | bytearray) -> list[dict[str, Any]]:
    """Parse the rows of a listing, of any transport. Raises WazzupError."""
    rows = _parse(body)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise unreachable(
            f"Wazzup answered with JSON that is not a list of channels. {_CONTACT_SUPPORT}",
            "malformed",
        )
    if len(rows) > MAX_CHANNELS:
        raise unreachable(
            f"Wazzup listed {len(rows)} channels, over the operator's limit of {MAX_CHANNELS}.",
            "too-large",
        )
    return rows


def _parse(body: bytes | bytearray) -> Any:
    if sum(map(body.count, (b",", b"{", b"["))) > MAX_VALUES:
        raise unreachable(
            f"Wazzup's listing exceeds the operator's limit of {MAX_VALUES} values."
            f" {_CONTACT_SUPPORT}",
            "too-large",
        )
    try:
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            # JavaScript that truncates a name inside an emoji writes a lone surrogate. One such
            # name must not make the whole listing invalid.
            return orjson.loads(_LONE_SURROGATE.sub(rb"\1\\ufffd", body, count=MAX_CHANNELS))
    except orjson.JSONDecodeError as error:
        raise unreachable(
            "Wazzup answered with something that is not JSON, or is nested too deeply. If this"
            " persists, check the operator's --wazzup-url and any proxy in between.",
            "malformed",
        ) from error


def listing_of(rows: list[dict[str, Any]], previous: Listing = EMPTY) -> Listing:
    """Return the listing in these rows, with channels that `previous` lists alike."""
    valid, new_rows = _split(rows, previous)
    damaged = foreign = 0
    ambiguous_ids: set[str] = set()
    foreign_ids: set[str] = set()
    long_ids: set[str] = set()
    ambiguous_numbers: set[Number] = set()
    for row in new_rows:
        channel_id = _id(row)
        if isinstance(row.get("transport"), str) and row["transport"] not in _TRANSPORTS:
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


def _split(
    rows: list[dict[str, Any]], previous: Listing
) -> tuple[list[ListedChannel], list[dict[str, Any]]]:
    """Return the channels of rows that were parsed before, and the other rows."""
    known, others = [], []
    for row in rows:
        channel_id = row.get("channelId")
        before = previous.channels.get(channel_id) if isinstance(channel_id, str) else None
        if (
            before
            and row.get("state") == before.upstream_state
            and row.get("plainId") == before.plain_id
            and row.get("name") == before.name
            and row.get("transport") == before.transport
        ):
            known.append(before)
        else:
            others.append(row)
    return known, others


def _id(row: dict[str, Any]) -> str | None:
    """Return the row's channel id; None if spec.channelID could not hold it."""
    found = row.get("channelId")
    if isinstance(found, str) and 0 < len(found) <= MAX_ID and found.isprintable():
        return found
    return None


def _transport(row: dict[str, Any]) -> Transport | None:
    found = row.get("transport")
    return _TRANSPORTS.get(found) if isinstance(found, str) else None


def _is_long(row: dict[str, Any]) -> bool:
    texts = (row["state"], row.get("name"))
    return any(isinstance(text, str) and len(text) > MAX_TEXT for text in texts)


def _read_row(channel_id: str, row: dict[str, Any]) -> ListedChannel | None:
    plain_id, state, name = row.get("plainId"), row.get("state"), row.get("name")
    transport = _transport(row)
    if transport is None or not isinstance(state, str):
        return None
    if isinstance(plain_id, int) and not isinstance(plain_id, bool):
        plain_id = str(plain_id)  # partner API: "sometimes as number, sometimes as string"
    if plain_id is not None and not (isinstance(plain_id, str) and len(plain_id) <= MAX_ID):
        return None
    return ListedChannel(
        channel_id,
        transport,
        plain_id.removeprefix("+") if plain_id else None,
        state[:MAX_TEXT],
        name[:MAX_TEXT] if isinstance(name, str) else None,
    )


def _numbers(row: dict[str, Any]) -> set[Number]:
    plain_id = row.get("plainId")
    if not isinstance(plain_id, str | int) or isinstance(plain_id, bool):
        return set()
    number = canonical(str(plain_id)[:MAX_ID])
    transport = _transport(row)
    return {(each, number) for each in ([transport] if transport else Transport)}
