"""What every status must be, from the README and the world alone."""

from datetime import timedelta
from typing import Any

from tests.expected_states import BY_NAME

FINAL = {"AmbiguousChannel", "ChannelMismatch"}
TROUBLE = {"AccountUnreachable", "SecretNotFound", "CredentialsInvalid"}
DETAILS = ("state", "upstreamState", "channelID", "plainID", "displayName")
FRESH, DEADLINE = 5.0, timedelta(minutes=15)


def condition(status: Any, type_: str) -> Any:
    return next((each for each in status["conditions"] if each["type"] == type_), None)


def progress(status: Any) -> set[str]:
    return {each["type"] for each in status["conditions"]} - {"Ready", "Synced"}


def number_of(row: Any) -> str | None:
    """Return the number of a Wazzup row as an object declares it."""
    plain = row["plainId"]
    return {None: None, "5215512345678": "+525512345678"}.get(plain, f"+{plain}")


def judged(state: str, *, active: bool) -> tuple[str, str, bool, set[str]]:
    """Return Ready's status and reason, whether there is an action, and the allowed progress."""
    expected = BY_NAME[state]
    at_first = expected.progress(active=active)
    may_be = {at_first, "Stalled"} if at_first else set()
    return *expected.ready(active=active), bool(expected.action(active=active)), may_be


def words(status: Any) -> Any:
    """Return Ready's status and reason."""
    ready = condition(status, "Ready") if "conditions" in status else None
    return ready and (ready["status"], ready["reason"])
