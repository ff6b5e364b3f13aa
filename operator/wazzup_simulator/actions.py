"""What people and the service do to a channel, and the state each leaves it in.

The spellings of states are those of the newest page "Working with channels"; every other one can
be set as a raw state.
"""

from dataclasses import dataclass, replace

from wazzup_simulator.refusals import ConflictError

DISABLED = "disabled"
NOT_PAID = "notEnoughMoney"

FIRST_STATES = {
    "whatsapp": "qridle",
    "tgapi": "qridle",
    "max": "qridle",
    "viber": "qridle",
    "wapi": "init",
    "telegram": "active",
    "maxbot": "active",
    "instagram": "unauthorized",
    "vk": "unauthorized",
    "avito": "unauthorized",
}
"""The documented transports and the state a new channel waits in ("Working with channels",
"Channel statuses"): for a scan, for its set-up at Meta, for nothing (a bot has its token) or for a
login."""

SCANNED = frozenset({"whatsapp", "tgapi", "max", "viber"})
PHONE = frozenset({"whatsapp"})
META = frozenset({"wapi"})


@dataclass(frozen=True)
class Condition:
    """What a channel's state follows from; being off hides being unpaid, and that the rest."""

    connection: object
    ticked: bool = True
    paid: bool = True

    @property
    def wire_state(self) -> object:
        """The state the API shows."""
        if not self.ticked:
            return DISABLED
        return self.connection if self.paid else NOT_PAID

    def showing(self, state: object) -> "Condition":
        """The condition that shows exactly this state, whatever it is."""
        if state == DISABLED:
            return replace(self, ticked=False)
        if state == NOT_PAID:
            return replace(self, ticked=True, paid=False)
        return Condition(state)


@dataclass(frozen=True)
class Action:
    """One row of the table: what it changes, and on what it can be done (empty: on anything)."""

    connection: str | None = None
    ticked: bool | None = None
    paid: bool | None = None
    before: frozenset[str] = frozenset()
    transports: frozenset[str] = frozenset()


def _states(*states: str) -> frozenset[str]:
    return frozenset(state.lower() for state in states)


ACTIONS = {
    # a person with the phone
    "scan": Action("active", transports=SCANNED),
    "scan-slowly": Action("init", transports=SCANNED),
    "logout": Action("qridle", transports=SCANNED),
    "lose-phone": Action("phoneUnavailable", before=_states("active", "init"), transports=PHONE),
    "find-phone": Action("active", before=_states("phoneUnavailable"), transports=PHONE),
    "open-elsewhere": Action("openelsewhere", before=_states("active", "init", "phoneUnavailable")),
    # a person in the cabinet
    "untick": Action(ticked=False),
    "tick": Action(ticked=True),
    "enable-here": Action("active", before=_states("openElsewhere")),
    "authorize": Action("active", before=_states("unauthorized")),
    "enter-password": Action("active", before=_states("waitForPassword", "waitForCode")),
    "ask-meta": Action("onModeration", transports=META),
    # the service, and Meta
    "restart": Action("init", before=_states("active"), transports=SCANNED),
    "come-up": Action("active", before=_states("init"), transports=SCANNED),
    "deauthorize": Action("unauthorized"),
    "require-password": Action("waitForPassword"),
    "meta-accepts": Action("active", before=_states("onModeration"), transports=META),
    "meta-rejects": Action("rejected", before=_states("onModeration"), transports=META),
    "meta-blocks": Action("blocked", transports=META),
}

ACCOUNT_ACTIONS = {
    "run-out-of-money": Action(paid=False),
    "pay": Action(paid=True),
}
"""Done to every channel of an account."""

FOREIGN_SCAN = Action("foreignphone", transports=SCANNED)
"""A scan by another phone than the channel's ("Working with channels")."""


def perform(name: str, action: Action, transport: object, condition: Condition) -> Condition:
    """The condition after an action, or a refusal where it cannot be done."""
    if action.transports and transport not in action.transports:
        raise ConflictError(
            f"The action {name} is for {_listed(action.transports)}, this is {transport}."
        )
    if action.before and str(condition.connection).lower() not in action.before:
        raise ConflictError(
            f"The action {name} needs the state {_listed(action.before)},"
            f" the channel has {condition.connection}."
        )
    return Condition(
        condition.connection if action.connection is None else action.connection,
        condition.ticked if action.ticked is None else action.ticked,
        condition.paid if action.paid is None else action.paid,
    )


def _listed(words: frozenset[str]) -> str:
    return " or ".join(sorted(words))
