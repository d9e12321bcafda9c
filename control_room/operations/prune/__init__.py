"""`order-rail prune`: delete the records that are older than RETAIN_DAYS, in every service.

Everything about subjects that began before a moment, the horizon, goes. It is the earliest of three: RETAIN_DAYS
ago, the beginning of the oldest that is not settled, and that of the oldest with a dead letter.
"""

from control_room.operations.prune.pruning import FAILURES, Pruned, prune
from control_room.operations.prune.settings import RetentionSettings

__all__ = ["FAILURES", "Pruned", "RetentionSettings", "prune"]
