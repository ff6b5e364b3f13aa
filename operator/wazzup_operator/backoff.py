"""Exponential backoff with jitter, so that many retries spread out."""

import random
from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Exponential backoff with full jitter; `minimum` and `maximum` in seconds."""

    minimum: float
    maximum: float
    failures: int = 0

    def fail(self) -> float:
        """Count a failure and return the seconds to wait."""
        self.failures += 1
        # Limit the exponent: 2.0 ** 1024 overflows.
        limit = min(self.maximum, self.minimum * 2.0 ** min(self.failures, 20))
        return random.uniform(self.minimum, limit)

    def succeed(self) -> None:
        """Start again at the minimum."""
        self.failures = 0
