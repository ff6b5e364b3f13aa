"""THE table of a channel's states, from which everything else derives.

Sources: Wazzup's API page "Working with channels" (the API states) and its help pages "Channel
statuses", old and current (what each status means, which messages pass, who must do what).
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from wazzup_operator.domain.reasons import Reason

CABINET = "https://app.wazzup24.com"
"""Where a person works on channels; the only address that an action ever points to."""


class State(StrEnum):
    """What a channel is in, as `status.state` spells it."""

    ACTIVE = "Active"
    WAIT_A_MINUTE = "WaitAMinute"
    OFF = "Off"
    NOT_PAID_FOR = "NotPaidFor"
    SCAN_QR_CODE = "ScanQRCode"
    ENABLE_HERE = "EnableHere"
    NO_CONNECTION_WITH_PHONE = "NoConnectionWithPhone"
    SOMETHING_WENT_WRONG = "SomethingWentWrong"
    WRONG_PHONE = "WrongPhone"
    NOT_AUTHORIZED = "NotAuthorized"
    PASSWORD_REQUIRED = "PasswordRequired"  # noqa: S105 - a state's name
    BLOCKED = "Blocked"
    ON_MODERATION = "OnModeration"
    REJECTED = "Rejected"
    NOT_ADDED = "NotAdded"
    UNKNOWN = "Unknown"


class Carries(StrEnum):
    """Whether messages pass through a channel in this state."""

    YES = "yes"
    MAYBE = "maybe"
    NO = "no"
    UNKNOWN = "?"


class Failing(StrEnum):
    """How a channel in this state fails somebody who declared it active."""

    NOT = "not"
    PASSES = "passes by itself"
    PERSON = "until a person acts"
    FOR_GOOD = "for good"


class Actor(StrEnum):
    """Who must act, as `status.action.by` spells it."""

    PHONE = "phone"
    """Whoever holds the phone."""
    BILLING = "billing"
    """Whoever pays for the account."""
    CONSOLE = "console"
    """Somebody with access to Wazzup's web interface."""
    SUPPORT = "support"
    """Wazzup's support, asked by somebody with the channel id."""
    DECLARATION = "declaration"
    """Whoever owns the YAML and the Secrets."""


@dataclass(frozen=True, slots=True)
class Action:
    """What a person must do: who, one imperative sentence, and where."""

    by: Actor
    summary: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One state: the API states it stands for, and what follows from it.

    `colour` is Grafana's name of it, the same on every dashboard.
    """

    upstream: tuple[str, ...]
    carries: Carries
    failing: Failing
    colour: str
    meaning: str
    action: Action | None = None
    """For a channel that is declared active."""

    overdue: timedelta | None = None
    """How long a state without an action may last before Wazzup's support must be asked."""


TURN_OFF = Action(Actor.CONSOLE, "Turn the channel off in Wazzup.", CABINET)
_SUPPORT = Action(
    Actor.SUPPORT, "Write to Wazzup's support with the channel id (status.channelID).", CABINET
)

