"""Errors of Wazzup's API, with messages for the account's status."""

from wazzup_operator.domain.reasons import Reason


class WazzupError(Exception):
    """The listing failed.

    `reason` is the condition's reason, `retry_after` the seconds that Wazzup asked to wait, `code`
    the HTTP status or the kind of failure, for metrics.
    """

    def __init__(
        self, reason: Reason, message: str, *, code: str, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.code = code
        self.retry_after = retry_after


def credentials_invalid(message: str, code: str) -> WazzupError:
    """Return the error for an API key that Wazzup rejects."""
    return WazzupError(Reason.CREDENTIALS_INVALID, message, code=code)


def unreachable(message: str, code: str, retry_after: float | None = None) -> WazzupError:
    """Return the error for a missing or unusable answer."""
    return WazzupError(Reason.ACCOUNT_UNREACHABLE, message, code=code, retry_after=retry_after)
