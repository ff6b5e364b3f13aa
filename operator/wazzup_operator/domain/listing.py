"""Wazzup's listing of one account, parsed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from wazzup_operator.domain.phone import canonical
from wazzup_operator.domain.states import State, from_upstream
from wazzup_operator.domain.transport import Transport

Number = tuple[Transport, str]
"""(transport, canonical phone number)."""


@dataclass(frozen=True, slots=True)
class ListedChannel:
    """One channel of the listing.

    `state` is the one for its API state. `number` is the key for matching objects; None while
    Wazzup lists no number.
    """

    channel_id: str
    transport: Transport
    plain_id: str | None
    upstream_state: str
    name: str | None = None
    state: State = field(init=False, compare=False, repr=False)
    number: Number | None = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Derive the state and the number once; every pass reads them."""
        number = (self.transport, canonical(self.plain_id)) if self.plain_id else None
        object.__setattr__(self, "state", from_upstream(self.upstream_state))
        object.__setattr__(self, "number", number)


@dataclass(frozen=True, slots=True)
class Listing:
    """All channels of an account that objects can declare, without the ambiguous rows.

    `skipped` counts the ambiguous rows: damaged or contradictory. `truncated` counts the channels
    whose name or state was too long. `foreign` counts the rows of other transports.
    """

    channels: Mapping[str, ListedChannel]
    ambiguous_ids: frozenset[str] = frozenset()
    ambiguous_numbers: frozenset[Number] = frozenset()
    skipped: int = 0
    truncated: int = 0
    foreign: int = 0
    by_number: Mapping[Number, Sequence[ListedChannel]] = field(
        init=False, compare=False, repr=False
    )
    """The channels that have a number, by that number."""

    def __post_init__(self) -> None:
        """Index the numbers here: a large listing is parsed in a thread, beside the event loop."""
        found: dict[Number, list[ListedChannel]] = {}
        for channel in self.channels.values():
            if channel.number:
                found.setdefault(channel.number, []).append(channel)
        object.__setattr__(self, "by_number", found)

    @classmethod
    def of(
        cls,
        channels: Iterable[ListedChannel],
        ambiguous_ids: Iterable[str] = (),
        ambiguous_numbers: Iterable[Number] = (),
        *,
        skipped: int = 0,
        truncated: int = 0,
        foreign: int = 0,
    ) -> "Listing":
        """Index `channels`, whose ids must be unique."""
        return cls(
            {channel.channel_id: channel for channel in channels},
            frozenset(ambiguous_ids),
            frozenset(ambiguous_numbers),
            skipped,
            truncated,
            foreign,
        )

    @property
    def has_rows(self) -> bool:
        """Whether the answer had any row."""
        return bool(self.channels or self.skipped or self.foreign)


EMPTY = Listing.of(())
"""What is known before the first listing."""
