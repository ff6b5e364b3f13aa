"""Whether to believe a listing that lacks a known channel.

Wazzup sometimes gives short or empty listings (third parties report an empty first one), so a
channel is gone only when a second listing lacks it too.
"""

from dataclasses import dataclass

from wazzup_operator.domain.listing import Listing, Number


@dataclass(frozen=True, slots=True)
class Trust:
    """What is believed about the account's channels after a listing.

    `known` are the ids of channels that exist. `unconfirmed` are known ids that only the last
    listing lacks; `numbers` are their phone numbers, where an earlier listing showed them.
    """

    known: frozenset[str]
    unconfirmed: frozenset[str] = frozenset()
    numbers: frozenset[Number] = frozenset()


def weigh(previous: Trust, listing: Listing) -> Trust:
    """Return the trust after this listing.

    Before a process's first listing, `previous.known` are the ids recorded in the statuses.
    """
    listed = listing.channels.keys() | listing.ambiguous_ids
    unconfirmed = previous.known - listed - previous.unconfirmed
    return Trust(frozenset(listed | unconfirmed), unconfirmed)
