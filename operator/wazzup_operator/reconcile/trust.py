"""Whether to believe a listing that lacks a known channel.

Wazzup sometimes gives short or empty listings for a while; third parties report an empty first one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from wazzup_operator.domain.listing import EMPTY, Listing, Number

CONFIRM = 60.0
"""Seconds for which every listing, and at least two, must lack a known channel until it is gone."""


class Missing(NamedTuple):
    """A known channel that listings lack.

    `since` is when the first of them came, in monotonic seconds. `number` is the channel's, where
    an earlier listing showed it.
    """

    since: float
    number: Number | None


@dataclass(frozen=True, slots=True)
class Trust:
    """What is believed about the account's channels after a listing.

    `known` are the ids of channels that exist. The known ids in `missing` are unconfirmed.
    """

    known: frozenset[str]
    missing: Mapping[str, Missing] = field(default_factory=dict)

    @property
    def numbers(self) -> frozenset[Number]:
        """The known phone numbers of the unconfirmed ids."""
        return frozenset(each.number for each in self.missing.values() if each.number)


def weigh(previous: Trust, listing: Listing, now: float, shown: Listing = EMPTY) -> Trust:
    """Return the trust after this listing; `shown` is the one before.

    Before a process's first listing, `previous.known` are the ids recorded in the statuses.
    """
    listed = listing.channels.keys() | listing.ambiguous_ids
    missing = {}
    for channel_id in previous.known - listed:
        before = previous.missing.get(channel_id)
        if before is None:
            last = shown.channels.get(channel_id)
            missing[channel_id] = Missing(now, last.number if last else None)
        elif now - before.since < CONFIRM:
            missing[channel_id] = before
    return Trust(frozenset(listed | missing.keys()), missing)
