"""Which object keeps a channel that several declare. Rule 1: one channel is one phone number."""

from collections.abc import Iterable

from wazzup_operator.domain.listing import Number
from wazzup_operator.resources.channel import WazzupChannel


def winner(contenders: Iterable[WazzupChannel]) -> WazzupChannel:
    """Return the object that keeps the channel: the oldest that is not being deleted."""
    return min(contenders, key=lambda channel: channel.metadata.claim_order)


def duplicates(channels: Iterable[WazzupChannel]) -> dict[str, WazzupChannel]:
    """Map the uid of each object whose number another object of the account keeps to that one."""
    groups: dict[Number, list[WazzupChannel]] = {}
    for channel in channels:
        groups.setdefault(channel.number, []).append(channel)
    return {
        channel.metadata.uid: keeper
        for group in groups.values()
        if len(group) > 1
        for keeper in (winner(group),)
        for channel in group
        if channel is not keeper
    }
