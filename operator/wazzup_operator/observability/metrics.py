"""Every metric of both processes: name, meaning, labels. `docs/metrics.md` is generated from this.

Where controller-runtime or client-go has a metric, its name is used, so that their dashboards work
for this operator too. No label holds a phone number, a channel id or free text.
"""

import platform
from collections.abc import Iterable, Sequence
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

disable_created_metrics()  # _created doubles every counter, and rate() does not need it

registry = CollectorRegistry()
ProcessCollector(registry=registry)

MetricType = Literal["counter", "gauge", "histogram"]
Family = CounterMetricFamily | GaugeMetricFamily
Samples = Iterable[tuple[tuple[str, ...], float]]
"""Pairs of label values and value."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's documentation; `process` is "controller", "webhook" or "both"."""

    name: str
    kind: MetricType
    meaning: str
    labels: tuple[str, ...]
    process: str

    def family(self) -> Family:
        """Return an empty metric family for a collector."""
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        return make(self.name.removesuffix("_total"), self.meaning, labels=self.labels)

    def text(self, samples: Samples) -> str:
        """Return a gauge in the text format, in an eighth of prometheus-client's time."""
        names = ",".join(f'{label}="%s"' for label in self.labels)
        row = f"{self.name}{{{names}}} %r\n" if names else f"{self.name} %r\n"
        lines = (row % (*map(_escaped, labels), value) for labels, value in samples)
        head = f"# HELP {self.name} {self.meaning}\n# TYPE {self.name} {self.kind}\n"
        return head + "".join(lines)


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return value


DECLARED: list[Metric] = []
"""All metrics, in the order of this file."""


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

# Channels and accounts: the leader computes them from the Store at scrape time.

CHANNEL_COUNTS = _declare(
    "wazzup_channels",
    "gauge",
    "WazzupChannels by account, state and spec.active; absent without objects, except for Active."
    " Objects whose account does not exist are counted with an empty account.",
    "namespace account state active",
)
CHANNEL_STATE = _declare(
    "wazzup_channel_state",
    "gauge",
    "Always 1, one series per WazzupChannel: its state, status (true, false or unknown) and reason"
    " of Ready, and who must act (status.action.by). A label without a value is empty.",
    "namespace name account transport active state ready reason by",
)
CHANNEL_STATE_SINCE = _declare(
    "wazzup_channel_state_since_timestamp_seconds",
    "gauge",
    "When a WazzupChannel entered its state, in seconds since 1970.",
    "namespace name",
)
CHANNELS_WITHOUT_SERIES = _declare(
    "wazzup_channels_without_series",
    "gauge",
    "WazzupChannels without their own series, because there are more than --channel-series-limit."
    " Active ones with ready=false get series first, then others with ready=false, then unknown.",
    "active ready",
)
CHANNELS_WITHOUT_ACCOUNT = _declare(
    "wazzup_channels_without_account",
    "gauge",
    "Active WazzupChannels whose WazzupAccount does not exist; paused ones do not count.",
    "namespace",
)
ACCOUNT_UP = _declare(
    "wazzup_account_up",
    "gauge",
    "1 if the account can be listed, 0 if not; absent while unknown or paused.",
    "namespace account",
)
ACCOUNT_LAST_SYNC = _declare(
    "wazzup_account_last_sync_timestamp_seconds",
    "gauge",
    "When the account was last listed, in seconds since 1970; absent before the first listing.",
    "namespace account",
)
ACCOUNT_FAILURES = _declare(
    "wazzup_account_consecutive_failures",
    "gauge",
    "Consecutive failed listings of the account; absent if the last one succeeded.",
    "namespace account",
)
ACCOUNT_UNMANAGED = _declare(
    "wazzup_account_unmanaged_channels",
    "gauge",
    "Channels in the Wazzup account that no object declares; 100 means 100 or more, absent without"
    " one.",
    "namespace account",
)
ACCOUNT_UNKNOWN_SINCE = _declare(
    "wazzup_account_unknown_since_timestamp_seconds",
    "gauge",
    "Since when an active WazzupChannel of the account has been Unknown, in seconds since 1970: the"
    " earliest. Absent without one; paused ones do not count.",
    "namespace account",
)

# Wazzup's API.

wazzup_requests = _counter(
    "wazzup_api_requests_total",
    "Requests to Wazzup's API by HTTP status or kind of failure.",
    "operation code",
)
wazzup_duration = _histogram(
    "wazzup_api_request_duration_seconds",
    "Duration of requests to Wazzup's API, in seconds.",
    "operation",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)

