"""Every metric of both processes: name, meaning, labels. `docs/metrics.md` is made of this.

Names of controller-runtime and client-go are taken where they have one, so that dashboards made for
them show this operator too. No label holds a phone number, a channel id or free text.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

disable_created_metrics()  # _created doubles every counter and says nothing rate() needs

registry = CollectorRegistry()
ProcessCollector(registry=registry)

MetricType = Literal["counter", "gauge", "histogram"]
Family = CounterMetricFamily | GaugeMetricFamily


@dataclass(frozen=True, slots=True)
class Metric:
    """What is documented of a metric; `process` is "controller", "webhook" or "both"."""

    name: str
    kind: MetricType
    meaning: str
    labels: tuple[str, ...]
    process: str

    def family(self) -> Family:
        """Return it without samples, for a collector to fill."""
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        return make(self.name.removesuffix("_total"), self.meaning, labels=self.labels)


DECLARED: list[Metric] = []
"""All of them, in the order of this file."""


def _declare(
    name: str, kind: MetricType, meaning: str, labels: str = "", process: str = ""
) -> Metric:
    metric = Metric(name, kind, meaning, tuple(labels.split()), process or "controller")
    DECLARED.append(metric)
    return metric


def _counter(name: str, meaning: str, labels: str = "", process: str = "") -> Counter:
    metric = _declare(name, "counter", meaning, labels, process)
    return Counter(metric.name, metric.meaning, metric.labels, registry=registry)


def _gauge(name: str, meaning: str, labels: str = "", process: str = "") -> Gauge:
    metric = _declare(name, "gauge", meaning, labels, process)
    return Gauge(metric.name, metric.meaning, metric.labels, registry=registry)


def _histogram(
    name: str, meaning: str, labels: str = "", process: str = "", *, buckets: Sequence[float]
) -> Histogram:
    metric = _declare(name, "histogram", meaning, labels, process)
    return Histogram(metric.name, metric.meaning, metric.labels, registry=registry, buckets=buckets)


_REQUEST = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
_PASS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_DELAY = (0.5, 1, 2, 3, 5, 10, 30, 60, 120, 300, 600, 1800)

# Channels and accounts: computed from the Store at each scrape, by the leader.

CHANNEL_COUNTS = _declare(
    "wazzup_channels",
    "gauge",
    "WazzupChannels by account, state and whether they are declared active, zeros included.",
    "namespace account state active",
)
CHANNEL_STATE = _declare(
    "wazzup_channel_state",
    "gauge",
    "Always 1, one series per WazzupChannel: its state, status and reason of Ready (true, false or"
    " unknown), and who must act (status.action.by); empty labels where there is none.",
    "namespace name account transport active state ready reason by",
)
CHANNEL_STATE_SINCE = _declare(
    "wazzup_channel_state_since_timestamp_seconds",
    "gauge",
    "Since when a WazzupChannel is in its state, in seconds since 1970.",
    "namespace name",
)
CHANNELS_WITHOUT_SERIES = _declare(
    "wazzup_channels_without_series",
    "gauge",
    "WazzupChannels without series of their own, because of --channel-series-limit; those that are"
    " not Ready have theirs first.",
)
ACCOUNT_UP = _declare(
    "wazzup_account_up",
    "gauge",
    "1 if the account's channels can be listed, 0 if not; absent while that is unknown or paused.",
    "namespace account",
)
ACCOUNT_LAST_SYNC = _declare(
    "wazzup_account_last_sync_timestamp_seconds",
    "gauge",
    "When the account's channels were last listed, in seconds since 1970; absent before.",
    "namespace account",
)
ACCOUNT_FAILURES = _declare(
    "wazzup_account_consecutive_failures",
    "gauge",
    "How often in a row the account's channels could not be listed.",
    "namespace account",
)
ACCOUNT_UNMANAGED = _declare(
    "wazzup_account_unmanaged_channels",
    "gauge",
    "Channels in the Wazzup account that no object declares, counted up to 100.",
    "namespace account",
)

# Wazzup's API.

wazzup_requests = _counter(
    "wazzup_api_requests_total",
    "Requests to Wazzup's API, by HTTP status or kind of failure.",
    "operation code",
)
wazzup_duration = _histogram(
    "wazzup_api_request_duration_seconds",
    "Duration of requests to Wazzup's API.",
    "operation",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)

# The loops.

reconciles = _counter(
    "controller_runtime_reconcile_total",
    "Passes over accounts by result: success, requeue_after (something is retried) or error (an"
    " unexpected one).",
    "controller result",
)
reconcile_errors = _counter(
    "controller_runtime_reconcile_errors_total",
    "Passes over accounts that failed with an unexpected error.",
    "controller",
)
reconcile_time = _histogram(
    "controller_runtime_reconcile_time_seconds",
    "Duration of passes over accounts, including the listing and the writes.",
    "controller",
    buckets=_PASS,
)
active_workers = _gauge(
    "controller_runtime_active_workers",
    "Passes over accounts in progress.",
    "controller",
)
status_writes = _counter(
    "wazzup_status_writes_total",
    "Writes of statuses by result: written, outdated (replanned), refused, unreachable, or not_kept"
    " by an older CRD.",
    "kind result",
)
first_status = _histogram(
    "wazzup_channel_first_status_seconds",
    "Seconds from a new WazzupChannel to its first status.",
    buckets=_DELAY,
)
change_to_status = _histogram(
    "wazzup_channel_change_to_status_seconds",
    "Seconds from the listing that first showed another state of a channel to its status.",
    buckets=_DELAY,
)
QUEUE_DEPTH = _declare(
    "workqueue_depth",
    "gauge",
    "Statuses waiting to be written and Events waiting to be posted.",
    "name",
)
EVENTS_DROPPED = _declare(
    "wazzup_operator_events_dropped_total",
    "counter",
    "Events dropped because too many were waiting or the API server did not accept them.",
)
WATCH_SILENCE = _declare(
    "wazzup_operator_watch_silence_seconds",
    "gauge",
    "Seconds since the last list, event or bookmark.",
    "resource namespace",
)
RELISTS = _declare(
    "wazzup_operator_relists_total",
    "counter",
    "Full lists, including the first one.",
    "resource namespace",
)
LEADER = _declare(
    "leader_election_master_status",
    "gauge",
    "1 if this replica acts, 0 if it stands by; without an election it acts once it is synced.",
    "name",
)

# The API server.

rest_requests = _counter(
    "rest_client_requests_total",
    "Requests to the Kubernetes API server, by method and HTTP status.",
    "method code host",
    "both",
)
rest_duration = _histogram(
    "rest_client_request_duration_seconds",
    "Duration of requests to the API server, until its answer began.",
    "verb host",
    "both",
    buckets=_REQUEST,
)

# The webhook.

webhook_requests = _counter(
    "controller_runtime_webhook_requests_total",
    "Reviews by handler and HTTP status; a refusal is an answer (200).",
    "webhook code",
    "webhook",
)
webhook_latency = _histogram(
    "controller_runtime_webhook_latency_seconds",
    "Duration of reviews.",
    "webhook",
    "webhook",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
webhook_in_flight = _gauge(
    "controller_runtime_webhook_requests_in_flight",
    "Reviews in progress.",
    "webhook",
    "webhook",
)
webhook_reviews = _counter(
    "wazzup_webhook_reviews_total",
    "Changes checked by the rules, by kind and verdict: allowed, warned or denied.",
    "kind verdict",
    "webhook",
)
CERTIFICATE_EXPIRES = _declare(
    "wazzup_operator_webhook_certificate_expiration_timestamp_seconds",
    "gauge",
    "When the served certificate expires, in seconds since 1970; absent before one is served.",
    process="webhook",
)
CERTIFICATE_VALID_FROM = _declare(
    "wazzup_operator_webhook_certificate_not_before_timestamp_seconds",
    "gauge",
    "When the validity of the served certificate began, in seconds since 1970.",
    process="webhook",
)
certificate_reads = _counter(
    "certwatcher_read_certificate_total",
    "Attempts to load a changed certificate.",
    process="webhook",
)
certificate_read_errors = _counter(
    "certwatcher_read_certificate_errors_total",
    "Failed attempts to load a changed certificate.",
    process="webhook",
)

# The process.

build_info = _gauge(
    "wazzup_operator_build_info",
    "Always 1: the version of the operator and of Python.",
    "version python_version",
    "both",
)
build_info.labels(version("wazzup-operator"), platform.python_version()).set(1)
tasks = _gauge(
    "wazzup_operator_tasks",
    "asyncio tasks; a number that only grows is a leak.",
    process="both",
)


def observe_wazzup(operation: str, code: str, duration: float) -> None:
    """Count one request to Wazzup; duration in seconds."""
    wazzup_requests.labels(operation, code).inc()
    wazzup_duration.labels(operation).observe(duration)


def observe_rest(method: str, code: str, host: str, duration: float) -> None:
    """Count one request to the API server; duration in seconds."""
    rest_requests.labels(method, code, host).inc()
    rest_duration.labels(method, host).observe(duration)


def observe_certificate(ok: bool) -> None:
    """Count one try to load the webhook's certificate."""
    certificate_reads.inc()
    if not ok:
        certificate_read_errors.inc()
