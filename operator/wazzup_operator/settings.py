"""What an operator of the operator can set."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens; an empty host is every interface."""

    host: str
    port: int


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
