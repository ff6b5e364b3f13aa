"""WazzupAccount: a Wazzup account and the Secret with its API key."""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Annotated

from pydantic import Field, with_config

from wazzup_operator.domain.transport import Transport
from wazzup_operator.resources.base import (
    MODEL,
    ConditionList,
    ObjectMeta,
    ObservedGeneration,
    Timestamp,
    Word,
)

PLURAL = "wazzupaccounts"
KIND = "WazzupAccount"

MAX_UNMANAGED = 100

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_NANOSECONDS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000}


@lru_cache(maxsize=256)
def seconds(duration: str) -> float:
    """Return the seconds of a Go duration such as 90s, 1m30s or 1h. Raises ValueError."""
    if not re.fullmatch(rf"(?:{_DURATION.pattern})+", duration):
        raise ValueError(f"{duration!r} is not a duration; write one such as 30s, 5m or 1h")
    # Like Go, drop what is below a nanosecond, so that limits mean the same as in the CRD.
    parts = (
        int(Decimal(count) * _NANOSECONDS[unit]) for count, unit in _DURATION.findall(duration)
    )
    return sum(parts) / _NANOSECONDS["s"]


@with_config(MODEL)
@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKeyRef:
    """Refers to a key of a Secret in the same namespace."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=253, description="The name of a Secret in this namespace."),
    ]
    key: Annotated[
        str,
        Field(min_length=1, max_length=253, description="The key in the Secret's data."),
    ] = "apiKey"


@with_config(MODEL)
@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSpec:
    """The desired state of an account."""

    api_key_secret_ref: Annotated[
        SecretKeyRef,
        Field(
            description=(
                "The Secret in this namespace that holds the account's API key (in Wazzup: CRM"
                " integration, API). A new key is used within 30 s and one pollInterval; at once if"
                " Wazzup rejects the old one, or if a listing is requested."
            )
        ),
    ]
    poll_interval: Annotated[
        str,
        Field(
            max_length=32,
            description="How often the operator lists the account's channels, from 5s to 1h.",
        ),
    ] = "10s"

    @property
    def poll_seconds(self) -> float:
        """The pollInterval in seconds, clamped to 5 s … 1 h in case the schema did not."""
        try:
            return min(max(seconds(self.poll_interval), 5.0), 3600.0)
        except ValueError:
            return 10.0


@with_config(MODEL)
@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelCounts:
    """Counts of an account's channels."""

    declared: Annotated[int, Field(description="WazzupChannels that refer to this account.")]
    observed: Annotated[int, Field(description="WhatsApp channels that Wazzup lists.")]
    ready: Annotated[int, Field(description="WazzupChannels that are Ready.")]


@with_config(MODEL)
@dataclass(frozen=True, slots=True, kw_only=True)
class Unmanaged:
    """A WhatsApp channel that Wazzup lists and no WazzupChannel declares."""

    channel_id: Annotated[str, Field(alias="channelID", description="The channel's id in Wazzup.")]
    transport: Annotated[Word, Field(description=f"{' or '.join(Transport)}.")]
    plain_id: Annotated[
        str | None, Field(alias="plainID", description="The number as Wazzup spells it.")
    ] = None
    name: Annotated[str | None, Field(description="The channel's name in Wazzup.")] = None
    state: Annotated[str, Field(description="The channel's state, as in a WazzupChannel's status.")]


@with_config(MODEL)
@dataclass(frozen=True, slots=True, kw_only=True)
class AccountStatus:
    """The observed state of an account."""

    observed_generation: ObservedGeneration = -1
    last_sync_time: Annotated[
        Timestamp | None,
        Field(
            description=(
                "When the operator last listed the account; updated at most every 5 minutes while"
                " nothing else changes."
            )
        ),
    ] = None
    channels: Annotated[
        ChannelCounts | None, Field(description="Counts of the account's channels.")
    ] = None
    unmanaged: Annotated[
        tuple[Unmanaged, ...],
        Field(
            description=(
                "WhatsApp channels in Wazzup that no WazzupChannel declares, at most"
                f" {MAX_UNMANAGED}."
            ),
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["channelID"],
            },
        ),
    ] = ()
    conditions: ConditionList = ()


@with_config(MODEL)
@dataclass(frozen=True, slots=True, kw_only=True)
class WazzupAccount:
    """A WazzupAccount object, reduced to the fields that the operator uses."""

    metadata: ObjectMeta
    spec: AccountSpec
    status: AccountStatus = field(default_factory=AccountStatus)
