"""What was requested of the API, and how often."""

import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

KEPT = 10_000


@dataclass
class Request:
    """One request to the API; the status is None as long as none was sent."""

    time: float
    account: str | None
    method: str
    path: str
    key: str | None
    status: int | None = None
    fault: str | None = None


class Record:
    """The last requests, and the number of all of them."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._requests: deque[Request] = deque(maxlen=KEPT)
        self._totals: Counter[str | None] = Counter()

    def begin(self, account: str | None, method: str, path: str, key: str | None) -> Request:
        """Write a request down when it comes in, so that one that is never answered shows."""
        request = Request(self._clock(), account, method, path, fingerprint(key))
        self._requests.append(request)
        self._totals[account] += 1
        return request

    def requests(self, account: str | None = None) -> list[Request]:
        """The requests kept, oldest first, of all accounts or of one."""
        return [found for found in self._requests if account in (None, found.account)]

    def total(self, account: str | None = None) -> int:
        """How many there were, also those that are no longer kept."""
        return self._totals.total() if account is None else self._totals[account]

    def clear(self) -> None:
        """Forget all."""
        self._requests.clear()
        self._totals.clear()


def fingerprint(key: str | None) -> str | None:
    """Enough of a key to tell two apart, and nothing to log in with."""
    return (
        None
        if key is None
        else hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:8]
    )
