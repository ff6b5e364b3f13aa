"""Metrics read off the Store when they are scraped, so that what is deleted leaves at once."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from wazzup_operator.domain.states import State
from wazzup_operator.resources.account import WazzupAccount
from wazzup_operator.resources.base import READY, find
from wazzup_operator.resources.channel import WazzupChannel


class ObjectSource(Protocol):
    """What the collector needs of the Store."""

    def all_channels(self) -> Iterable[WazzupChannel]:
        """Return every channel."""

    def all_accounts(self) -> Iterable[WazzupAccount]:
        """Return every account object."""

    def account_keys(self) -> Iterable[tuple[str, str]]:
        """Return (namespace, name) of every account that exists or is referred to."""


class StoreCollector(Collector):
    """Counts channels by account, state and whether they are active; tells if accounts are up."""

    def __init__(self, source: ObjectSource) -> None:
        self._source = source

    def describe(self) -> list[GaugeMetricFamily]:
        """Return the metrics without samples, so that registering reads nothing."""
        return [_channels(), _account_up()]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return what the Store says now."""
        yield self._collect_channels()
        yield self._collect_accounts()

    def _collect_accounts(self) -> GaugeMetricFamily:
        family = _account_up()
        for account in self._source.all_accounts():
            ready = find(account.status.conditions, READY)
            if ready and ready.status != "Unknown":
                family.add_metric([*account.metadata.key], float(ready.status == "True"))
        return family

    def _collect_channels(self) -> GaugeMetricFamily:
        """Return the counts, zeros included: `state == 0` can be alerted on."""
        counts: Counter[tuple[str, str, str, bool]] = Counter()
        for channel in self._source.all_channels():
            state = channel.status.state or State.UNKNOWN
            counts[(*channel.account_key, str(state), channel.spec.active)] += 1
        for namespace, account in self._source.account_keys():
            for state in State:
                for active in (True, False):
                    counts.setdefault((namespace, account, str(state), active), 0)
        family = _channels()
        for (namespace, account, state_name, active), count in counts.items():
            family.add_metric([namespace, account, state_name, str(active).lower()], count)
        return family


def _account_up() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "wazzup_account_up",
        "1 if the account's channels can be listed, 0 if not; absent while that is unknown.",
        labels=["namespace", "account"],
    )


def _channels() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "wazzup_channels",
        "WazzupChannels by account, state and whether they are declared active.",
        labels=["namespace", "account", "state", "active"],
    )
