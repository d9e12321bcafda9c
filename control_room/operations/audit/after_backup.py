"""What was accepted after a backup that was restored: lost, and known to other services or to a journal alone.

It is counted and named, and is no violation: an order that the order service does not have; and a cancellation whose
refund only the payment service or the gateway know.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from shared.ids import first_id
from shared.persistence.milestones import RESTORED_AT, RESTORED_TO

SLACK = timedelta(minutes=1)
"""An order is committed so long after its id was made, at the most; and the clocks of two machines differ."""

TABLE = "after_backup (order_id TEXT PRIMARY KEY, is_order INTEGER)"
_ORDERS = """
    INSERT INTO after_backup SELECT DISTINCT order_id, 1 FROM (
        SELECT order_id FROM accepted UNION ALL SELECT order_id FROM payments UNION ALL SELECT order_id FROM charges
        UNION ALL SELECT order_id FROM notifications UNION ALL SELECT order_id FROM others) r
    WHERE order_id >= :first AND order_id < :end
      AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = r.order_id)"""
_CANCELLATIONS = """
    INSERT INTO after_backup SELECT DISTINCT order_id, 0 FROM orders JOIN (
        SELECT order_id, at FROM charges WHERE type != 'charge'
        UNION ALL SELECT order_id, at FROM payments WHERE status IN ('refunded', 'voided')) USING (order_id)
    WHERE at >= :since AND at < :until AND status IN ('paid', 'confirmed', 'declined')"""
# Neither judged, nor in flight.
_NOT_JUDGED = "UPDATE orders SET is_stable = NULL WHERE is_stable AND order_id IN (SELECT order_id FROM after_backup)"
_COUNTS = """
    SELECT COALESCE(SUM(is_order), 0) AS orders, COALESCE(SUM(NOT is_order), 0) AS cancellations,
           COALESCE(SUM(is_order AND order_id IN (SELECT order_id FROM charges)), 0) AS charged FROM after_backup"""


@dataclass(frozen=True)
class AfterBackup:
    """How many `orders` and `cancellations` were accepted after the backup of `restored_to`; some are `examples`.

    `charged`: those of the orders that the gateway's ledger knows.
    """

    restored_to: str
    orders: int
    cancellations: int
    charged: int
    examples: tuple[str, ...]


def find(connection: Connection, milestones: Mapping[str, datetime], limit: int) -> AfterBackup | None:
    """Set aside what a restore has lost; None if there never was one. `milestones`: the order service's."""
    if RESTORED_TO not in milestones or RESTORED_AT not in milestones:
        return None
    since, until = milestones[RESTORED_TO] - SLACK, milestones[RESTORED_AT]
    connection.execute(text(_ORDERS), {"first": first_id(since), "end": first_id(until)})
    connection.execute(text(_CANCELLATIONS), {"since": since.timestamp(), "until": until.timestamp()})
    connection.execute(text(_NOT_JUDGED))
    counts = connection.execute(text(_COUNTS)).mappings().one()
    examples = connection.execute(text("SELECT order_id FROM after_backup ORDER BY 1 LIMIT :limit"), {"limit": limit})
    return AfterBackup(milestones[RESTORED_TO].isoformat(), **counts, examples=tuple(examples.scalars()))
