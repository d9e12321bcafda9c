"""The books: what the services and the broker say, in a temporary SQLite file, so that memory stays bounded.

Rows are kept as they come and judged when all are in. Nothing here is precious: the file goes when the audit ends.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from control_room.operations.audit.invariants import VIEWS
from control_room.operations.audit.report import AuditImpossible

TRACK = "order_service.track"
UNNAMED_FILE = "sqlite:///file:?uri=true"
"""The kernel removes it with the process: an audit that is killed leaves nothing behind."""
CACHE_KIBIBYTES = 32 * 1024
Row = Mapping[str, Any]

# `seq` lets a row come twice, as it never should: then that is seen. An order is listed by two readings, and settled
# if nothing has happened to it between them, nor shortly before.
TABLES = (
    "accepted (order_id TEXT PRIMARY KEY)",
    """orders (order_id TEXT PRIMARY KEY, first_status TEXT, status TEXT, amount INTEGER, currency TEXT,
       wants_sms INTEGER, placed_at REAL, updated_at REAL, listed INTEGER DEFAULT 0, is_settled INTEGER DEFAULT 0)""",
    """payments (order_id TEXT, seq INTEGER, status TEXT, amount INTEGER, currency TEXT, at REAL,
       PRIMARY KEY (order_id, seq))""",
    "charges (order_id TEXT, seq INTEGER, type TEXT, amount INTEGER, currency TEXT, PRIMARY KEY (order_id, seq))",
    """notifications (order_id TEXT, seq INTEGER, channel TEXT, notice TEXT, status TEXT, at REAL,
       PRIMARY KEY (order_id, seq))""",
    # The order id is empty where the letter belongs to no order: poison.
    """letters (order_id TEXT, seq INTEGER, queue TEXT, id TEXT, reason TEXT, error TEXT, parked_at REAL,
       discarded INTEGER, PRIMARY KEY (order_id, seq))""",
    # What was given up once, as some orders' timelines say.
    "given_up (order_id TEXT, queue TEXT, PRIMARY KEY (order_id, queue))",
    "leftovers (invariant TEXT, subject TEXT, what TEXT, PRIMARY KEY (invariant, subject))",
    # What settled orders lack, and which of them a message may still be on its way to.
    """lacking (order_id TEXT, queue TEXT, sent_at REAL, updated_at REAL, is_counted INTEGER,
       PRIMARY KEY (order_id, queue))""",
    "waiting (order_id TEXT, queue TEXT, PRIMARY KEY (order_id, queue))",
)
FIRST_READING = "INSERT INTO orders (order_id, first_status) VALUES (?, ?) ON CONFLICT (order_id) DO NOTHING"
LAST_READING = (
    "INSERT INTO orders (order_id, status, amount, currency, wants_sms, placed_at, updated_at, listed)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT (order_id) DO UPDATE SET status = excluded.status,"
    " amount = excluded.amount, currency = excluded.currency, wants_sms = excluded.wants_sms,"
    " placed_at = excluded.placed_at, updated_at = excluded.updated_at, listed = listed + 1,"
    " is_settled = (first_status IS excluded.status AND excluded.updated_at <= {changed_before})"
)
COUNTS = {
    "accepted": "SELECT COUNT(*) FROM accepted",
    "orders": "SELECT COUNT(*) FROM orders WHERE listed",
    "settled": "SELECT COUNT(*) FROM orders WHERE is_settled",
    "payments": "SELECT COUNT(*) FROM payments",
    "charges": "SELECT COUNT(*) FROM charges",
    "notifications": "SELECT COUNT(*) FROM notifications",
    "dead_letters": "SELECT COUNT(*) FROM letters WHERE NOT discarded",
    "discarded": "SELECT COUNT(*) FROM letters WHERE discarded",
}
IN_FLIGHT = (
    "SELECT order_id FROM orders WHERE listed AND NOT is_settled"
    " UNION SELECT w.order_id FROM waiting w JOIN orders o USING (order_id) WHERE o.is_settled"
)
# Not what has a dead letter: that is nowhere else.
LACKING = (
    "INSERT OR IGNORE INTO lacking SELECT * FROM lacks k WHERE NOT EXISTS"
    " (SELECT 1 FROM letters l WHERE l.order_id = k.order_id AND l.queue = k.queue)"
)
# Of those that lack the same, the latest: queues are taken from in turn. What has changed since the messages were
# counted, or was sent back for another try, may have a message that was not counted.
UNCOUNTED = (
    "INSERT INTO waiting SELECT order_id, queue FROM lacking"
    " WHERE queue = :queue AND (NOT is_counted OR updated_at > :before)"
)
COUNTED = (
    "INSERT INTO waiting SELECT order_id, queue FROM lacking"
    " WHERE queue = :queue AND is_counted AND updated_at <= :before"
    " ORDER BY sent_at DESC, order_id DESC LIMIT :at_most"
)
SLOWEST = (
    "SELECT COALESCE(MAX(took_seconds), 0) FROM passed WHERE queue = :queue AND sent_at >"
    " (SELECT MIN(sent_at) FROM lacking WHERE queue = :queue)"
)
PASSED_BY = (
    "DELETE FROM waiting WHERE queue = :queue AND order_id IN (SELECT order_id FROM lacking"
    " WHERE queue = :queue AND sent_at <"
    " (SELECT MAX(sent_at) FROM passed WHERE queue = :queue AND updated_at < :long_ago))"
)
# The order service has not been told yet how such an order stands, so nothing can be held against what it says.
UNTOLD = "UPDATE orders SET is_settled = 0 WHERE order_id IN (SELECT order_id FROM waiting WHERE queue = ?)"
EVIDENCE = {
    "order_service": "SELECT status || ' ' || amount || ' ' || currency FROM orders WHERE order_id = ? AND listed",
    "payment_service": "SELECT status || ' ' || amount || ' ' || currency FROM payments WHERE order_id = ?",
    "gateway": "SELECT type || ' ' || amount || ' ' || currency FROM charges WHERE order_id = ?",
    "notification_service": "SELECT channel || ' ' || notice || ' ' || status FROM notifications WHERE order_id = ?",
    "dead_letters": "SELECT queue || ' ' || reason || CASE WHEN discarded THEN ' (discarded)' ELSE '' END"
    " FROM letters WHERE order_id = ?",
}


@dataclass(frozen=True)
class OnTheWay:
    """Messages on their way to the consumer of `queue`.

    `counted`: those that consumers hold were counted up to ten seconds ago, all others just now. `at_most`: there
    can't have been more. `retry_seconds`: how long its retry delays last together, `attempts` how many there are, at
    the most.
    """

    queue: str
    counted: int
    at_most: int
    retry_seconds: float
    attempts: int


class Books:
    """`changed_before`: an order that changed later (seconds since 1970) is in flight. `only`: keep no other orders."""

    def __init__(self, engine: Engine, changed_before: float, only: frozenset[str] | None = None) -> None:
        self._engine = engine
        self._only = only
        self._seq = count()
        self._last_reading = LAST_READING.format(changed_before=repr(float(changed_before)))
        with engine.begin() as connection:
            for table in TABLES:
                connection.exec_driver_sql(f"CREATE TABLE {table} WITHOUT ROWID")
            for view in VIEWS:
                connection.exec_driver_sql(view)

    def accept(self, order_ids: Iterable[str]) -> None:
        """Orders that a client was promised."""
        self._insert("INSERT OR IGNORE INTO accepted VALUES (?)", [(order_id,) for order_id in order_ids])

    def first_orders(self, rows: Iterable[Row]) -> None:
        """Orders as they were before anything else was read."""
        self._insert(FIRST_READING, [(row["order_id"], row["status"]) for row in self._ours(rows)])

    def last_orders(self, rows: Iterable[Row]) -> None:
        """Orders as they are after everything else was read."""
        self._insert(self._last_reading, [_order_values(row) for row in self._ours(rows)])

    def add(self, rows: Iterable[Row]) -> None:
        """Payments, charges and notifications, in any mixture and order."""
        by_kind: dict[str, list[tuple[Any, ...]]] = {}
        for row in self._ours(rows):
            values = (row["order_id"], next(self._seq), *VALUES[row["kind"]](row))
            by_kind.setdefault(row["kind"], []).append(values)
        for kind, values_of_kind in by_kind.items():
            self._insert(_insert_all(f"{kind}s", len(values_of_kind[0])), values_of_kind)

    def add_letters(self, letters: Iterable[Row], *, discarded: bool = False) -> None:
        """Dead letters: `queue`, `id`, `reason`, `error`, `parked_at` (seconds since 1970) and `order_id`, or none."""
        self._insert(
            _insert_all("letters", 8),
            [
                (row["order_id"], next(self._seq), row["queue"], row["id"], row["reason"], row["error"],
                 row["parked_at"], discarded)
                for row in self._ours(letters)
            ],
        )  # fmt: skip

    def add_leftover(self, invariant: str, subject: str, what: str) -> None:
        """What a queue or an outbox still holds."""
        self._insert("INSERT INTO leftovers VALUES (?, ?, ?)", [(invariant, subject, what)])

    def add_given_up(self, order_id: str, queues: Iterable[str]) -> None:
        """The order says that the work of these queues was given up once, whatever came of it later."""
        self._insert("INSERT OR IGNORE INTO given_up VALUES (?, ?)", [(order_id, queue) for queue in queues])

    def lacking(self) -> dict[str, int]:
        """How many settled orders lack what a message of each queue would bring. To be asked once, when all is in."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql(LACKING)
            rows = connection.exec_driver_sql("SELECT queue, COUNT(*) FROM lacking GROUP BY queue")
            return {row[0]: row[1] for row in rows}

    def call_waiting(self, coming: OnTheWay, before: float, settle_seconds: float) -> None:
        """Spare the orders that lack this queue's message and may still get it: it is on its way, however long.

        There can be no more of them than messages, of which there were `at_most` so many `before` (seconds since
        1970). Nor do those wait that were passed by long ago: later ones had their turn, and since then a message
        could have been tried as often as it may, each time as slowly as the slowest of the others.
        """
        about = {"queue": coming.queue, "before": before, "at_most": coming.at_most}
        with self._engine.begin() as connection:
            for statement in (UNCOUNTED, COUNTED):
                connection.execute(text(statement), about)
            slowest = connection.execute(text(SLOWEST), about).scalar_one()
            long_ago = before - coming.retry_seconds - coming.attempts * (slowest + settle_seconds)
            connection.execute(text(PASSED_BY), {**about, "long_ago": long_ago})
            if coming.queue == TRACK:
                connection.exec_driver_sql(UNTOLD, (TRACK,))

    def waiting(self) -> dict[str, int]:
        """How many orders wait for a message of each queue."""
        with self._engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT queue, COUNT(*) FROM waiting GROUP BY queue ORDER BY queue")
            return {row[0]: row[1] for row in rows}

    def counts(self) -> dict[str, int]:
        with self._engine.connect() as connection:
            return {name: _number(connection, query) for name, query in COUNTS.items()}

    def in_flight(self, limit: int) -> tuple[int, tuple[str, ...]]:
        """How many orders are in flight, and some of them."""
        with self._engine.connect() as connection:
            some = connection.exec_driver_sql(f"{IN_FLIGHT} LIMIT ?", (limit,)).scalars()
            return _number(connection, f"SELECT COUNT(*) FROM ({IN_FLIGHT})"), tuple(some)  # noqa: S608 - ours

    def find(self, query: str, limit: int) -> tuple[int, list[tuple[str, str]]]:
        """How many (subject, what) rows a query has, and the first of them."""
        with self._engine.connect() as connection:
            first = connection.exec_driver_sql(f"{query} LIMIT ?", (limit + 1,)).all()
            total = len(first) if len(first) <= limit else _number(connection, f"SELECT COUNT(*) FROM ({query})")  # noqa: S608
            return total, [(row[0], row[1]) for row in first[:limit]]

    def evidence(self, order_id: str) -> dict[str, str]:
        """What each service says of an order."""
        with self._engine.connect() as connection:
            said = {
                service: ", ".join(connection.exec_driver_sql(f"{query} LIMIT 10", (order_id,)).scalars())
                for service, query in EVIDENCE.items()
            }
        return {service: words or "nothing" for service, words in said.items()}

    def _ours(self, rows: Iterable[Row]) -> Iterator[Row]:
        return (row for row in rows if self._only is None or row["order_id"] in self._only)

    def _insert(self, statement: str, values: Sequence[tuple[Any, ...]]) -> None:
        if values:
            with self._engine.begin() as connection:
                connection.exec_driver_sql(statement, list(values))


