"""How far a listing is believed when a channel that was there is missing from it.

Wazzup has been seen to give short and empty listings (third parties report a first empty one), so
a channel counts as gone only when a second listing lacks it too.
"""

from dataclasses import dataclass

from wazzup_operator.domain.listing import Listing, Number


@dataclass(frozen=True, slots=True)
class Trust:
    """Channel ids `known` to be in the account; the last listing alone lacks the `unconfirmed`.

    `numbers` are the phone numbers of the unconfirmed ids, where a listing showed them.
    """

    known: frozenset[str]
    unconfirmed: frozenset[str] = frozenset()
    numbers: frozenset[Number] = frozenset()


def weigh(previous: Trust, listing: Listing) -> Trust:
    """Return what is known after this listing.

    Before the first listing of a process, `previous.known` is what the objects have on record.
    """
    listed = listing.channels.keys() | listing.ambiguous_ids
    unconfirmed = previous.known - listed - previous.unconfirmed
    return Trust(frozenset(listed | unconfirmed), unconfirmed)
