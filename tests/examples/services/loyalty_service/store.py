"""The table of points, and the service's only SQL."""

from dataclasses import asdict

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table

from loyalty_service.points import Points
from shared.persistence.bulk import BulkInsert, skip_existing
from shared.persistence.pages import ReadPages
from shared.persistence.prune import Prune

metadata = MetaData()

points = Table(
    "points",
    metadata,
    Column("order_id", String, primary_key=True),
    Column("points", Integer, nullable=False),
)

insert_new = BulkInsert(points, lambda insert: skip_existing(insert).returning(points.c.order_id))
pages = ReadPages(points, points.c.order_id)
prune = Prune(points.c.order_id)


def record(connection: Connection, rows: list[Points]) -> list[bool]:
    """Write each row unless its order has one; for each row, whether it is new."""
    values = {row.order_id: asdict(row) for row in rows}  # once, also where one batch has the order twice
    written = {row.order_id for row in insert_new.run(connection, list(values.values()))}
    return [row.order_id in written for row in rows]