@contextmanager
def books(changed_before: float, only: frozenset[str] | None = None) -> Iterator[Books]:
    """Empty books, until the block ends. They lie where the system keeps temporary files (`TMPDIR`).

    Raises AuditImpossible, also in the block, where there is no room for them.
    """
    # One connection, which one thread uses after the other.
    engine = create_engine(UNNAMED_FILE, poolclass=StaticPool, connect_args={"check_same_thread": False})
    event.listen(engine, "connect", _configure)
    try:
        yield Books(engine, changed_before, only)
    except DBAPIError as error:
        why = f"{error.orig}; they need a kilobyte or two for each order in TMPDIR, or else in /var/tmp"
        raise AuditImpossible("the audit's own books", why) from error
    finally:
        engine.dispose()


def _configure(connection: Any, _record: Any) -> None:
    """Fast, not safe: a book that a crash spoils is of no use to anyone anyway."""
    for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIBIBYTES}"):
        connection.execute(f"PRAGMA {setting}")


def _order_values(row: Row) -> tuple[Any, ...]:
    placed_at, updated_at = _seconds(row.get("placed_at")), _seconds(row["updated_at"])
    return (row["order_id"], row["status"], *_money(row["total"]), bool(row.get("wants_sms")), placed_at, updated_at)


def _seconds(at: str | None) -> float | None:
    """Since 1970."""
    return None if at is None else datetime.fromisoformat(at).timestamp()


def _money(money: Mapping[str, Any]) -> tuple[int, str]:
    return money["amount_minor"], money["currency"]


VALUES: dict[str, Callable[[Row], tuple[Any, ...]]] = {
    "payment": lambda row: (row["status"], *_money(row["amount"]), _seconds(row.get("at"))),
    "charge": lambda row: (row["type"], *_money(row["amount"])),
    "notification": lambda row: (row["channel"], row["notice"], row["status"], _seconds(row.get("at"))),
}


def _insert_all(table: str, columns: int) -> str:
    return f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})"  # noqa: S608 - the names are ours


def _number(connection: Connection, query: str) -> int:
    number: int = connection.exec_driver_sql(query).scalar_one()
    return number
