"""Runtime settings."""

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from wazzup_operator.resources.base import NamespacedName


@dataclass(frozen=True, slots=True)
class Address:
    """Listen address; an empty host means every interface."""

    host: str
    port: int


def series_label(key: str) -> str:
    """Return the name that an object's label has in the series, as in kube-state-metrics."""
    return f"label_{re.sub('[^a-zA-Z0-9_]', '_', key)}"


@dataclass(frozen=True, slots=True)
class CertificateSettings:
    """Where the controller stores and publishes the webhook's certificate."""

    secret: NamespacedName
    configuration: str
    service: str
    validity: timedelta


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """The Lease, and the durations of client-go's leaderelection."""

    lease: NamespacedName
    lease_duration: timedelta
    renew_deadline: timedelta
    retry_period: timedelta


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Settings of `wazzup-operator controller`; empty `namespaces` means all."""

    wazzup_url: str
    namespaces: tuple[str, ...]
    metrics_address: Address
    health_address: Address
    min_poll_interval: timedelta
    progress_deadline: timedelta
    stale_after: timedelta
    channel_series_limit: int = 2000
    """Maximum number of WazzupChannels with their own metric series."""

    metric_labels: tuple[str, ...] = ()
    """Labels of WazzupChannels that these series have too."""

    certificate: CertificateSettings | None = None
    """None if cert-manager renews the webhook's certificate, or if there is no webhook."""
    election: ElectionSettings | None = None
    """None without leader election, for a single replica."""


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Settings of `wazzup-operator webhook`."""

    webhook_address: Address
    cert_dir: Path
    metrics_address: Address
    health_address: Address
    min_poll_interval: timedelta
