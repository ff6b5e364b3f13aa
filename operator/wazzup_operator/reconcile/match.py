"""Which channel of a listing belongs to an object."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from wazzup_operator.domain.listing import ListedChannel, Listing, Number
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.domain.states import Action, Actor, Carries, State
from wazzup_operator.domain.transport import Transport
from wazzup_operator.reconcile.finding import Conflict, Inconclusive, NotListed
from wazzup_operator.resources.channel import WazzupChannel

_RECREATE = Action(
    Actor.DECLARATION,
    "Recreate this object with the right spec.channelID or none (this deletes nothing in Wazzup);"
    " if you changed spec.accountRef, change it back, then change both in one edit.",
)

_IDS_SHOWN = 10

Match = ListedChannel | NotListed | Inconclusive | Conflict

_INCONCLUSIVE, _NOT_LISTED = Inconclusive(), NotListed()


@dataclass(frozen=True, slots=True)
class Matcher:
    """Finds the channels of objects in a listing.

    The `unconfirmed` ids are missing from it, perhaps by mistake; `numbers` are theirs.
    """

    listing: Listing
    unconfirmed: Collection[str]
    numbers: frozenset[Number] = frozenset()

    def match(self, channel: WazzupChannel) -> Match:
        """Return the object's channel, or why there is none.

        In this order: the channel in spec.channelID, the recorded channel if it may carry messages,
        the only Active one, the recorded channel unless it is off, the only channel with the number
        that is not off, the only channel with the number.
        """
        if channel.spec.channel_id:
            return self._by_declared_id(channel, channel.spec.channel_id)
        recorded_id = channel.recorded.channel_id
        recorded = self.listing.channels.get(recorded_id) if recorded_id else None
        if recorded and recorded.number and recorded.number != channel.number:
            recorded = None
        if recorded and _may_carry_messages(recorded):
            return recorded
        ambiguous = recorded_id in self.listing.ambiguous_ids
        if ambiguous or channel.number in self.listing.ambiguous_numbers:
            return _INCONCLUSIVE
        if recorded_id and (successor := self._successor(channel)):
            return successor
        if recorded_id in self.unconfirmed:
            return _INCONCLUSIVE
        found = self._by_number(channel, recorded)
        if channel.number in self.numbers and found is not recorded:
            return _INCONCLUSIVE  # another channel with this number is missing
        return found

    def keeps(self, recorded: ListedChannel) -> bool:
        """Return whether an object that had this row in the last pass certainly gets it again."""
        unchanged = self.listing.channels.get(recorded.channel_id) is recorded
        return unchanged and _may_carry_messages(recorded)

    def _successor(self, channel: WazzupChannel) -> ListedChannel | None:
        """Return the number's only Active channel: somebody has added the number again."""
        same_number = self.listing.by_number.get(channel.number, ())
        active = [each for each in same_number if each.state is State.ACTIVE]
        return active[0] if len(active) == 1 else None

    def _by_declared_id(self, channel: WazzupChannel, channel_id: str) -> Match:
        listed = self.listing.channels.get(channel_id)
        may_exist = channel.number in self.listing.ambiguous_numbers
        uncertain = channel_id in self.unconfirmed or channel_id in self.listing.ambiguous_ids
        if uncertain or (listed is None and may_exist):
            return _INCONCLUSIVE
        if listed is None:
            return NotListed(
                "The Wazzup account has no channel with the id in spec.channelID.", _RECREATE
            )
        if listed.transport != channel.spec.transport or listed.number not in {
            None,
            channel.number,
        }:
            return Conflict(
                Reason.CHANNEL_MISMATCH,
                "The channel with the id in spec.channelID has another phone number or transport.",
                _RECREATE,
            )
        return listed

    def _by_number(self, channel: WazzupChannel, recorded: ListedChannel | None) -> Match:
        candidates = self.listing.by_number.get(channel.number, ())
        if recorded and recorded.number is None:
            candidates = (*candidates, recorded)
        on = [candidate for candidate in candidates if candidate.state is not State.OFF]
        if recorded and recorded in on:
            return recorded
        if len(on) == 1:
            return on[0]
        if len(candidates) == 1:
            return candidates[0]
        if not candidates:
            return self._not_listed(channel)
        return _ambiguous(candidates)

    def _not_listed(self, channel: WazzupChannel) -> NotListed:
        declared, phone = channel.number
        for other in Transport:
            if (other, phone) in self.listing.by_number:
                return NotListed(
                    f'The Wazzup account has this number only with transport "{other}".',
                    Action(
                        Actor.DECLARATION,
                        f'Recreate this object with spec.transport "{other}" (this deletes nothing'
                        f' in Wazzup), or add the number with transport "{declared}" in Wazzup.',
                    ),
                )
        return _NOT_LISTED


def _may_carry_messages(channel: ListedChannel) -> bool:
    return channel.state.traits.carries is not Carries.NO


def _ambiguous(candidates: Sequence[ListedChannel]) -> Conflict:
    shown = sorted(f"{each.channel_id} ({each.state})" for each in candidates)
    more = ", …" if len(shown) > _IDS_SHOWN else ""
    return Conflict(
        Reason.AMBIGUOUS_CHANNEL,
        f"This number has {len(shown)} channels in Wazzup: {', '.join(shown[:_IDS_SHOWN])}{more}.",
        Action(Actor.DECLARATION, "Set spec.channelID to the id of the right channel."),
    )
