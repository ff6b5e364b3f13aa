"""Reasons of conditions and Events, one word for each cause.

Every State (`domain.states`) is a reason too, for channels that are not Ready because of it.
"""

from enum import StrEnum


class Reason(StrEnum):
    """The reason of a condition, if it is not the channel's state."""

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
"""Reasons that concern the whole account; Events report them for it, not for each channel."""