# The loops.

reconciles = _counter(
    "controller_runtime_reconcile_total",
    "Passes over accounts by result: success, requeue_after (the next pass does the rest) or error"
    " (unexpected error).",
    "controller result",
)
reconcile_errors = _counter(
    "controller_runtime_reconcile_errors_total",
    "Passes over accounts that failed with an unexpected error.",
    "controller",
)
reconcile_time = _histogram(
    "controller_runtime_reconcile_time_seconds",
    "Duration of a pass over an account, in seconds, including the listing and the writes.",
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
    "Status writes by result: written, outdated (conflict, computed again), refused, unreachable"
    " (API server) or not_kept (the CRD is older and dropped fields).",
    "kind result",
)
first_status = _histogram(
    "wazzup_channel_first_status_seconds",
    "Seconds from the creation of a WazzupChannel to its first status.",
    buckets=_DELAY,
)
change_to_status = _histogram(
    "wazzup_channel_change_to_status_seconds",
    "Seconds from the first listing with a channel's new state to the written status.",
    buckets=_DELAY,
)
QUEUE_DEPTH = _declare(
    "workqueue_depth",
    "gauge",
    "Items in a queue: statuses to write, Events to post.",
    "name",
)
EVENTS_DROPPED = _declare(
    "wazzup_operator_events_dropped_total",
    "counter",
    "Events dropped because the queue was full or posting failed.",
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
    "1 if this replica leads, 0 if it is a standby; without leader election, 1 once it is synced.",
    "name",
)
CERTIFICATE_MAINTAINED = _declare(
    "wazzup_operator_webhook_certificate_maintained",
    "gauge",
    "1 if the leader's last attempt to maintain the webhook's certificate succeeded, 0 if it"
    " failed; absent on standbys, and if somebody else maintains it.",
)

# The API server.

rest_requests = _counter(
    "rest_client_requests_total",
    "Requests to the Kubernetes API server by method and HTTP status.",
    "method code host",
    "both",
)
rest_duration = _histogram(
    "rest_client_request_duration_seconds",
    "Seconds until the API server's response headers.",
    "verb host",
    "both",
    buckets=_REQUEST,
)

# The webhook.

webhook_requests = _counter(
    "controller_runtime_webhook_requests_total",
    "Reviews by handler and HTTP status; a denied review is answered with 200.",
    "webhook code",
    "webhook",
)
webhook_latency = _histogram(
    "controller_runtime_webhook_latency_seconds",
    "Duration of a review, in seconds.",
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
    "Reviewed changes by kind and verdict: allowed, warned or denied.",
    "kind verdict",
    "webhook",
)
webhook_lookup_failures = _counter(
    "wazzup_webhook_lookup_failures_total",
    "Failed lookups of other objects during a review by resource and cause: forbidden (a permission"
    " is missing), refused (another HTTP error), timeout or unreachable (API server).",
    "resource cause",
    "webhook",
)
CERTIFICATE_EXPIRES = _declare(
    "wazzup_operator_webhook_certificate_expiration_timestamp_seconds",
    "gauge",
    "When the serving certificate expires, in seconds since 1970; absent until one is loaded.",
    process="webhook",
)
CERTIFICATE_VALID_FROM = _declare(
    "wazzup_operator_webhook_certificate_not_before_timestamp_seconds",
    "gauge",
    "Start of the serving certificate's validity, in seconds since 1970; absent until one is"
    " loaded.",
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
    "Always 1; the versions of the operator and of Python.",
    "version python_version",
    "both",
)
build_info.labels(version("wazzup-operator"), platform.python_version()).set(1)
tasks = _gauge(
    "wazzup_operator_tasks",
    "asyncio tasks. If the number only grows, tasks leak.",
    process="both",
)


def observe_wazzup(operation: str, code: str, duration: float) -> None:
    """Count a request to Wazzup; duration in seconds."""
    wazzup_requests.labels(operation, code).inc()
    wazzup_duration.labels(operation).observe(duration)


def observe_rest(method: str, code: str, host: str, duration: float) -> None:
    """Count a request to the API server; duration in seconds."""
    rest_requests.labels(method, code, host).inc()
    rest_duration.labels(method, host).observe(duration)


def observe_certificate(ok: bool) -> None:
    """Count an attempt to load the webhook's certificate."""
    certificate_reads.inc()
    if not ok:
        certificate_read_errors.inc()
