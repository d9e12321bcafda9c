"""The tables that a database must have. `order-rail database upgrade` creates them; a service only looks for them."""

import sqlalchemy
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table

from shared.persistence.utc import UtcDateTime

HOW_TO_MEND = "run `order-rail database upgrade`"

every_database = MetaData()
"""The tables that each database has beside those of its service."""

write_probe = Table(
    "write_probe",
    every_database,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("probes", Integer, nullable=False),
)
"""One row that `Database` writes now and then: a database that can be read may still refuse to be written."""

milestones = Table(
    "milestones",
    every_database,
    Column("name", String, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
)
"""A row for each of the moments in `milestones.py` that the database has reached."""


def missing(connection: Connection, metadata: MetaData) -> str:
    """Which tables are missing, or which columns of one; empty if nothing is. Tables and columns of others are fine."""
    expected = {table.name: table for each in (metadata, every_database) for table in each.sorted_tables}
    found = columns(connection, list(expected))
    if tables := sorted(expected.keys() - found.keys()):
        return f"there is no table {', '.join(tables)}"
    for name, table in expected.items():
        if absent := sorted(set(table.columns.keys()) - found[name]):
            return f"table {name} has no column {', '.join(absent)}"
    return ""


def columns(connection: Connection, tables: list[str]) -> dict[str, set[str]]:
    """The names of the columns of those of the tables that exist."""
    found = sqlalchemy.inspect(connection).get_multi_columns(filter_names=tables)
    return {name: {column["name"] for column in columns} for (_, name), columns in found.items()}
