"""How far the contenders are with their orders, read from their databases while they work."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

from benchmarks.contenders import Query
from benchmarks.stage import Scene


def count_finished(scene: Scene, after_order_id: str = "") -> int:
    """The orders after that one (ids are in the order of time) whose customer has been notified."""
    query = scene.contender.finished
    with _opened(scene, query) as connection:
        count: int = connection.execute(query.sql, (after_order_id,)).fetchone()[0]
    return count


def notified_at(scene: Scene) -> dict[str, float]:
    """When the customer of each order was notified, in seconds since the epoch."""
    query = scene.contender.notified
    with _opened(scene, query) as connection:
        return {order_id: _seconds(at) for order_id, at in connection.execute(query.sql)}


def last_order_id(scene: Scene) -> str:
    """The newest order's id; an empty string where there is none."""
    with _opened(scene, Query(scene.contender.web.name, "")) as connection:
        return connection.execute("SELECT max(order_id) FROM orders").fetchone()[0] or ""


@contextmanager
def _opened(scene: Scene, query: Query) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{scene.database(query.program)}?mode=ro", uri=True)) as connection:
        yield connection


def _seconds(at: float | str) -> float:
    """Order Rail keeps a time as text in UTC, its peers as a number."""
    return at if isinstance(at, float) else datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()