TABLE: dict[State, Row] = {
    State.ACTIVE: Row(
        ("active",),
        Carries.YES,
        Failing.NOT,
        "green",
        "The channel is active and carries messages.",
    ),
    State.WAIT_A_MINUTE: Row(
        ("init",),
        Carries.MAYBE,
        Failing.PASSES,
        "light-green",
        "Wazzup is starting the channel; wait, this passes by itself.",
        overdue=timedelta(minutes=15),
    ),
    State.OFF: Row(
        ("disabled",),
        Carries.NO,
        Failing.PERSON,
        "blue",
        "The channel is switched off in Wazzup.",
        Action(
            Actor.CONSOLE, "Enable the channel in Wazzup (put it into the subscription).", CABINET
        ),
    ),
    State.NOT_PAID_FOR: Row(
        ("notEnoughMoney",),
        Carries.NO,
        Failing.PERSON,
        "purple",
        "The channel is not paid for.",
        Action(
            Actor.BILLING,
            "Pay for the channel in Wazzup; every message since then arrives afterwards.",
            CABINET,
        ),
    ),
    State.SCAN_QR_CODE: Row(
        ("qr", "qridle"),
        Carries.NO,
        Failing.PERSON,
        "orange",
        "The channel is new, or somebody logged out of all devices on the phone.",
        Action(
            Actor.PHONE,
            "Open the channel's page in Wazzup and scan the QR code with this number's phone.",
            CABINET,
        ),
    ),
    State.ENABLE_HERE: Row(
        ("openElsewhere",),
        Carries.MAYBE,
        Failing.PERSON,
        "light-blue",
        "The number was opened elsewhere.",
        Action(
            Actor.CONSOLE,
            'Press "enable here" in Wazzup (the other place is then cut off), or log out of all'
            " devices on the phone and scan the QR code again.",
            CABINET,
        ),
    ),
    State.NO_CONNECTION_WITH_PHONE: Row(
        ("phoneUnavailable",),
        Carries.MAYBE,
        Failing.PASSES,
        "yellow",
        "Wazzup has no connection with the phone; no message is lost.",
        Action(
            Actor.PHONE,
            "Check the phone's battery and internet; the channel is back within about three"
            " minutes of the phone.",
        ),
    ),
    State.SOMETHING_WENT_WRONG: Row(
        (),
        Carries.MAYBE,
        Failing.PERSON,
        "dark-red",
        "Wazzup reports a state that this operator does not know (status.upstreamState).",
        _SUPPORT,
    ),
    State.WRONG_PHONE: Row(
        ("foreignphone",),
        Carries.NO,
        Failing.PERSON,
        "dark-orange",
        "The QR code was scanned by another phone.",
        Action(
            Actor.PHONE,
            "Scan the QR code in Wazzup with the phone of the declared number.",
            CABINET,
        ),
    ),
    State.NOT_AUTHORIZED: Row(
        ("unauthorized",),
        Carries.NO,
        Failing.PERSON,
        "light-orange",
        "The channel has lost its authorization.",
        Action(Actor.CONSOLE, 'Press "Authorize" on the channel in Wazzup.', CABINET),
    ),
    State.PASSWORD_REQUIRED: Row(
        ("waitForPassword", "waitForCode"),
        Carries.NO,
        Failing.PERSON,
        "dark-yellow",
        "The channel waits for the number's two-factor password.",
        Action(Actor.PHONE, "Enter the two-factor password of the number in Wazzup.", CABINET),
    ),
    State.BLOCKED: Row(
        ("blocked",),
        Carries.NO,
        Failing.FOR_GOOD,
        "red",
        "Meta has blocked the number.",
        _SUPPORT,
    ),
    State.ON_MODERATION: Row(
        ("onModeration",),
        Carries.MAYBE,
        Failing.PASSES,
        "light-yellow",
        "Meta is reviewing the number; wait for its answer.",
        overdue=timedelta(days=1),
    ),
    State.REJECTED: Row(
        ("rejected",),
        Carries.NO,
        Failing.FOR_GOOD,
        "light-red",
        "Meta has refused the number.",
        _SUPPORT,
    ),
    State.NOT_ADDED: Row(
        (),
        Carries.NO,
        Failing.PERSON,
        "dark-purple",
        "The Wazzup account has no channel with this number.",
        Action(
            Actor.CONSOLE,
            "Add the number in Wazzup, then scan the QR code with its phone.",
            CABINET,
        ),
    ),
    State.UNKNOWN: Row(
        (),
        Carries.UNKNOWN,
        Failing.PASSES,
        "#808080",
        "Nothing certain is known of the channel at present.",
    ),
}

_BY_UPSTREAM = {
    spelling.casefold(): state for state, row in TABLE.items() for spelling in row.upstream
}


def from_upstream(upstream: str) -> State:
    """Return the state that an API state stands for, whatever its case.

    Wazzup's pages spell some states in two ways and add new ones, so what is not known becomes
    SomethingWentWrong rather than an error.
    """
    return _BY_UPSTREAM.get(upstream.casefold(), State.SOMETHING_WENT_WRONG)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a state means for an object: `ready` is None where it cannot be told."""

    ready: bool | None
    reason: str
    message: str
    action: Action | None = None
    for_good: bool = False


def judge(state: State, *, active: bool) -> Verdict:
    """Return what a channel in this state means for an object that declares it on or off."""
    row = TABLE[state]
    if row.carries is Carries.UNKNOWN:
        return Verdict(None, state, row.meaning)
    if active:
        return Verdict(
            row.failing is Failing.NOT,
            state,
            row.meaning,
            row.action,
            for_good=row.failing is Failing.FOR_GOOD,
        )
    if row.carries is Carries.NO:
        if state is State.OFF:
            return Verdict(True, Reason.OFF, "The channel is off, as declared.")
        return Verdict(
            True, Reason.NOT_CONNECTED, "The channel carries no messages, as declared (off)."
        )
    return Verdict(
        False,
        Reason.STILL_ACTIVE,
        "The channel is declared off, and it still carries messages or may do so.",
        TURN_OFF,
    )
