"""The reconciliation database: what the services and the broker say, in a temporary SQLite file.

Memory stays bounded however many orders there are. The file is deleted when the audit ends.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from control_room.operations.audit import after_backup
from control_room.operations.audit.after_backup import AfterBackup
from control_room.operations.audit.invariants import JUDGED_QUEUES, VIEWS
from control_room.operations.audit.report import AuditImpossible
from control_room.operations.roles import NOTIFICATIONS, ORDERS, PAYMENTS, TRACK

UNNAMED_FILE = "sqlite:///file:?uri=true"
"""The kernel removes it with the process: an audit that is killed leaves nothing behind."""
CACHE_KIBIBYTES = 32 * 1024
Row = Mapping[str, Any]

# `seq` admits a row that comes twice, as none should, so that an invariant can find it. An order is listed by two
# readings, and stable if nothing happened to it between them, nor shortly before.
TABLES = (
    "accepted (order_id TEXT PRIMARY KEY)",
    "called_off (order_id TEXT PRIMARY KEY)",
    """orders (order_id TEXT PRIMARY KEY, first_status TEXT, status TEXT, amount INTEGER, currency TEXT,
       wants_sms INTEGER, wants_push INTEGER, placed_at REAL, updated_at REAL, listed INTEGER DEFAULT 0,
       is_stable INTEGER DEFAULT 0)""",
    """payments (order_id TEXT, seq INTEGER, status TEXT, amount INTEGER, currency TEXT, at REAL,
       PRIMARY KEY (order_id, seq))""",
    """charges (order_id TEXT, seq INTEGER, type TEXT, amount INTEGER, currency TEXT, at REAL,
       PRIMARY KEY (order_id, seq))""",
    """notifications (order_id TEXT, seq INTEGER, channel TEXT, notice TEXT, status TEXT, at REAL,
       PRIMARY KEY (order_id, seq))""",
    # Rows of a kind that only their own service understands.
    "others (order_id TEXT, seq INTEGER, service TEXT, kind TEXT, key TEXT, PRIMARY KEY (order_id, seq))",
    # The order id is empty for poison, which belongs to no order. `event`: the type without its version.
    """dead_letters (order_id TEXT, seq INTEGER, queue TEXT, event TEXT, id TEXT, reason TEXT, discarded INTEGER,
       PRIMARY KEY (order_id, seq))""",
    # Work that was given up once, according to the timelines of some orders.
    "given_up (order_id TEXT, queue TEXT, PRIMARY KEY (order_id, queue))",
    "leftovers (invariant TEXT, subject TEXT, what TEXT, PRIMARY KEY (invariant, subject))",
    # The messages that stable orders lack, and the orders that such a message may still be on its way to.
    """lacking (order_id TEXT, queue TEXT, sent_at REAL, updated_at REAL, is_counted INTEGER,
       PRIMARY KEY (order_id, queue))""",
    "waiting (order_id TEXT, queue TEXT, PRIMARY KEY (order_id, queue))",
    after_backup.TABLE,
)
PRUNED = ("accepted", "called_off", "orders", "payments", "charges", "notifications", "others")
"""The tables with rows that go with an order."""
FIRST_READING = "INSERT INTO orders (order_id, first_status) VALUES (?, ?) ON CONFLICT (order_id) DO NOTHING"
LAST_READING = """
    INSERT INTO orders (order_id, status, amount, currency, wants_sms, wants_push, placed_at, updated_at, listed)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT (order_id) DO UPDATE SET
    status = excluded.status, amount = excluded.amount, currency = excluded.currency, wants_sms = excluded.wants_sms,
    wants_push = excluded.wants_push, placed_at = excluded.placed_at, updated_at = excluded.updated_at,
    listed = listed + 1,
    is_stable = (first_status IS excluded.status AND excluded.updated_at <= {changed_before})"""
COUNTS = {
    "accepted": "accepted",
    "orders": "orders WHERE listed",
    "settled": "orders WHERE is_stable",
    "payments": "payments",
    "charges": "charges WHERE type = 'charge'",
    "refunds": "charges WHERE type != 'charge'",
    "notifications": "notifications",
    "dead_letters": "dead_letters WHERE NOT discarded",
    "discarded": "dead_letters WHERE discarded",
}
MONEY = """
    SELECT currency, SUM(charged) AS charged, SUM(refunded) AS refunded, SUM(due) AS due FROM (
        SELECT currency, CASE type WHEN 'charge' THEN amount ELSE 0 END AS charged,
               CASE type WHEN 'charge' THEN 0 ELSE amount END AS refunded, 0 AS due FROM charges
        UNION ALL
        SELECT currency, 0, 0, amount FROM orders WHERE listed AND status IN ('paid', 'confirmed'))
    GROUP BY currency ORDER BY currency"""
IN_FLIGHT = """
    SELECT order_id FROM orders WHERE listed AND NOT is_stable
    UNION SELECT w.order_id FROM waiting w JOIN orders o USING (order_id) WHERE o.is_stable"""
# A message that is a dead letter is not on its way.
LACKING = """
    INSERT OR IGNORE INTO lacking SELECT order_id, queue, sent_at, updated_at, is_counted FROM lacks k WHERE NOT EXISTS
    (SELECT 1 FROM dead_letters d
     WHERE d.order_id = k.order_id AND d.queue = k.queue AND k.event IN ('', d.event))"""
# The message of an order that has changed since the messages were counted, or was redriven, may not be among them.
NOT_COUNTED = """
    INSERT INTO waiting SELECT order_id, queue FROM lacking
    WHERE queue = :queue AND (NOT is_counted OR updated_at > :before)"""
# Of the orders that lack the same, the latest: queues are consumed in order.
COUNTED = """
    INSERT INTO waiting SELECT order_id, queue FROM lacking
    WHERE queue = :queue AND is_counted AND updated_at <= :before ORDER BY sent_at DESC, order_id DESC LIMIT :at_most"""
SLOWEST_SECONDS = """
    SELECT COALESCE(MAX(took_seconds), 0) FROM passed WHERE queue = :queue AND sent_at >
    (SELECT MIN(sent_at) FROM lacking WHERE queue = :queue)"""
OVERTAKEN = """
    DELETE FROM waiting WHERE queue = :queue AND order_id IN (SELECT order_id FROM lacking
    WHERE queue = :queue AND sent_at <
    (SELECT MAX(sent_at) FROM passed WHERE queue = :queue AND updated_at < :long_ago))"""
# The order service has not received the latest event of such an order: its status is no evidence.
NOT_REPORTED = "UPDATE orders SET is_stable = 0 WHERE order_id IN (SELECT order_id FROM waiting WHERE queue = :queue)"
LATEST = """
    INSERT INTO waiting SELECT order_id, :queue FROM stable ORDER BY updated_at DESC, order_id DESC LIMIT :at_least"""
EVIDENCE = {
    ORDERS.name: "SELECT status || ' ' || amount || ' ' || currency FROM orders WHERE order_id = ? AND listed",
    PAYMENTS.name: "SELECT status || ' ' || amount || ' ' || currency FROM payments WHERE order_id = ?",
    "gateway": "SELECT type || ' ' || amount || ' ' || currency FROM charges WHERE order_id = ?",
    NOTIFICATIONS.name: "SELECT channel || ' ' || notice || ' ' || status FROM notifications WHERE order_id = ?",
    "dead_letters": """
        SELECT queue || ' ' || event || ' ' || reason || CASE WHEN discarded THEN ' (discarded)' ELSE '' END
        FROM dead_letters WHERE order_id = ?""",
}

OTHER_EVIDENCE = "SELECT service, TRIM(kind || ' ' || key) FROM others WHERE order_id = ? LIMIT 10"


@dataclass(frozen=True)
class OnTheWay:
    """Messages on their way to the consumer of `queue`.

    `counted`: those that consumers hold were counted up to ten seconds ago, all others just now; where the broker has
    not counted the former, `counted` includes as many as there can be, and `at_least` none. `at_most`: there can't be
    more. `retry_seconds`: the sum of its retry delays. `attempts`: the most that there can be.
    """

    queue: str
    at_least: int
    counted: int
    at_most: int
    retry_seconds: float
    attempts: int


class ReconciliationDatabase:
    """`changed_before`: an order that changed later (seconds since 1970) is in flight. `only`: ignore other orders."""

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
        """Orders that were answered with 202."""
        self._insert("INSERT OR IGNORE INTO accepted VALUES (?)", [(order_id,) for order_id in order_ids])

    def call_off(self, order_ids: Iterable[str]) -> None:
        """Orders whose cancellation was answered with 202."""
        self._insert("INSERT OR IGNORE INTO called_off VALUES (?)", [(order_id,) for order_id in order_ids])

    def first_orders(self, rows: Iterable[Row]) -> None:
        """Orders as they were before anything else was read."""
        self._insert(FIRST_READING, [(row["order_id"], row["status"]) for row in self._selected(rows)])

    def last_orders(self, rows: Iterable[Row]) -> None:
        """Orders as they are after everything else was read."""
        self._insert(self._last_reading, [_order_values(row) for row in self._selected(rows)])

    def add(self, service: str, rows: Iterable[Row]) -> None:
        """Rows of any other service, of any kind."""
        by_table: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for row in self._selected(rows):
            kind, key = row["kind"], (row["order_id"], next(self._seq))
            if kind in VALUES:
                by_table[f"{kind}s"].append((*key, *VALUES[kind](row)))
            else:
                by_table["others"].append((*key, service, kind, str(row.get("key", ""))))
        for table, values in by_table.items():
            self._insert_all(table, values)

    def add_dead_letters(self, rows: Iterable[Row], *, discarded: bool = False) -> None:
        """Dead letters: `order_id` (empty if there is none), `queue`, `event`, `id` and `reason`."""
        values = [
            (row["order_id"], next(self._seq), row["queue"], row["event"], row["id"], row["reason"], discarded)
            for row in self._selected(rows)
        ]
        self._insert_all("dead_letters", values)

    def add_leftover(self, invariant: str, subject: str, what: str) -> None:
        """What a queue or an outbox still holds."""
        self._insert_all("leftovers", [(invariant, subject, what)])

    def add_given_up(self, order_id: str, queues: Iterable[str]) -> None:
        """Queues whose work for the order was given up once, whatever happened later."""
        self._insert("INSERT OR IGNORE INTO given_up VALUES (?, ?)", [(order_id, queue) for queue in queues])

    def call_waiting(self, coming: Iterable[OnTheWay], before: float, settle_seconds: float) -> None:
        """Count as in flight the orders that messages on their way may belong to; to be called once, as the last step.

        `before`: the outboxes were counted no earlier than at this time (seconds since 1970).
        """
        with self._engine.begin() as connection:
            connection.exec_driver_sql(LACKING)
            lacking = set(connection.exec_driver_sql("SELECT DISTINCT queue FROM lacking").scalars())
            for each in coming:
                if each.counted and each.queue not in JUDGED_QUEUES:
                    connection.execute(text(LATEST), {"queue": each.queue, "at_least": each.at_least})
                elif each.counted and each.queue in lacking:
                    _call_waiting(connection, each, before, settle_seconds)

    def find_after_backup(self, milestones: Mapping[str, datetime], limit: int) -> AfterBackup | None:
        """What was accepted after a backup that was restored; `limit`: of examples. `milestones`: of the orders."""
        with self._engine.begin() as connection:
            return after_backup.find(connection, milestones, limit)

    def leave_out(self, before: str) -> None:
        """Remove what is said of orders whose ids come before this one. Their dead letters stay."""
        with self._engine.begin() as connection:
            for table in PRUNED:
                connection.exec_driver_sql(f"DELETE FROM {table} WHERE order_id < ?", (before,))

    def waiting(self) -> dict[str, int]:
        """How many orders wait for a message of each queue."""
        return self._pairs("SELECT queue, COUNT(*) FROM waiting GROUP BY queue ORDER BY queue")

    def counts(self) -> dict[str, int]:
        """Rows by kind."""
        with self._engine.connect() as connection:
            counts = {name: _number(connection, f"SELECT COUNT(*) FROM {rows}") for name, rows in COUNTS.items()}
        return counts | self._pairs("SELECT kind, COUNT(*) FROM others GROUP BY kind ORDER BY kind")

    def statuses(self) -> dict[str, int]:
        """How many orders have each status."""
        return self._pairs("SELECT status, COUNT(*) FROM orders WHERE listed GROUP BY status ORDER BY status")

    def money(self) -> dict[str, dict[str, int]]:
        """By currency, in minor units: what was `charged`, what of it was `refunded`, and what is `due`."""
        with self._engine.connect() as connection:
            rows = connection.exec_driver_sql(MONEY).mappings().all()
        return {row["currency"]: {name: row[name] for name in row if name != "currency"} for row in rows}

    def in_flight(self, limit: int) -> tuple[int, tuple[str, ...]]:
        """How many orders are in flight, and at most `limit` of them."""
        with self._engine.connect() as connection:
            first = connection.exec_driver_sql(f"{IN_FLIGHT} LIMIT ?", (limit,)).scalars()
            return _number(connection, f"SELECT COUNT(*) FROM ({IN_FLIGHT})"), tuple(first)

    def find(self, query: str, limit: int) -> tuple[int, list[tuple[str, str]]]:
        """How many (subject, what) rows a query yields, and the first of them."""
        with self._engine.connect() as connection:
            first = connection.exec_driver_sql(f"{query} LIMIT ?", (limit + 1,)).all()
            total = len(first) if len(first) <= limit else _number(connection, f"SELECT COUNT(*) FROM ({query})")
            return total, [(row[0], row[1]) for row in first[:limit]]

    def evidence(self, order_id: str) -> dict[str, str]:
        """What each service says of an order."""
        with self._engine.connect() as connection:
            said = {
                service: list(connection.exec_driver_sql(f"{query} LIMIT 10", (order_id,)).scalars())
                for service, query in EVIDENCE.items()
            }
            for service, row in connection.exec_driver_sql(OTHER_EVIDENCE, (order_id,)):
                said.setdefault(service, []).append(row)
        return {service: ", ".join(rows) or "nothing" for service, rows in said.items()}

    def _selected(self, rows: Iterable[Row]) -> Iterator[Row]:
        return (row for row in rows if self._only is None or row["order_id"] in self._only)

    def _insert_all(self, table: str, values: Sequence[tuple[Any, ...]]) -> None:
        if values:
            self._insert(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values[0]))})", values)

    def _insert(self, statement: str, values: Sequence[tuple[Any, ...]]) -> None:
        if values:
            with self._engine.begin() as connection:
                connection.exec_driver_sql(statement, list(values))

    def _pairs(self, query: str) -> dict[str, int]:
        with self._engine.connect() as connection:
            return {row[0]: row[1] for row in connection.exec_driver_sql(query)}


@contextmanager
def reconciliation_database(
    changed_before: float, only: frozenset[str] | None = None
) -> Iterator[ReconciliationDatabase]:
    """An empty one, until the block ends; its file is where the system keeps temporary files (`TMPDIR`).

    Raises AuditImpossible, also in the block, if there is no room for it.
    """
    # One connection, which one thread uses after the other.
    engine = create_engine(UNNAMED_FILE, poolclass=StaticPool, connect_args={"check_same_thread": False})
    event.listen(engine, "connect", _configure)
    try:
        yield ReconciliationDatabase(engine, changed_before, only)
    except DBAPIError as error:
        why = f"{error.orig}; it needs a kilobyte or two for each order in TMPDIR, or else in /var/tmp"
        raise AuditImpossible("the reconciliation database", why) from error
    finally:
        engine.dispose()


def _configure(connection: Any, _record: Any) -> None:
    """Fast, not safe: after a crash nobody needs the file."""
    for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIBIBYTES}"):
        connection.execute(f"PRAGMA {setting}")


def _call_waiting(connection: Connection, coming: OnTheWay, before: float, settle_seconds: float) -> None:
    """Count as in flight the orders that lack a message of a queue; `at_most` so many were on their way `before`.

    Such an order does not wait if it was overtaken long ago: later orders have passed the queue, and since then a
    message could have been tried as often as it may, each time for as long as the slowest order took.
    """
    values = {"queue": coming.queue, "before": before, "at_most": coming.at_most}
    for statement in (NOT_COUNTED, COUNTED):
        connection.execute(text(statement), values)
    slowest_seconds = connection.execute(text(SLOWEST_SECONDS), values).scalar_one()
    long_ago = before - coming.retry_seconds - coming.attempts * (slowest_seconds + settle_seconds)
    connection.execute(text(OVERTAKEN), {**values, "long_ago": long_ago})
    if coming.queue == TRACK:
        connection.execute(text(NOT_REPORTED), values)


def _order_values(row: Row) -> tuple[Any, ...]:
    placed_at, updated_at = _seconds(row.get("placed_at")), _seconds(row["updated_at"])
    wishes = (bool(row.get("wants_sms")), bool(row.get("wants_push")))
    return (row["order_id"], row["status"], *_money(row["total"]), *wishes, placed_at, updated_at)


def _seconds(at: str | None) -> float | None:
    """Since 1970."""
    return None if at is None else datetime.fromisoformat(at).timestamp()


def _money(money: Mapping[str, Any]) -> tuple[int, str]:
    return money["amount_minor"], money["currency"]


VALUES: dict[str, Callable[[Row], tuple[Any, ...]]] = {
    "payment": lambda row: (row["status"], *_money(row["amount"]), _seconds(row.get("at"))),
    "charge": lambda row: (row["type"], *_money(row["amount"]), _seconds(row.get("at"))),
    "notification": lambda row: (row["channel"], row["notice"], row["status"], _seconds(row.get("at"))),
}


def _number(connection: Connection, query: str) -> int:
    number: int = connection.exec_driver_sql(query).scalar_one()
    return number
