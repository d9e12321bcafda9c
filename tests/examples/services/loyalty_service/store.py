"""The table of points, and the service's only SQL."""

from dataclasses import asdict

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table

from loyalty_service.points import Points
from shared.persistence.backends import insert_new
from shared.persistence.pages import ReadPages

metadata = MetaData()

points = Table(
    "points",
    metadata,
    Column("order_id", String, primary_key=True),
    Column("points", Integer, nullable=False),
)

pages = ReadPages(points, points.c.order_id)


def record(connection: Connection, rows: list[Points]) -> list[bool]:
    """Write each row unless its order has one; for each row, whether it is new."""
    statement = insert_new(connection, points).returning(points.c.order_id)
    values = {row.order_id: asdict(row) for row in rows}  # once, also where one batch has the order twice
    written = set(connection.execute(statement, list(values.values())).scalars())
    return [row.order_id in written for row in rows]
