"""Every metric that is counted; those read off the Store are in `collector`."""

import platform
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # _created doubles every counter and says nothing rate() needs

registry = CollectorRegistry()

_build_info = Gauge(
    "wazzup_operator_build_info",
    "Always 1; which version of the operator runs, on which Python.",
    ["version", "python_version"],
    registry=registry,
)
_build_info.labels(version("wazzup-operator"), platform.python_version()).set(1)

wazzup_requests = Counter(
    "wazzup_api_requests_total",
    "Requests to Wazzup's API, by HTTP status or kind of failure.",
    ["operation", "code"],
    registry=registry,
)
wazzup_duration = Histogram(
    "wazzup_api_request_duration_seconds",
    "Seconds until Wazzup's API had answered.",
    ["operation"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=registry,
)
rest_requests = Counter(
    "rest_client_requests_total",
    "Requests to the Kubernetes API server, by method and HTTP status.",
    ["method", "code"],
    registry=registry,
)
rest_duration = Histogram(
    "rest_client_request_duration_seconds",
    "Seconds until the API server began to answer.",
    ["verb"],
    buckets=(0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60),
    registry=registry,
)


def observe_wazzup(operation: str, code: str, duration: float) -> None:
    """Count one request to Wazzup; duration in seconds."""
    wazzup_requests.labels(operation, code).inc()
    wazzup_duration.labels(operation).observe(duration)


def observe_rest(method: str, code: str, duration: float) -> None:
    """Count one request to the API server; duration in seconds."""
    rest_requests.labels(method, code).inc()
    rest_duration.labels(method).observe(duration)
