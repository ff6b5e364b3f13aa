"""The order in which a pass writes statuses.

A user waits for an awaited status: the first of a new object or spec. All others are routine.
"""

from collections.abc import Sequence

from wazzup_operator.kube.status import awaits_status
from wazzup_operator.resources.channel import ChannelStatus, WazzupChannel

PlannedStatus = tuple[WazzupChannel, ChannelStatus]

_EARLY_RETRIES = 8
"""How many awaited statuses that were refused before are written ahead of the routine ones; fewer
than MAX_REFUSALS, which would abandon the pass."""


class WriteOrder:
    """Sorts an account's statuses; those that the API server refused come last."""

    def __init__(self) -> None:
        self._refused_at: dict[tuple[str, int], float] = {}
        """When a status was last refused, by the object's uid and generation."""

    def refused(self, channel: WazzupChannel, at: float) -> None:
        """Record that the API server refused a status of this object."""
        self._refused_at[_generation_key(channel)] = at

    def not_refused(self, channel: WazzupChannel) -> None:
        """Record that a write for this object was not refused."""
        self._refused_at.pop(_generation_key(channel), None)

    def sort(self, statuses: Sequence[PlannedStatus]) -> list[PlannedStatus]:
        """Return awaited statuses first, then routine ones, then refused ones by time of refusal.

        A few refused but awaited statuses come before the routine ones: the refusal may have been
        temporary.
        """
        planned = {_generation_key(channel) for channel, _ in statuses}
        self._refused_at = {each: at for each, at in self._refused_at.items() if each in planned}
        early = self._early_retries(statuses)

        def rank(planned_status: PlannedStatus) -> tuple[int, float]:
            channel = planned_status[0]
            key = _generation_key(channel)
            if key in self._refused_at:
                return (1, 0.0) if key in early else (3, self._refused_at[key])
            return (0, 0.0) if awaits_status(channel) else (2, 0.0)

        return sorted(statuses, key=rank)

    def _early_retries(self, statuses: Sequence[PlannedStatus]) -> set[tuple[str, int]]:
        awaited = {_generation_key(channel) for channel, _ in statuses if awaits_status(channel)}
        refused = sorted(self._refused_at.keys() & awaited, key=self._refused_at.__getitem__)
        return set(refused[:_EARLY_RETRIES])


def _generation_key(channel: WazzupChannel) -> tuple[str, int]:
    return channel.metadata.uid, channel.metadata.generation
