"""When a backlog will be gone. No I/O."""

from collections.abc import Sequence
from statistics import linear_regression

LOOK_BACK_SECONDS = 15.0
NOW_SECONDS = 4.0
"""The backlog must have become smaller within so long: an older decrease may have come to its end."""
SLOWEST_PER_SECOND = 0.5
"""Counts vary by some messages from reading to reading: a slower decrease cannot be told from that."""


def seconds_to_drain(readings: Sequence[tuple[float, float]], outflow: float) -> float | None:
    """When nothing is left, from the trend of the last seconds; None if the count does not fall now.

    A reading is a time in seconds and how much was left then; `outflow` is what goes out per second now. The result
    counts from the last reading.
    """
    if not readings or readings[-1][1] <= 0:
        return 0.0
    if outflow <= 0 or _slope(readings, NOW_SECONDS) >= 0:
        return None
    slope = _slope(readings, LOOK_BACK_SECONDS)
    return readings[-1][1] / -slope if slope < -SLOWEST_PER_SECOND else None


def _slope(readings: Sequence[tuple[float, float]], look_back_seconds: float) -> float:
    """The change per second over the last seconds; 0 if there are too few readings to say."""
    latest = [reading for reading in readings if reading[0] > readings[-1][0] - look_back_seconds]
    return linear_regression(*zip(*latest, strict=True)).slope if len(latest) > 2 else 0.0
