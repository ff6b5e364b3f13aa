"""THE table of a channel's states, from which everything else derives.

Sources: Wazzup's API page "Working with channels" (the API states) and its help pages "Channel
statuses", old and current (what each status means, which messages pass, who must do what).
"""

from dataclasses import dataclass
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


class Remedy(StrEnum):
    """Who or what brings a channel back; one alert stands for each."""

    NOTHING = "nothing"
    MONEY = "money"
    SCAN = "scan"
    SWITCH = "switch"
    PHONE = "phone"
    META = "meta"
    SUPPORT = "support"


@dataclass(frozen=True, slots=True)
class Action:
    """What a person must do: one imperative sentence, and where."""

    summary: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One state: the API states (lower case) it stands for, and what follows from it."""

    upstream: tuple[str, ...]
    carries: Carries
    failing: Failing
    remedy: Remedy
    """For a channel that is declared active and has been in this state for long."""

    meaning: str
    action: Action | None = None
    """For a channel that is declared active."""


TURN_OFF = Action("Turn the channel off in Wazzup.", CABINET)
_SUPPORT = Action("Write to Wazzup's support with the channel id (status.channelID).", CABINET)

TABLE: dict[State, Row] = {
    State.ACTIVE: Row(
        ("active",),
        Carries.YES,
        Failing.NOT,
        Remedy.NOTHING,
        "The channel is active and carries messages.",
    ),
    State.WAIT_A_MINUTE: Row(
        ("init",),
        Carries.MAYBE,
        Failing.PASSES,
        Remedy.SUPPORT,
        "Wazzup is starting the channel; wait, this passes by itself.",
    ),
    State.OFF: Row(
        ("disabled",),
        Carries.NO,
        Failing.PERSON,
        Remedy.SWITCH,
        "The channel is switched off in Wazzup.",
        Action("Enable the channel in Wazzup (put it into the subscription).", CABINET),
    ),
    State.NOT_PAID_FOR: Row(
        ("notenoughmoney",),
        Carries.NO,
        Failing.PERSON,
        Remedy.MONEY,
        "The channel is not paid for.",
        Action(
            "Pay for the channel in Wazzup; every message since then arrives afterwards.", CABINET
        ),
    ),
    State.SCAN_QR_CODE: Row(
        ("qr", "qridle"),
        Carries.NO,
        Failing.PERSON,
        Remedy.SCAN,
        "The channel is new, or somebody logged out of all devices on the phone.",
        Action(
            "Open the channel's page in Wazzup and scan the QR code with this number's phone.",
            CABINET,
        ),
    ),
    State.ENABLE_HERE: Row(
        ("openelsewhere",),
        Carries.MAYBE,
        Failing.PERSON,
        Remedy.SWITCH,
        "The number was opened elsewhere.",
        Action(
            'Press "enable here" in Wazzup (the other place is then cut off), or log out of all'
            " devices on the phone and scan the QR code again.",
            CABINET,
        ),
    ),
    State.NO_CONNECTION_WITH_PHONE: Row(
        ("phoneunavailable",),
        Carries.MAYBE,
        Failing.PASSES,
        Remedy.PHONE,
        "Wazzup has no connection with the phone; no message is lost.",
        Action(
            "Check the phone's battery and internet; the channel is back within about three"
            " minutes of the phone."
        ),
    ),
    State.SOMETHING_WENT_WRONG: Row(
        (),
        Carries.MAYBE,
        Failing.PERSON,
        Remedy.SUPPORT,
        "Wazzup reports a state that this operator does not know (status.upstreamState).",
        _SUPPORT,
    ),
    State.WRONG_PHONE: Row(
        ("foreignphone",),
        Carries.NO,
        Failing.PERSON,
        Remedy.SCAN,
        "The QR code was scanned by another phone.",
        Action("Scan the QR code in Wazzup with the phone of the declared number.", CABINET),
    ),
    State.NOT_AUTHORIZED: Row(
        ("unauthorized",),
        Carries.NO,
        Failing.PERSON,
        Remedy.SCAN,
        "The channel has lost its authorization.",
        Action('Press "Authorize" on the channel in Wazzup.', CABINET),
    ),
    State.PASSWORD_REQUIRED: Row(
        ("waitforpassword", "waitforcode"),
        Carries.NO,
        Failing.PERSON,
        Remedy.SCAN,
        "The channel waits for the number's two-factor password.",
        Action("Enter the two-factor password of the number in Wazzup.", CABINET),
    ),
    State.BLOCKED: Row(
        ("blocked",),
        Carries.NO,
        Failing.FOR_GOOD,
        Remedy.META,
        "Meta has blocked the number.",
        _SUPPORT,
    ),
    State.ON_MODERATION: Row(
        ("onmoderation",),
        Carries.MAYBE,
        Failing.PASSES,
        Remedy.META,
        "Meta is reviewing the number; wait for its answer.",
    ),
    State.REJECTED: Row(
        ("rejected",),
        Carries.NO,
        Failing.FOR_GOOD,
        Remedy.META,
        "Meta has refused the number.",
        _SUPPORT,
    ),
    State.NOT_ADDED: Row(
        (),
        Carries.NO,
        Failing.PERSON,
        Remedy.SCAN,
        "The Wazzup account has no channel with this number.",
        Action("Add the number in Wazzup, then scan the QR code with its phone.", CABINET),
    ),
    State.UNKNOWN: Row(
        (),
        Carries.UNKNOWN,
        Failing.PASSES,
        Remedy.NOTHING,
        "Nothing certain is known of the channel at present.",
    ),
}

_BY_UPSTREAM = {spelling: state for state, row in TABLE.items() for spelling in row.upstream}


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
