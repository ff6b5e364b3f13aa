"""Durations of the drills, scaled by DRILL_SCALE."""

import os

SCALE = float(os.environ.get("DRILL_SCALE", "1"))

shortened: dict[float, float] = {}
"""Full and scaled durations, for the summary."""


def lasting(seconds: float, *, at_least: float = 0.0) -> float:
    """Scale a duration by DRILL_SCALE."""
    scaled = max(min(at_least, seconds), seconds * SCALE)
    if scaled != seconds:
        shortened[seconds] = scaled
    return scaled
