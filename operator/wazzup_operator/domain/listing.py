"""Wazzup's listing of one account, parsed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wazzup_operator.domain.phone import canonical
from wazzup_operator.domain.states import State, from_upstream
from wazzup_operator.domain.transport import Transport

Number = tuple[Transport, str]
"""(transport, canonical phone number)."""


@dataclass(frozen=True, slots=True)
class ListedChannel:
    """One channel of the listing."""

    channel_id: str
    transport: Transport
    plain_id: str | None
    upstream_state: str
    name: str | None = None

    @property
    def state(self) -> State:
        """The state for its API state."""
        return from_upstream(self.upstream_state)

    @property
    def number(self) -> Number | None:
        """The key for matching objects; None while Wazzup lists no number."""
        return (self.transport, canonical(self.plain_id)) if self.plain_id else None


@dataclass(frozen=True, slots=True)
class Listing:
    """All channels of an account that objects can declare, without the ambiguous rows.

    `skipped` counts the ambiguous rows: damaged or contradictory. `truncated` counts the channels
    whose name or state was too long.
    """

    channels: Mapping[str, ListedChannel]
    by_number: Mapping[Number, tuple[ListedChannel, ...]]
    ambiguous_ids: frozenset[str] = frozenset()
    ambiguous_numbers: frozenset[Number] = frozenset()
    skipped: int = 0
    truncated: int = 0

    @classmethod
    def of(
        cls,
        channels: Iterable[ListedChannel],
        ambiguous_ids: Iterable[str] = (),
        ambiguous_numbers: Iterable[Number] = (),
        *,
        skipped: int = 0,
        truncated: int = 0,
    ) -> "Listing":
        """Index `channels`, whose ids must be unique."""
        by_id = {channel.channel_id: channel for channel in channels}
        by_number: dict[Number, list[ListedChannel]] = {}
        for channel in by_id.values():
            if number := channel.number:
                by_number.setdefault(number, []).append(channel)
        return cls(
            by_id,
            {number: tuple(same) for number, same in by_number.items()},
            frozenset(ambiguous_ids),
            frozenset(ambiguous_numbers),
            skipped,
            truncated,
        )
