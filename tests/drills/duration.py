"""How long a drill lasts: as the issue says, or shortened for a machine that has little time."""

import os

SCALE = float(os.environ.get("DRILL_SCALE", "1"))

shortened: dict[float, float] = {}
"""What was asked for and what it became, for the summary."""


def lasting(seconds: float, *, at_least: float = 0.0) -> float:
    """Return the seconds that something is to last: the full ones times DRILL_SCALE."""
    scaled = max(min(at_least, seconds), seconds * SCALE)
    if scaled != seconds:
        shortened[seconds] = scaled
    return scaled
