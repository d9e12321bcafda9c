"""When a backlog will be gone. No I/O."""

from collections.abc import Sequence
from statistics import linear_regression

LOOK_BACK_SECONDS = 15.0
SLOWEST_PER_SECOND = 0.5
"""Counts vary by some messages from reading to reading: a slower decrease cannot be told from that."""


def seconds_to_drain(readings: Sequence[tuple[float, float]]) -> float | None:
    """When nothing is left, from the trend of the last seconds; None if the count does not fall.

    A reading is a time in seconds and how much was left then. The result counts from the last reading.
    """
    if not readings or readings[-1][1] <= 0:
        return 0.0
    last_at, left = readings[-1]
    latest = [reading for reading in readings if reading[0] > last_at - LOOK_BACK_SECONDS]
    if len(latest) < 3:
        return None
    slope, _ = linear_regression(*zip(*latest, strict=True))
    return left / -slope if slope < -SLOWEST_PER_SECOND else None
