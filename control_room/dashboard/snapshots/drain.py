"""When a backlog will be gone. No I/O."""

from collections.abc import Sequence

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
    slope = _slope([reading for reading in readings if reading[0] > last_at - LOOK_BACK_SECONDS])
    return left / -slope if slope < -SLOWEST_PER_SECOND else None


def _slope(readings: Sequence[tuple[float, float]]) -> float:
    """The change per second, by least squares; 0 for fewer than three readings."""
    count = len(readings)
    if count < 3:
        return 0.0
    middle_at = sum(at for at, _ in readings) / count
    middle_left = sum(left for _, left in readings) / count
    spread = sum((at - middle_at) ** 2 for at, _ in readings)
    together = sum((at - middle_at) * (left - middle_left) for at, left in readings)
    return together / spread if spread else 0.0
