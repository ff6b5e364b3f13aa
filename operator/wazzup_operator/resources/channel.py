"""WazzupChannel: a phone number that a company's customers write to, declared on or off."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True, config=MODEL)
class AccountRef:
    """Names a WazzupAccount of the same namespace."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            description="The name of a WazzupAccount in this namespace.",
        ),
    ] = "default"


@dataclass(frozen=True, slots=True, kw_only=True, config=MODEL)
class ChannelSpec:
    """What is declared of the channel."""

    phone_number: Annotated[
        str,
        Field(
            max_length=64,
            description=(
                "The phone number in E.164 form, for example +79865784457. It cannot be changed:"
                " a channel keeps its number for ever, and a new number needs a new WazzupChannel."
            ),
        ),
    ]
    active: Annotated[
        bool,
        Field(
            description=(
                "Whether the channel is meant to carry messages. Set it to false to stop using the"
                " number; the operator then tells who has to turn the channel off in Wazzup, and"
                " its messages are kept. Deleting this object deletes nothing in Wazzup."
            )
        ),
    ] = True
    account_ref: Annotated[
        AccountRef,
        Field(
            description=(
                "The WazzupAccount, in this namespace, that the channel belongs to. When it"
                " changes, the number is looked for in the new account; changing it back undoes"
                " that."
            ),
            json_schema_extra={"default": {"name": "default"}},
        ),
    ] = Field(default_factory=AccountRef)
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
            min_length=1,
            max_length=256,
            description=(
                "The channel's name as it should stand in Wazzup. A name that differs there is"
                " shown in status.drift and never affects Ready; renaming is done in Wazzup."
            ),
        ),
    ] = None
    channel_id: Annotated[
        str | None,
        Field(
            alias="channelID",
            min_length=1,
            max_length=64,
            description=(
                "Which channel this is, by its id in Wazzup. Only needed where one number has"
                " several channels (reason AmbiguousChannel lists their ids). Once set, it can only"
                " be changed together with accountRef, since an id belongs to an account."
            ),
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True, config=MODEL)
class ActionStatus:
    """What a person must do."""

    by: Annotated[
        Word | None,
        Field(
            description=(
                "Who must act: phone (whoever holds it), billing, console (somebody with access to"
                " Wazzup's web interface), support, or declaration (whoever owns this object and"
                " its Secret)."
            )
        ),
    ] = None
    summary: Annotated[Word, Field(description="What a person has to do now, in one sentence.")]
    url: Annotated[str | None, Field(description="Where to do it.")] = None


@dataclass(frozen=True, slots=True, kw_only=True, config=MODEL)
class Drift:
    """A field that differs in Wazzup from what is declared."""

    field: Annotated[str, Field(description="The name of the field in spec.")]
    declared: Annotated[str, Field(description="What spec says.")]
    observed: Annotated[str, Field(description="What Wazzup shows.")]


@dataclass(frozen=True, slots=True, kw_only=True, config=MODEL)
class ChannelStatus:
    """What Wazzup shows of the channel, compared with what is declared."""

    observed_generation: ObservedGeneration = -1
    account: Annotated[
        Word | None,
        Field(
            description=(
                "The name of the WazzupAccount in which the channel was looked for. Where"
                " spec.accountRef names another one, this status says nothing of the channel there."
            )
        ),
    ] = None
    state: Annotated[
        Word | None,
        Field(
            description=(
                f"The state of the channel: {', '.join(_STATES[:-1])} or {_STATES[-1]}. A later"
                " version of the operator may add to these."
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
        Timestamp | None, Field(description="When the operator first saw the channel in state.")
    ] = None
    action: Annotated[
        ActionStatus | None,
        Field(description="Who must do what; present only while a person must act."),
    ] = None
    drift: Annotated[
        tuple[Drift, ...],
        Field(
            description="What differs in Wazzup from what is declared.",
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["field"],
            },
        ),
    ] = ()
    conditions: ConditionList = ()


_NOTHING_RECORDED = ChannelStatus()


@dataclass(frozen=True, slots=True, kw_only=True, config=MODEL)
class WazzupChannel:
    """A WazzupChannel object, reduced to what the operator needs of it."""

    metadata: ObjectMeta
    spec: ChannelSpec
    status: ChannelStatus = Field(default_factory=ChannelStatus)

    @property
    def recorded(self) -> ChannelStatus:
        """The status, or an empty one where it tells of the channel in another account."""
        here = self.status.account in {None, self.spec.account_ref.name}
        return self.status if here else _NOTHING_RECORDED

    @property
    def account_key(self) -> NamespacedName:
        """The account it belongs to, whether that exists or not."""
        return NamespacedName(self.metadata.namespace, self.spec.account_ref.name)

    @property
    def number(self) -> Number:
        """What a channel is found by."""
        return self.spec.transport, canonical(self.spec.phone_number)

    @property
    def replaces(self) -> str | None:
        """The name of the object that this one is about to replace in Git."""
        return self.metadata.annotations.get(REPLACES)
