"""Databases as version a62db12 left them, before there were migrations: with orders in them that are not final.

That version's own system made them: its broker was killed, then its services, each in the middle of an order.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg

DATA = Path(__file__).parent / "data/a62db12"
FILE = "sqlite:///"


def restore(name: str, url: str) -> None:
    """Put the database of this name into an empty one."""
    if url.startswith(FILE):
        with closing(sqlite3.connect(url.removeprefix(FILE))) as connection:
            connection.executescript((DATA / f"{name}.sqlite.sql").read_text())
    else:
        with psycopg.connect(url) as connection:
            connection.execute((DATA / f"{name}.postgresql.sql").read_bytes())


def orders(kind: str) -> dict[str, tuple[str, str]]:
    """Of the databases of a kind (`sqlite`, `postgresql`): each order's id and its status, by how far it had come."""
    found = json.loads((DATA / f"orders.{kind}.json").read_text())
    return {stage: (order_id, status) for stage, (order_id, status) in found.items()}
