"""The table of channel states. Conditions, metrics, alerts, dashboards and docs derive from it.

Sources: Wazzup's API page "Working with channels" (the API states) and its help pages "Channel
statuses", old and current (meaning, whether it carries messages, who must do what).
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from wazzup_operator.domain.reasons import Reason

_CONSOLE = "https://app.wazzup24.com"
"""Wazzup's web interface, the only address in an action."""


class Carries(StrEnum):
    """Whether a channel in this state carries messages."""

    YES = "yes"
    MAYBE = "maybe"
    NO = "no"
    UNKNOWN = "?"


class Actor(StrEnum):
    """Who must act, as `status.action.by` spells it."""

    PHONE = "phone"
    """Whoever holds the phone."""
    BILLING = "billing"
    """Whoever pays for the account."""
    CONSOLE = "console"
    """Whoever has access to Wazzup's web interface."""
    SUPPORT = "support"
    """Wazzup's support, which asks for the channel id."""
    DECLARATION = "declaration"
    """Whoever owns the YAML and the Secrets."""


@dataclass(frozen=True, slots=True)
class Action:
    """What a person must do: who, one imperative sentence, and where."""

    by: Actor
    summary: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Traits:
    """Everything about one state."""

    name: str
    upstream: tuple[str, ...]
    """Wazzup's API states with this meaning."""

    carries: Carries
    colour: str
    """Grafana's name of the colour on every dashboard."""

    meaning: str
    action: Action | None = None
    """For a channel that is declared active."""

    permanent: bool = False
    """Whether waiting cannot help a channel that is declared active."""

    overdue: timedelta | None = None
    """How long a state without an action may last before support is needed."""


TURN_OFF = Action(Actor.CONSOLE, "Turn the channel off in Wazzup.", _CONSOLE)
_SUPPORT = Action(
    Actor.SUPPORT, "Contact Wazzup's support with the channel id (status.channelID).", _CONSOLE
)


