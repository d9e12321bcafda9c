"""The SQL of pruning: what goes with an order, and which order is not settled yet."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, case, func, or_, select

from order_service.contract import FINAL_STATUSES
from order_service.store import duplicates, idempotency_keys, orders, timeline
from shared.persistence.prune import Prune
from shared.persistence.utc import UtcDateTime

prune_orders = Prune(orders.c.order_id, idempotency_keys.c.order_id, timeline.c.order_id)
prune_duplicates = Prune(duplicates.c.order_id)
"""By itself: a request that is repeated while its order is deleted may leave a row behind."""

_IS_UNSETTLED = or_(
    orders.c.status.not_in(FINAL_STATUSES),
    orders.c.quiet_since.is_not(None),
    orders.c.updated_at >= bindparam("changed_before", type_=UtcDateTime),
)
_STRETCH = (
    select(orders.c.order_id, case((_IS_UNSETTLED, orders.c.order_id)).label("unsettled"))
    .where(orders.c.order_id > bindparam("after"), orders.c.order_id < bindparam("before"))
    .order_by(orders.c.order_id)
    .limit(bindparam("limit"))
    .subquery()
)
_LOOK = select(func.max(_STRETCH.c.order_id).label("last"), func.min(_STRETCH.c.unsettled).label("unsettled"))


class Stretch(NamedTuple):
    """The first `limit` orders whose ids come after one, and before the other.

    Of these, one that has changed since `changed_before` is not settled.
    """

    after: str
    before: str
    limit: int
    changed_before: datetime


class Found(NamedTuple):
    """Of a stretch: the last order, None if it has none, and the first that is not settled, if one is not."""

    last: str | None
    unsettled: str | None


def look(connection: Connection, stretches: list[Stretch]) -> list[Found]:
    """What there is in each stretch."""
    return [Found(*connection.execute(_LOOK, stretch._asdict()).one()) for stretch in stretches]
