"""Record of the requests to the API."""

import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

KEPT = 10_000


@dataclass
class Request:
    """One request to the API. `status` is None until it is answered."""

    time: float
    account: str | None
    method: str
    path: str
    key: str | None
    status: int | None = None
    fault: str | None = None


class Record:
    """The last requests, and the total count."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._requests: deque[Request] = deque(maxlen=KEPT)
        self._totals: Counter[str | None] = Counter()

    def add(self, account: str | None, method: str, path: str, key: str | None) -> Request:
        """Record a request on arrival, so that unanswered ones are recorded too."""
        request = Request(self._clock(), account, method, path, fingerprint(key))
        self._requests.append(request)
        self._totals[account] += 1
        return request

    def requests(self, account: str | None = None) -> list[Request]:
        """Return the last requests of one account or of all, oldest first."""
        return [found for found in self._requests if account in (None, found.account)]

    def total(self, account: str | None = None) -> int:
        """Return the number of requests, including those no longer kept."""
        return self._totals.total() if account is None else self._totals[account]

    def clear(self) -> None:
        """Delete everything."""
        self._requests.clear()
        self._totals.clear()


def fingerprint(key: str | None) -> str | None:
    """Return a short hash that identifies a key without revealing it."""
    return (
        None
        if key is None
        else hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:8]
    )
