"""From the bytes of `GET /v3/channels` to a Listing.

Source: Wazzup's API page "Working with channels": a bare array of objects with channelId,
transport, plainId and state; `name` is not documented and there on live accounts.
"""

from typing import Any

import orjson

from wazzup_operator.domain.listing import TRANSPORTS, ListedChannel, Listing, Number
from wazzup_operator.domain.phone import canonical
from wazzup_operator.wazzup.errors import unreachable

MAX_CHANNELS = 100_000
MAX_TEXT = 256
"""Characters of a name or a state that are kept; more has no place in a status."""

MAX_ID = 64


def read_listing(body: bytes) -> Listing:
    """Return the listing.

    Rows of other transports are passed over. A row that lacks its id or has fields of wrong types,
    and rows that contradict each other under one id, are left out, and named as doubtful as far
    as they can be. Raises WazzupError where the whole is not a listing.
    """
    try:
        rows = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise unreachable(
            "Wazzup answered with something that is not JSON; if this stays, check the operator's"
            " --wazzup-url and whatever proxy is in between.",
            "malformed",
        ) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise unreachable(
            "Wazzup answered with JSON that is not a list of channels; if this stays, write to"
            " Wazzup's support.",
            "malformed",
        )
    if len(rows) > MAX_CHANNELS:
        raise unreachable(
            f"Wazzup listed {len(rows)} channels, more than the {MAX_CHANNELS} that the operator"
            " reads.",
            "too-large",
        )
    return _sort_out(rows)


def _sort_out(rows: list[dict[str, Any]]) -> Listing:
    channels: dict[str, ListedChannel] = {}
    doubtful_ids: set[str] = set()
    foreign_ids: set[str] = set()
    doubtful_numbers: set[Number] = set()
    for row in rows:
        if isinstance(row.get("transport"), str) and row["transport"] not in TRANSPORTS:
            foreign_ids.add(str(row.get("channelId")))
            continue
        channel = _read_row(row)
        known = channels.get(channel.channel_id) if channel else None
        if channel and known in {None, channel}:
            channels[channel.channel_id] = channel
            continue
        doubtful_numbers |= _numbers(row)
        if isinstance(row.get("channelId"), str):
            doubtful_ids.add(row["channelId"])
    doubtful_ids |= foreign_ids & channels.keys()
    doubtful = {id_: channels.pop(id_) for id_ in doubtful_ids & channels.keys()}
    doubtful_numbers |= {channel.number for channel in doubtful.values() if channel.number}
    return Listing.of(channels.values(), doubtful_ids, doubtful_numbers)


def _read_row(row: dict[str, Any]) -> ListedChannel | None:
    channel_id, plain_id, state = row.get("channelId"), row.get("plainId"), row.get("state")
    name = row.get("name")
    if not isinstance(channel_id, str) or not 0 < len(channel_id) <= MAX_ID:
        return None
    if not isinstance(row.get("transport"), str) or not isinstance(state, str):
        return None
    if isinstance(plain_id, int) and not isinstance(plain_id, bool):
        plain_id = str(plain_id)  # partner API: "sometimes as number, sometimes as string"
    if plain_id is not None and not (isinstance(plain_id, str) and len(plain_id) <= MAX_ID):
        return None
    return ListedChannel(
        channel_id,
        row["transport"],
        plain_id.removeprefix("+") if plain_id else None,
        state[:MAX_TEXT],
        name[:MAX_TEXT] if isinstance(name, str) else None,
    )


def _numbers(row: dict[str, Any]) -> set[Number]:
    plain_id = row.get("plainId")
    if not isinstance(plain_id, str | int) or isinstance(plain_id, bool):
        return set()
    number = canonical(str(plain_id)[:MAX_ID])
    transport = row.get("transport")
    if isinstance(transport, str):
        return {(transport, number)}
    return {(transport, number) for transport in TRANSPORTS}