class State(StrEnum):
    """A channel's state, as `status.state` spells it, with its traits."""

    traits: Traits

    def __new__(cls, traits: Traits) -> "State":
        """Make a member from its traits."""
        member = str.__new__(cls, traits.name)
        member._value_ = traits.name
        member.traits = traits
        return member

    ACTIVE = Traits(
        "Active",
        ("active",),
        Carries.YES,
        "green",
        "The channel is active and carries messages.",
    )
    WAIT_A_MINUTE = Traits(
        "WaitAMinute",
        ("init",),
        Carries.MAYBE,
        "light-green",
        "Wazzup is starting the channel; wait a few minutes.",
        overdue=timedelta(minutes=15),
    )
    OFF = Traits(
        "Off",
        ("disabled",),
        Carries.NO,
        "blue",
        "The channel is turned off in Wazzup, which shows this during its own maintenance too.",
        Action(
            Actor.CONSOLE, "Enable the channel in Wazzup (add it to the subscription).", _CONSOLE
        ),
    )
    NOT_PAID_FOR = Traits(
        "NotPaidFor",
        ("notEnoughMoney",),
        Carries.NO,
        "purple",
        "The channel is not paid for.",
        Action(
            Actor.BILLING,
            "Pay for the channel in Wazzup; all missed messages then arrive.",
            _CONSOLE,
        ),
    )
    SCAN_QR_CODE = Traits(
        "ScanQRCode",
        ("qr", "qridle"),
        Carries.NO,
        "orange",
        "The QR code must be scanned: the channel is new, or somebody logged out of all"
        " devices on the phone.",
        Action(
            Actor.PHONE,
            "Open the channel's page in Wazzup and scan the QR code with this number's phone.",
            _CONSOLE,
        ),
    )
    ENABLE_HERE = Traits(
        "EnableHere",
        ("openElsewhere",),
        Carries.MAYBE,
        "light-blue",
        "WhatsApp was opened elsewhere with this number.",
        Action(
            Actor.CONSOLE,
            'Press "enable here" in Wazzup (this disconnects the other place), or log out of all'
            " devices on the phone and scan the QR code again.",
            _CONSOLE,
        ),
    )
    NO_CONNECTION_WITH_PHONE = Traits(
        "NoConnectionWithPhone",
        ("phoneUnavailable",),
        Carries.MAYBE,
        "yellow",
        "Wazzup has no connection to the phone; no message is lost.",
        Action(
            Actor.PHONE,
            "Check the phone's battery and internet; the channel recovers within about three"
            " minutes once the phone is online.",
        ),
    )
    SOMETHING_WENT_WRONG = Traits(
        "SomethingWentWrong",
        (),
        Carries.MAYBE,
        "dark-red",
        "Wazzup reports a state that this operator does not know (status.upstreamState).",
        _SUPPORT,
    )
    WRONG_PHONE = Traits(
        "WrongPhone",
        ("foreignphone",),
        Carries.NO,
        "dark-orange",
        "The QR code was scanned with another phone.",
        Action(
            Actor.PHONE,
            "Scan the QR code in Wazzup with the phone of the declared number.",
            _CONSOLE,
        ),
    )
    NOT_AUTHORIZED = Traits(
        "NotAuthorized",
        ("unauthorized",),
        Carries.NO,
        "light-orange",
        "The channel has lost its authorization.",
        Action(Actor.CONSOLE, 'Press "Authorize" on the channel in Wazzup.', _CONSOLE),
    )
    PASSWORD_REQUIRED = Traits(
        "PasswordRequired",
        ("waitForPassword", "waitForCode"),
        Carries.NO,
        "dark-yellow",
        "The channel waits for the number's two-factor password.",
        Action(Actor.PHONE, "Enter the number's two-factor password in Wazzup.", _CONSOLE),
    )
    BLOCKED = Traits(
        "Blocked",
        ("blocked",),
        Carries.NO,
        "red",
        "Meta has blocked the number.",
        _SUPPORT,
        permanent=True,
    )
    ON_MODERATION = Traits(
        "OnModeration",
        ("onModeration",),
        Carries.MAYBE,
        "light-yellow",
        "Meta is reviewing the number; wait for the result.",
        overdue=timedelta(days=1),
    )
    REJECTED = Traits(
        "Rejected",
        ("rejected",),
        Carries.NO,
        "light-red",
        "Meta has rejected the number.",
        _SUPPORT,
        permanent=True,
    )
    NOT_ADDED = Traits(
        "NotAdded",
        (),
        Carries.NO,
        "dark-purple",
        "The Wazzup account has no channel with this number.",
        Action(
            Actor.CONSOLE,
            "Add the number in Wazzup, then scan the QR code with its phone.",
            _CONSOLE,
        ),
    )
    UNKNOWN = Traits(
        "Unknown",
        (),
        Carries.UNKNOWN,
        "#808080",
        "The operator does not know the channel's current state.",
    )


_BY_UPSTREAM = {spelling.casefold(): state for state in State for spelling in state.traits.upstream}
_BY_NAME = {state.traits.name: state for state in State}


def named(name: str | None) -> State:
    """Return the state with this name; Unknown for none or for a newer operator's state."""
    return _BY_NAME.get(name or "", State.UNKNOWN)


def from_upstream(upstream: str) -> State:
    """Return the state for an API state, ignoring case.

    Wazzup's pages spell some states in two ways and add new ones, so an unknown one becomes
    SomethingWentWrong instead of an error.
    """
    return _BY_UPSTREAM.get(upstream.casefold(), State.SOMETHING_WENT_WRONG)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a state means for an object; `ready` is None if that is unknown."""

    ready: bool | None
    reason: str
    message: str
    action: Action | None = None
    permanent: bool = False


def judge(state: State, *, active: bool) -> Verdict:
    """Return what the channel's state means for an object that declares it active or off."""
    traits = state.traits
    if traits.carries is Carries.UNKNOWN:
        return Verdict(None, state, traits.meaning)
    if active:
        return Verdict(
            traits.carries is Carries.YES,
            state,
            traits.meaning,
            traits.action,
            permanent=traits.permanent,
        )
    if traits.carries is Carries.NO:
        if state is State.OFF:
            return Verdict(True, Reason.OFF, "The channel is off, as declared.")
        return Verdict(
            True, Reason.NOT_CONNECTED, "The channel is declared off and carries no messages."
        )
    return Verdict(
        False,
        Reason.STILL_ACTIVE,
        "The channel is declared off but may still carry messages.",
        TURN_OFF,
    )
