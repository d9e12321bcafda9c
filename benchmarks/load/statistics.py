"""Percentiles."""

from collections.abc import Sequence


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The smallest value that is at least as large as `percent` of all; 0 where there is none."""
    if not ascending:
        return 0.0
    rank = -(-len(ascending) * percent // 100)
    return ascending[max(0, int(rank) - 1)]
