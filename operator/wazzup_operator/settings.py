"""What an operator of the operator can set."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from wazzup_operator.resources.base import NamespacedName


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens; an empty host is every interface."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class CertificateSettings:
    """How the webhook's certificate is kept."""

    secret: NamespacedName
    configuration: str
    service: str
    validity: timedelta


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """Which Lease the replicas hold in turn, and the durations of client-go's leaderelection."""

    lease: NamespacedName
    lease_duration: timedelta
    renew_deadline: timedelta
    retry_period: timedelta


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Settings of `wazzup-operator controller`; no namespaces means all of them."""

    wazzup_url: str
    namespaces: tuple[str, ...]
    metrics_address: Address
    health_address: Address
    min_poll_interval: timedelta
    progress_deadline: timedelta
    stale_after: timedelta
    channel_series_limit: int = 2000
    """How many objects have metrics of their own."""

    certificate: CertificateSettings | None = None
    """None: somebody else keeps the webhook's certificate, or there is no webhook."""
    election: ElectionSettings | None = None
    """None: this is the only replica."""


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Settings of `wazzup-operator webhook`."""

    webhook_address: Address
    cert_dir: Path
    metrics_address: Address
    health_address: Address
    min_poll_interval: timedelta
