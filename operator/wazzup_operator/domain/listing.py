"""What Wazzup lists of one account, once it has been read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wazzup_operator.domain.phone import canonical
from wazzup_operator.domain.states import State, from_upstream
from wazzup_operator.domain.transport import Transport

Number = tuple[Transport, str]
"""(transport, phone number in its one spelling)."""


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
        """The state that the API state stands for."""
        return from_upstream(self.upstream_state)

    @property
    def number(self) -> Number | None:
        """What it is found by; None while Wazzup shows no number for it."""
        return (self.transport, canonical(self.plain_id)) if self.plain_id else None


@dataclass(frozen=True, slots=True)
class Listing:
    """All channels of an account that objects can declare, and what could not be made out.

    `passed_over` counts the rows that could not be made out, `cut` the channels of which a name or
    a state was too long to be kept whole.
    """

    channels: Mapping[str, ListedChannel]
    by_number: Mapping[Number, tuple[ListedChannel, ...]]
    doubtful_ids: frozenset[str] = frozenset()
    doubtful_numbers: frozenset[Number] = frozenset()
    passed_over: int = 0
    cut: int = 0

    @classmethod
    def of(
        cls,
        channels: Iterable[ListedChannel],
        doubtful_ids: Iterable[str] = (),
        doubtful_numbers: Iterable[Number] = (),
        *,
        passed_over: int = 0,
        cut: int = 0,
    ) -> "Listing":
        """Return the listing of these channels, whose ids must differ."""
        by_id = {channel.channel_id: channel for channel in channels}
        by_number: dict[Number, list[ListedChannel]] = {}
        for channel in by_id.values():
            if number := channel.number:
                by_number.setdefault(number, []).append(channel)
        return cls(
            by_id,
            {number: tuple(same) for number, same in by_number.items()},
            frozenset(doubtful_ids),
            frozenset(doubtful_numbers),
            passed_over,
            cut,
        )
