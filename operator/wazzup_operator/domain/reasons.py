"""The vocabulary of reasons: one word for each cause, in conditions, Events and documents.

Every State (`domain.states`) is a reason too: a channel that is not Ready because of its state
names that state.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a condition has its status, where that is not simply the channel's state."""

    UP_TO_DATE = "UpToDate"
    OFF = "Off"
    NOT_CONNECTED = "NotConnected"
    STILL_ACTIVE = "StillActive"
    ACCOUNT_NOT_FOUND = "AccountNotFound"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason's name
    CREDENTIALS_INVALID = "CredentialsInvalid"
    ACCOUNT_UNREACHABLE = "AccountUnreachable"
    DUPLICATE_PHONE_NUMBER = "DuplicatePhoneNumber"
    AMBIGUOUS_CHANNEL = "AmbiguousChannel"
    CHANNEL_MISMATCH = "ChannelMismatch"
    PAUSED = "Paused"


ACCOUNT_TROUBLE = frozenset(
    {
        Reason.ACCOUNT_NOT_FOUND,
        Reason.SECRET_NOT_FOUND,
        Reason.CREDENTIALS_INVALID,
        Reason.ACCOUNT_UNREACHABLE,
    }
)
"""Reasons that concern the whole account: told once for it, not once for each channel."""
