"""The table of visits, and the service's only SQL."""

from dataclasses import dataclass

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, func, select

from shared.persistence.bulk import BulkInsert, skip_existing
from shared.persistence.one_of import one_of
from shared.persistence.pages import ReadPages
from shared.persistence.prune import Prune

metadata = MetaData()

visits = Table(
    "visits",
    metadata,
    Column("order_id", String, primary_key=True),
    Column("customer", String, nullable=False, index=True),
    Column("visit", Integer, nullable=False),
)

_visits_of = (
    select(visits.c.customer, func.count()).where(one_of(visits.c.customer, "customers")).group_by(visits.c.customer)
)
_insert_new = BulkInsert(visits, lambda insert: skip_existing(insert).returning(visits.c.order_id))
pages = ReadPages(visits, visits.c.order_id)
prune = Prune(visits.c.order_id)


@dataclass(frozen=True, slots=True)
class Order:
    order_id: str
    customer: str


def record(connection: Connection, orders: list[Order]) -> list[bool]:
    """Number each order unless it has a number; for each, whether it is new. No two are of the same customer."""
    customers = {order.customer for order in orders}
    before: dict[str, int] = dict(connection.execute(_visits_of, {"customers": customers}).tuples().all())
    rows = [
        {"order_id": order.order_id, "customer": order.customer, "visit": before.get(order.customer, 0) + 1}
        for order in orders
    ]
    written = {row.order_id for row in _insert_new.run(connection, rows)}
    return [order.order_id in written for order in orders]
