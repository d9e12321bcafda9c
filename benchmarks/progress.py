"""How far the contenders are with their orders, read from their databases while they work."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import psycopg

from benchmarks.contenders import Query
from benchmarks.databases import path_of
from benchmarks.stage import Scene


def count_finished(scene: Scene, after_order_id: str = "") -> int:
    """The orders after that one (ids are in the order of time) whose customer has been notified."""
    ((count,),) = rows_of(scene, scene.contender.finished, after_order_id)
    return int(count)


def notified_at(scene: Scene) -> dict[str, float]:
    """When the customer of each order was notified, in seconds since the epoch."""
    return {order_id: _seconds(at) for order_id, at in rows_of(scene, scene.contender.notified)}


def last_order_id(scene: Scene) -> str:
    """The newest order's id; an empty string where there is none."""
    ((last,),) = rows_of(scene, Query(scene.contender.web.name, "SELECT max(order_id) FROM orders"))
    return last or ""


def rows_of(scene: Scene, query: Query, *values: str) -> list[tuple[Any, ...]]:
    """The answer of a program's database."""
    url = scene.databases[query.program]
    path = path_of(url)
    if path is None:
        with psycopg.connect(url, autocommit=True) as server:
            return server.execute(query.sql.replace("?", "%s"), values).fetchall()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        return file.execute(query.sql, values).fetchall()


def _seconds(at: float | str | datetime) -> float:
    """Peers keep a time as a number; Order Rail keeps a datetime, which is text in UTC on SQLite."""
    if isinstance(at, datetime):
        return at.timestamp()
    return at if isinstance(at, float) else datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()
