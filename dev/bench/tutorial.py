"""The operator that kopf's tutorial leads to: handlers and a timer for each object.

Run by `kopf run`, with WAZZUP_URL and API_KEY in the environment. All objects share a listing,
because Wazzup would refuse one for each of them.
"""

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp
import kopf

POLL = 10.0
KIND = ("wazzup.dev", "v1", "wazzupchannels")

_rows: dict[str, dict[str, Any]] = {}
_listed_at = float("-inf")
_listing = asyncio.Lock()


async def _row(number: str) -> dict[str, Any]:
    global _rows, _listed_at
    async with _listing:
        if time.monotonic() - _listed_at >= POLL:
            headers = {"Authorization": f"Bearer {os.environ['API_KEY']}"}
            async with (
                aiohttp.ClientSession(headers=headers, raise_for_status=True) as session,
                session.get(f"{os.environ['WAZZUP_URL']}/v3/channels") as answer,
            ):
                _rows = {row["plainId"]: row for row in await answer.json()}
            _listed_at = time.monotonic()
    return _rows[number]


@kopf.on.create(*KIND)
@kopf.on.update(*KIND)
@kopf.on.resume(*KIND)
@kopf.timer(*KIND, interval=POLL)
async def reconcile(
    spec: kopf.Spec, status: kopf.Status, meta: kopf.Meta, patch: kopf.Patch, **_: Any
) -> None:
    """Write the status if the channel or the spec has changed."""
    row = await _row(spec["phoneNumber"].removeprefix("+"))
    observed = {
        "observedGeneration": meta["generation"],
        "account": spec["accountRef"]["name"],
        "state": "Active",
        "upstreamState": row["state"],
        "channelID": row["channelId"],
        "plainID": row["plainId"],
        "displayName": row["name"],
    }
    if any(status.get(field) != value for field, value in observed.items()):
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        patch.status.update(observed | {"stateSince": now, "conditions": _conditions(meta, now)})


def _conditions(meta: kopf.Meta, now: str) -> list[dict[str, Any]]:
    texts = {
        "Ready": ("Active", "The channel is active and carries messages."),
        "Synced": ("UpToDate", "This status comes from a current listing of the Wazzup account."),
    }
    return [
        {
            "type": kind,
            "status": "True",
            "observedGeneration": meta["generation"],
            "lastTransitionTime": now,
            "reason": reason,
            "message": message,
        }
        for kind, (reason, message) in texts.items()
    ]
