"""Which object keeps a channel that several declare."""

from collections.abc import Iterable
from typing import TypeVar

from wazzup_operator.resources.channel import WazzupChannel

K = TypeVar("K")


def keeper_of(claimants: Iterable[WazzupChannel]) -> WazzupChannel:
    """Return the object that keeps the channel: the oldest that is not being deleted.

    Of objects created in one second, the one with a channel on record, then the first by name.
    """
    return min(claimants, key=lambda channel: channel.claim_order)


def contend(keepers: dict[K, WazzupChannel], key: K, channel: WazzupChannel) -> None:
    """Let an object contend for a number or a channel id with the one that keeps it so far."""
    keepers[key] = keeper_of((keepers[key], channel))
