"""What each state means: the table that all tests expect.

It is written by hand from Wazzup's pages and the README, never from `domain/states.py`;
tests/unit/test_states.py proves that the two agree. A new state is one line here.
"""

from typing import NamedTuple

WAZZUP = "https://app.wazzup24.com"
TURN_OFF = "Turn the channel off"


class Expected(NamedTuple):
    """One state."""

    state: str
    spellings: tuple[str, ...]
    """The API states, as Wazzup's pages spell them."""

    carries: str
    """Whether it carries messages: yes, maybe, no or ?."""

    do: str | None
    """Words of the action with active: true."""

    by: str | None
    """Who must do it."""

    permanent: bool = False
    """Stalled at once with active: true."""

    overdue: str | None = None
    """Contact support if a state without an action lasts this long."""

    def ready(self, *, active: bool) -> tuple[str, str]:
        """Return Ready's status and reason."""
        if self.carries == "?":
            return "Unknown", self.state
        if active:
            return "True" if self.state == "Active" else "False", self.state
        if self.carries != "no":
            return "False", "StillActive"
        return "True", "Off" if self.state == "Off" else "NotConnected"

    def action(self, *, active: bool) -> str | None:
        """Return words of the action, if any."""
        if active:
            return self.do
        return TURN_OFF if self.ready(active=False)[0] == "False" else None

    def actor(self, *, active: bool) -> str | None:
        """Return who must act, if anybody."""
        return (self.by if active else "console") if self.action(active=active) else None

    def progress(self, *, active: bool) -> str | None:
        """Return Reconciling or Stalled for a new object; after the deadline always Stalled."""
        if self.ready(active=active)[0] == "True":
            return None
        return "Stalled" if active and self.permanent else "Reconciling"


STATES = [
    Expected("Active", ("active",), "yes", None, None),
    Expected("WaitAMinute", ("init",), "maybe", None, None, overdue="15m"),
    Expected("Off", ("disabled",), "no", "Enable the channel", "console"),
    Expected("NotPaidFor", ("notEnoughMoney",), "no", "Pay", "billing"),
    Expected("ScanQRCode", ("qr", "qridle"), "no", "scan the QR code", "phone"),
    Expected("EnableHere", ("openElsewhere",), "maybe", '"enable here"', "console"),
    Expected(
        "NoConnectionWithPhone", ("phoneUnavailable",), "maybe", "battery and internet", "phone"
    ),
    Expected("SomethingWentWrong", (), "maybe", "support", "support"),
    Expected("WrongPhone", ("foreignphone",), "no", "declared number", "phone"),
    Expected("NotAuthorized", ("unauthorized",), "no", '"Authorize"', "console"),
    Expected(
        "PasswordRequired", ("waitForPassword", "waitForCode"), "no", "two-factor password", "phone"
    ),
    Expected("Blocked", ("blocked",), "no", "support", "support", permanent=True),
    Expected("OnModeration", ("onModeration",), "maybe", None, None, overdue="1d"),
    Expected("Rejected", ("rejected",), "no", "support", "support", permanent=True),
    Expected("NotAdded", (), "no", "Add the number", "console"),
    Expected("Unknown", (), "?", None, None),
]
BY_NAME = {each.state: each for each in STATES}
SPELLINGS = [spelling for each in STATES for spelling in each.spellings]
_MEANT = {spelling.lower(): each.state for each in STATES for spelling in each.spellings}


def meant(spelling: str) -> str:
    """Return the state for an API state, ignoring case."""
    return _MEANT.get(spelling.lower(), "SomethingWentWrong")


def carries_none(spelling: str) -> bool:
    """Return whether a channel in this API state carries no messages."""
    return BY_NAME[meant(spelling)].carries == "no"
