"""Who has a channel when several objects want it: rule 1, one channel = one phone number."""

from collections.abc import Iterable

from wazzup_operator.domain.listing import Number
from wazzup_operator.resources.channel import WazzupChannel


def senior(contenders: Iterable[WazzupChannel]) -> WazzupChannel:
    """Return the one that keeps the channel: the oldest, but one being deleted yields."""
    return min(contenders, key=lambda channel: channel.metadata.seniority)


def lost_numbers(channels: Iterable[WazzupChannel]) -> dict[str, WazzupChannel]:
    """Return the winner for each object (by uid) of one account that lost its number to another."""
    groups: dict[Number, list[WazzupChannel]] = {}
    for channel in channels:
        groups.setdefault(channel.number, []).append(channel)
    return {
        channel.metadata.uid: winner
        for group in groups.values()
        if len(group) > 1
        for winner in (senior(group),)
        for channel in group
        if channel is not winner
    }
