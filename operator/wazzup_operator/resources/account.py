"""WazzupAccount: an account of Wazzup, by the Secret that holds its API key."""

import re
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from wazzup_operator.domain.transport import Transport
from wazzup_operator.resources.base import (
    MODEL,
    ConditionList,
    ObjectMeta,
    ObservedGeneration,
    Timestamp,
)

PLURAL = "wazzupaccounts"
KIND = "WazzupAccount"

MAX_UNMANAGED = 100

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def seconds(duration: str) -> float:
    """Return a duration as Go writes it ("90s", "1m30s", "1h") in seconds.

    Raises ValueError on anything else.
    """
    if not re.fullmatch(rf"(?:{_DURATION.pattern})+", duration):
        raise ValueError(f"{duration!r} is not a duration; write one such as 30s, 5m or 1h")
    return sum(float(count) * _SECONDS[unit] for count, unit in _DURATION.findall(duration))


@dataclass(frozen=True, slots=True, kw_only=True, config=MODEL)
class SecretKeyRef:
    """Names a key of a Secret in the same namespace."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=253, description="The name of a Secret in this namespace."),
    ]
    key: Annotated[
        str,
        Field(min_length=1, max_length=253, description="The key in the Secret's data."),
    ] = "apiKey"


@dataclass(frozen=True, slots=True, kw_only=True, config=MODEL)
class AccountSpec:
    """Where the API key is, and how often to look."""

    api_key_secret_ref: Annotated[
        SecretKeyRef,
        Field(
            description=(
                "The Secret, in this namespace, with the account's API key (in Wazzup: CRM"
                " integration, API). It is read again on every pass, so a changed key works within"
                " one pollInterval."
            )
        ),
    ]
    poll_interval: Annotated[
        str,
        Field(
            max_length=32,
            description="How often the account's channels are listed, from 5s to 1h.",
        ),
    ] = "60s"

    @property
    def poll_seconds(self) -> float:
        """The pollInterval in seconds, held between 5 s and 1 h whatever the schema let in."""
        try:
            return min(max(seconds(self.poll_interval), 5.0), 3600.0)
        except ValueError:
            return 60.0


@dataclass(frozen=True, slots=True, kw_only=True, config=MODEL)
class ChannelCounts:
    """How many channels the account has."""

    declared: Annotated[int, Field(description="WazzupChannels that refer to this account.")]
    observed: Annotated[int, Field(description="Channels for WhatsApp that Wazzup lists.")]
    ready: Annotated[int, Field(description="WazzupChannels that are Ready.")]


@dataclass(frozen=True, slots=True, kw_only=True, config=MODEL)
class Unmanaged:
    """A channel for WhatsApp that Wazzup lists and no WazzupChannel declares."""

    channel_id: Annotated[str, Field(alias="channelID", description="The channel's id in Wazzup.")]
    transport: Annotated[Transport, Field(description=f"{' or '.join(Transport)}.")]
    plain_id: Annotated[
        str | None, Field(alias="plainID", description="The number as Wazzup spells it.")
    ] = None
    name: Annotated[str | None, Field(description="The channel's name in Wazzup.")] = None
    state: Annotated[str, Field(description="The channel's state, as in a WazzupChannel's status.")]


@dataclass(frozen=True, slots=True, kw_only=True, config=MODEL)
class AccountStatus:
    """Whether the account can be read, and what is in it."""

    observed_generation: ObservedGeneration = -1
    last_sync_time: Annotated[
        Timestamp | None,
        Field(
            description=(
                "When Wazzup last gave a listing; written at most every 5 minutes while nothing"
                " else changes."
            )
        ),
    ] = None
    channels: Annotated[
        ChannelCounts | None, Field(description="How many channels the account has.")
    ] = None
    unmanaged: Annotated[
        tuple[Unmanaged, ...],
        Field(
            description=(
                "Channels for WhatsApp that are in Wazzup and that no WazzupChannel declares, at"
                f" most {MAX_UNMANAGED}."
            ),
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["channelID"],
            },
        ),
    ] = ()
    conditions: ConditionList = ()


@dataclass(frozen=True, slots=True, kw_only=True, config=MODEL)
class WazzupAccount:
    """A WazzupAccount object, reduced to what the operator needs of it."""

    metadata: ObjectMeta
    spec: AccountSpec
    status: AccountStatus = Field(default_factory=AccountStatus)
