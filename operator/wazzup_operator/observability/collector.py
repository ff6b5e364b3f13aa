"""Metrics read off the Store when they are scraped, so that what is deleted leaves at once."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from wazzup_operator.domain.states import State
from wazzup_operator.resources.channel import WazzupChannel


class ChannelSource(Protocol):
    """What the collector needs of the Store."""

    def all_channels(self) -> Iterable[WazzupChannel]:
        """Return every channel."""

    def account_keys(self) -> Iterable[tuple[str, str]]:
        """Return (namespace, name) of every account that exists or is referred to."""


class ChannelCollector(Collector):
    """Counts channels by namespace, account, state and whether they are declared active."""

    def __init__(self, source: ChannelSource) -> None:
        self._source = source

    def describe(self) -> list[GaugeMetricFamily]:
        """Return the metric without samples, so that registering reads nothing."""
        return [_family()]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the counts, zeros included: `state == 0` can be alerted on."""
        counts: Counter[tuple[str, str, str, bool]] = Counter()
        for channel in self._source.all_channels():
            state = channel.status.state or State.UNKNOWN
            counts[(*channel.account_key, str(state), channel.spec.active)] += 1
        for namespace, account in self._source.account_keys():
            for state in State:
                for active in (True, False):
                    counts.setdefault((namespace, account, str(state), active), 0)
        family = _family()
        for (namespace, account, state_name, active), count in counts.items():
            family.add_metric([namespace, account, state_name, str(active).lower()], count)
        yield family


def _family() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "wazzup_channels",
        "WazzupChannels by account, state and whether they are declared active.",
        labels=["namespace", "account", "state", "active"],
    )
