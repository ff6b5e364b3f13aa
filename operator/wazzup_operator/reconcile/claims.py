"""Which object keeps a channel that several declare."""

from collections.abc import Iterable

from wazzup_operator.domain.listing import Number
from wazzup_operator.resources.channel import WazzupChannel


def keeper_of(claimants: Iterable[WazzupChannel]) -> WazzupChannel:
    """Return the object that keeps the channel: the oldest that is not being deleted."""
    return min(claimants, key=lambda channel: channel.metadata.claim_order)


def duplicates(channels: Iterable[WazzupChannel]) -> dict[str, WazzupChannel]:
    """Map the uid of each duplicate to the object of the same account that keeps its number."""
    groups: dict[Number, list[WazzupChannel]] = {}
    for channel in channels:
        groups.setdefault(channel.number, []).append(channel)
    return {
        channel.metadata.uid: keeper
        for group in groups.values()
        if len(group) > 1
        for keeper in (keeper_of(group),)
        for channel in group
        if channel is not keeper
    }
