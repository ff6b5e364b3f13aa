"""WazzupChannel: a phone number in Wazzup, declared on or off."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, Field, with_config

from wazzup_operator.domain.listing import Number
from wazzup_operator.domain.phone import canonical
from wazzup_operator.domain.states import State
from wazzup_operator.domain.transport import Transport
from wazzup_operator.resources.base import (
    MODEL,
    REPLACES,
    ConditionList,
    NamespacedName,
    ObjectMeta,
    ObservedGeneration,
    Timestamp,
    Word,
)

PLURAL = "wazzupchannels"
KIND = "WazzupChannel"

_STATES = list(State)

_EMPTY_IS_NOT_SET = BeforeValidator(lambda value: value or None)
"""Templates write null or an empty string for a value that is not set."""


@with_config(MODEL)
@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRef:
    """Refers to a WazzupAccount in the same namespace."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            description="The name of a WazzupAccount in this namespace.",
        ),
    ] = "default"


@with_config(MODEL)
@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSpec:
    """The desired state of a channel."""

    phone_number: Annotated[
        str,
        Field(
            max_length=64,
            description=(
                "The phone number in E.164 form, for example +79865784457. It cannot be changed:"
                " a new number needs a new WazzupChannel."
            ),
        ),
    ]
    active: Annotated[
        bool,
        Field(
            description=(
                "Whether the channel should carry messages. To stop using the number, set this to"
                " false and turn the channel off in Wazzup; its messages are kept. Deleting this"
                " object deletes nothing in Wazzup."
            )
        ),
    ] = True
    account_ref: Annotated[
        AccountRef,
        Field(
            description=(
                "The WazzupAccount in this namespace that the channel belongs to. If it changes,"
                " the operator looks for the number in the new account; changing it back undoes"
                " the move."
            ),
            json_schema_extra={"default": {"name": "default"}},
        ),
    ] = field(default_factory=AccountRef)
    transport: Annotated[
        Transport,
        Field(
            description=(
                "How the number is connected:"
                f" {' or '.join(f'{each} ({each.meaning})' for each in Transport)}."
                " It cannot be changed."
            )
        ),
    ] = Transport.WHATSAPP
    display_name: Annotated[
        str | None,
        Field(
            max_length=256,
            description=(
                "The name that the channel should have in Wazzup. A different name is reported in"
                " status.drift and does not affect Ready; rename the channel in Wazzup."
            ),
            json_schema_extra={"nullable": True},
        ),
        _EMPTY_IS_NOT_SET,
    ] = None
    channel_id: Annotated[
        str | None,
        Field(
            alias="channelID",
            max_length=64,
            description=(
                "The channel's id in Wazzup. Only needed if the number has several channels; the"
                " message of reason AmbiguousChannel lists their ids. Once set, it can only change"
                " together with accountRef, since an id belongs to an account."
            ),
            json_schema_extra={"nullable": True},
        ),
        _EMPTY_IS_NOT_SET,
    ] = None


@with_config(MODEL)
@dataclass(frozen=True, slots=True, kw_only=True)
class ActionStatus:
    """What a person must do."""

    by: Annotated[
        Word | None,
        Field(
            description=(
                "Who must act: phone (whoever holds it), billing (whoever pays), console (whoever"
                " has access to Wazzup's web interface), support (Wazzup's), or declaration"
                " (whoever owns this object and its Secret)."
            )
        ),
    ] = None
    summary: Annotated[Word, Field(description="What a person has to do, in one sentence.")]
    url: Annotated[str | None, Field(description="Where to do it.")] = None


@with_config(MODEL)
@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A field whose value in Wazzup differs from the declared one."""

    field: Annotated[str, Field(description="The field's name in spec.")]
    declared: Annotated[str, Field(description="The value in spec.")]
    observed: Annotated[str, Field(description="The value in Wazzup.")]


@with_config(MODEL)
@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStatus:
    """The observed state of a channel."""

    observed_generation: ObservedGeneration = -1
    account: Annotated[
        Word | None,
        Field(
            description=(
                "The WazzupAccount that channelID and state come from. If spec.accountRef names"
                " another one, that account has not been listed yet."
            )
        ),
    ] = None
    state: Annotated[
        Word | None,
        Field(
            description=(
                f"The channel's state: {', '.join(_STATES[:-1])} or {_STATES[-1]}. Newer versions"
                " of the operator may add states."
            )
        ),
    ] = None
    upstream_state: Annotated[
        Word | None, Field(description="The state as Wazzup's API spells it.")
    ] = None
    channel_id: Annotated[
        str | None,
        Field(alias="channelID", description="The channel's id in Wazzup; support asks for it."),
    ] = None
    plain_id: Annotated[
        str | None,
        Field(alias="plainID", description="The number as Wazzup spells it, digits only."),
    ] = None
    display_name: Annotated[str | None, Field(description="The channel's name in Wazzup.")] = None
    state_since: Annotated[
        Timestamp | None,
        Field(description="When the operator first saw the channel in this state."),
    ] = None
    action: Annotated[
        ActionStatus | None,
        Field(description="Who must do what; present only while a person must act."),
    ] = None
    drift: Annotated[
        tuple[Drift, ...],
        Field(
            description="Fields whose value in Wazzup differs from the declared one.",
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["field"],
            },
        ),
    ] = ()
    conditions: ConditionList = ()


_NOTHING_RECORDED = ChannelStatus()


@with_config(MODEL)
@dataclass(frozen=True, slots=True, kw_only=True)
class WazzupChannel:
    """A WazzupChannel object, reduced to the fields that the operator uses."""

    metadata: ObjectMeta
    spec: ChannelSpec
    status: ChannelStatus = field(default_factory=ChannelStatus)
    number: Number = field(init=False, compare=False, repr=False)
    """The key for finding the channel in a listing."""

    recorded: ChannelStatus = field(init=False, compare=False, repr=False)
    """The status, without what another account's listing said."""

    def __post_init__(self) -> None:
        """Derive once what every pass reads."""
        number = self.spec.transport, canonical(self.spec.phone_number)
        object.__setattr__(self, "number", number)
        object.__setattr__(self, "recorded", self._recorded())

    def _recorded(self) -> ChannelStatus:
        status = self.status
        if status.account in {None, self.spec.account_ref.name}:
            return status
        if status.observed_generation != self.metadata.generation:
            return _NOTHING_RECORDED
        # Since the move, passes have updated only the conditions.
        return replace(
            _NOTHING_RECORDED,
            observed_generation=status.observed_generation,
            state=State.UNKNOWN,
            conditions=status.conditions,
        )

    @property
    def claim_order(self) -> tuple[bool, datetime, bool, NamespacedName]:
        """Sort key of objects that claim one channel: the first keeps it.

        A restored backup has many objects of one second.
        """
        metadata = self.metadata
        unrecorded = self.recorded.channel_id is None
        return metadata.deleting, metadata.creation_timestamp, unrecorded, metadata.key

    @property
    def account_key(self) -> NamespacedName:
        """The account that it refers to, which may not exist."""
        return NamespacedName(self.metadata.namespace, self.spec.account_ref.name)

    @property
    def replaces(self) -> str | None:
        """The name of the object that this one replaces, from its annotation."""
        return self.metadata.annotations.get(REPLACES)
