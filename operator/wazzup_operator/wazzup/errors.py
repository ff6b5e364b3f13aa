"""Why Wazzup gave no listing, in a sentence that says what to do."""

from wazzup_operator.domain.reasons import Reason


class WazzupError(Exception):
    """No listing could be had.

    `reason` is what conditions name; `retry_after` the seconds that Wazzup asked to wait, if it
    did; `code` is the HTTP status or the kind of failure, for metrics.
    """

    def __init__(
        self, reason: Reason, message: str, *, code: str, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.code = code
        self.retry_after = retry_after


def credentials_invalid(message: str, code: str) -> WazzupError:
    """Return the error of a key that Wazzup does not take."""
    return WazzupError(Reason.CREDENTIALS_INVALID, message, code=code)


def unreachable(message: str, code: str, retry_after: float | None = None) -> WazzupError:
    """Return the error of a Wazzup that gives no usable answer."""
    return WazzupError(Reason.ACCOUNT_UNREACHABLE, message, code=code, retry_after=retry_after)
