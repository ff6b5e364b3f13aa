"""Actions of people and of the service on a channel, and the states they lead to.

States are spelled as on the current page "Working with channels". Any other spelling can be set as
a raw state.
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
"""The documented transports and the state of a new channel ("Working with channels", "Channel
statuses"): it awaits a scan, its setup at Meta, nothing (a bot has its token) or a login."""

SCANNED = frozenset({"whatsapp", "tgapi", "max", "viber"})
PHONE = frozenset({"whatsapp"})
META = frozenset({"wapi"})


@dataclass(frozen=True)
class Condition:
    """What determines a channel's state. Off hides unpaid; unpaid hides the connection."""

    connection: object
    ticked: bool = True
    paid: bool = True

    @property
    def wire_state(self) -> object:
        """The state in the API."""
        if not self.ticked:
            return DISABLED
        return self.connection if self.paid else NOT_PAID

    def showing(self, state: object) -> "Condition":
        """Return the condition for this state in the API, known or not."""
        if state == DISABLED:
            return replace(self, ticked=False)
        if state == NOT_PAID:
            return replace(self, ticked=True, paid=False)
        return Condition(state)


@dataclass(frozen=True)
class Action:
    """What an action changes, and the states and transports it requires (empty: any)."""

    connection: str | None = None
    ticked: bool | None = None
    paid: bool | None = None
    before: frozenset[str] = frozenset()
    transports: frozenset[str] = frozenset()


def _states(*states: str) -> frozenset[str]:
    return frozenset(state.lower() for state in states)


ACTIONS = {
    # The person with the phone.
    "scan": Action("active", transports=SCANNED),
    "scan-slowly": Action("init", transports=SCANNED),
    "logout": Action("qridle", transports=SCANNED),
    "lose-phone": Action("phoneUnavailable", before=_states("active", "init"), transports=PHONE),
    "find-phone": Action("active", before=_states("phoneUnavailable"), transports=PHONE),
    "open-elsewhere": Action("openelsewhere", before=_states("active", "init", "phoneUnavailable")),
    # A person in Wazzup's web interface.
    "untick": Action(ticked=False),
    "tick": Action(ticked=True),
    "enable-here": Action("active", before=_states("openElsewhere")),
    "authorize": Action("active", before=_states("unauthorized")),
    "enter-password": Action("active", before=_states("waitForPassword", "waitForCode")),
    "ask-meta": Action("onModeration", transports=META),
    # The service and Meta.
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
"""Actions on every channel of an account."""

FOREIGN_SCAN = Action("foreignphone", transports=SCANNED)
"""A scan with a phone of another number ("Working with channels")."""


def perform(name: str, action: Action, transport: object, condition: Condition) -> Condition:
    """Return the condition after the action. Raises ConflictError if it is not possible."""
    if action.transports and transport not in action.transports:
        raise ConflictError(
            f"The action {name} is for {_listed(action.transports)}; this channel is {transport}."
        )
    if action.before and str(condition.connection).lower() not in action.before:
        raise ConflictError(
            f"The action {name} needs the state {_listed(action.before)};"
            f" the channel's is {condition.connection}."
        )
    return Condition(
        condition.connection if action.connection is None else action.connection,
        condition.ticked if action.ticked is None else action.ticked,
        condition.paid if action.paid is None else action.paid,
    )


def _listed(words: frozenset[str]) -> str:
    return " or ".join(sorted(words))
