"""When the rail will be empty, if it goes on as it does now. No I/O."""

from collections.abc import Sequence

from control_room.dashboard.snapshots.snapshot import Point

LOOK_BACK_SECONDS = 15.0
SLOWEST_PER_SECOND = 0.5
"""A backlog that shrinks more slowly than this does not shrink: its counts wobble."""


def seconds_to_drain(history: Sequence[Point]) -> float | None:
    """From the slope of the backlog over the last seconds; 0 if there is none, None if it does not shrink."""
    if not history or not history[-1].backlog:
        return 0.0
    recent = [point for point in history if point.at > history[-1].at - LOOK_BACK_SECONDS]
    slope = _slope(recent)
    return history[-1].backlog / -slope if slope < -SLOWEST_PER_SECOND else None


def _slope(points: Sequence[Point]) -> float:
    """Messages a second, by least squares; 0 where there is too little to see one."""
    count = len(points)
    if count < 3:
        return 0.0
    middle_at = sum(point.at for point in points) / count
    middle_backlog = sum(point.backlog for point in points) / count
    spread = sum((point.at - middle_at) ** 2 for point in points)
    together = sum((point.at - middle_at) * (point.backlog - middle_backlog) for point in points)
    return together / spread if spread else 0.0
