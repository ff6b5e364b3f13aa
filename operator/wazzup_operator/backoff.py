"""How long to wait after a failure: longer each time, and by chance, so that many do not agree."""

import random
from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Exponential, with full jitter above `least`; both ends in seconds."""

    least: float
    most: float
    failures: int = 0

    def fail(self) -> float:
        """Count a failure and return the seconds to wait."""
        self.failures += 1
        # 2.0 ** 1024 is an error, and an outage of hours counts that far.
        longest = min(self.most, self.least * 2.0 ** min(self.failures, 20))
        return random.uniform(self.least, longest)

    def succeed(self) -> None:
        """Begin again with the least."""
        self.failures = 0
