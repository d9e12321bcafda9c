"""The tables of the analytics, SQLite or PostgreSQL, and their only SQL.

What was counted, and how far the stream was read, are written in one commit: so each event counts once, also after a
crash. All of it comes from the stream: a database of another version is emptied, and filled again from there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Double, Integer, MetaData, String, Table, case, func, select
from sqlalchemy.exc import SQLAlchemyError

from control_room.analytics.model import DURATIONS, Figure, JsonEvent, OrderFacts, count
from shared.ids import first_id
from shared.messaging.stream import Position
from shared.persistence.backends import backend_of
from shared.persistence.bulk import BulkInsert, skip_existing
from shared.persistence.failures import DatabaseUnavailable
from shared.persistence.one_of import one_of
from shared.persistence.prune import Prune, Stretch
from shared.urls import without_credentials

VERSION = 2
"""Of the tables and of what is counted in them."""
ALL_TIME = -1
"""Stands for the minute of a figure's total."""
ONLY = 1
FORGOTTEN_AT_ONCE = 1000
"""Orders in one transaction: a few milliseconds."""

metadata = MetaData()
facts_table = Table(
    "analytics_orders",
    metadata,
    Column("order_id", String, primary_key=True),
    *(Column(each.name, Double) for each in fields(OrderFacts)),
)
figures_table = Table(
    "analytics_figures",
    metadata,
    Column("minute", Integer, primary_key=True, autoincrement=False),
    Column("name", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)
progress_table = Table(
    "analytics_progress",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("last_offset", BigInteger),
    Column("last_message_id", String),
    Column("events", BigInteger, nullable=False),
    Column("missing", BigInteger, nullable=False),
    Column("forgotten_before", String, nullable=False),
)
_facts, _figures, _progress = facts_table.c, figures_table.c, progress_table.c
_STATUS = case(
    (_facts.refunded_at.is_not(None), "refunded"),
    (_facts.voided_at.is_not(None), "cancelled"),
    (_facts.cancelled_at.is_not(None), "cancelling"),
    (_facts.paid_at.is_not(None) & _facts.receipt_at.is_not(None), "confirmed"),
    (_facts.paid_at.is_not(None), "paid"),
    (_facts.declined_at.is_not(None), "declined"),
    else_="placed",
)
"""As the order service says it; a stalled order counts as placed."""


class AnalyticsUnavailable(Exception):
    """The database can't be used; the message says which and why."""


@dataclass(frozen=True)
class Progress:
    """How far the stream was read: None before the first message. `missing`: messages gone before they were read."""

    position: Position | None
    events: int
    missing: int


class AnalyticsStore:
    """One database. Every call may raise `AnalyticsUnavailable`, and blocks: an event loop calls it on a thread."""

    def __init__(self, url: str) -> None:
        self._backend, self._name = backend_of(url), without_credentials(url)
        self._add_facts = BulkInsert(facts_table, _replacing)
        self._add_figures = BulkInsert(figures_table, _adding)
        self._find = facts_table.select().where(one_of(_facts.order_id, "ids"))
        self._forget_oldest = Prune(_facts.order_id)

    def close(self) -> None:
        self._backend.engine.dispose()

    def prepare(self) -> None:
        """Create the tables; what another version has left there goes."""
        with self._transaction() as connection:
            metadata.create_all(connection)
            if connection.execute(select(_progress.version)).scalar() not in (None, VERSION):
                metadata.drop_all(connection)
                metadata.create_all(connection)
            first = {"id": ONLY, "version": VERSION, "events": 0, "missing": 0, "forgotten_before": ""}
            BulkInsert(progress_table, skip_existing).run(connection, [first])

    def progress(self) -> Progress:
        with self._transaction(writes=False) as connection:
            row = connection.execute(select(progress_table)).one()
        position = None if row.last_offset is None else Position(row.last_offset, row.last_message_id)
        return Progress(position, row.events, row.missing)

    def add(self, events: Sequence[JsonEvent], position: Position, missing: int = 0) -> None:
        """Count the events of all messages up to `position`, and note that it is read."""
        with self._transaction() as connection:
            # The row's lock makes another process wait that counts into the same database.
            forgotten = connection.execute(select(_progress.forgotten_before).with_for_update()).scalar_one()
            events = [event for event in events if event["subject"] >= forgotten]
            known = self._known(connection, events)
            before = dict(known)
            figures = count(events, known)
            changed = [(order, facts) for order, facts in known.items() if before.get(order) is not facts]
            if changed:
                self._add_facts.run(connection, [{"order_id": order, **asdict(facts)} for order, facts in changed])
            if rows := _with_totals(figures):
                self._add_figures.run(connection, rows)
            connection.execute(
                progress_table.update().values(
                    last_offset=position.offset, last_message_id=position.message_id,
                    events=_progress.events + len(events), missing=_progress.missing + missing,
                )
            )  # fmt: skip

    def forget(self, before: datetime) -> int:
        """Delete what is known of orders from before that moment, some of them; how many they were.

        Their totals stay, and their events do not count from now on: nobody could say whether they have counted.
        """
        first, minute = first_id(before), int(before.timestamp() // 60)
        with self._transaction() as connection:
            further = progress_table.update().where(_progress.forgotten_before < first)
            connection.execute(further.values(forgotten_before=first))
            connection.execute(figures_table.delete().where(_figures.minute > ALL_TIME, _figures.minute < minute))
            (deleted,) = self._forget_oldest(connection, [Stretch("", first, FORGOTTEN_AT_ONCE)])
        return len(deleted.keys)

    def begin_again(self) -> None:
        """The stream was made anew: read it from its beginning. What is counted stays, and counts once all the same."""
        with self._transaction() as connection:
            connection.execute(progress_table.update().values(last_offset=None, last_message_id=None))

    def figures(self, from_minute: int) -> dict[Figure, int]:
        """The figures of all minutes from this one on."""
        return self._select(_figures.minute >= max(0, from_minute))

    def totals(self) -> dict[tuple[str, str], int]:
        """Each figure's total since the beginning, by name and key; without durations."""
        found = self._select(_figures.minute == ALL_TIME)
        return {(figure.name, figure.key): amount for figure, amount in found.items()}

    def statuses(self) -> dict[str, int]:
        """How many of the placed orders have each status."""
        query = select(_STATUS, func.count()).where(_facts.placed_at.is_not(None)).group_by(_STATUS)
        with self._transaction(writes=False) as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def _select(self, condition: Any) -> dict[Figure, int]:
        with self._transaction(writes=False) as connection:
            rows = connection.execute(figures_table.select().where(condition)).all()
        return {Figure(row.minute, row.name, row.key): row.amount for row in rows}

    def _known(self, connection: Connection, events: Iterable[JsonEvent]) -> dict[str, OrderFacts]:
        ids = sorted({event["subject"] for event in events})
        return {row[0]: OrderFacts(*row[1:]) for row in connection.execute(self._find, {"ids": ids})}

    @contextmanager
    def _transaction(self, *, writes: bool = True) -> Iterator[Connection]:
        # SQLite's writers lock at once; PostgreSQL's usual transactions do for a single writer.
        options = {} if self._backend.is_shared else self._backend.options(writes)
        try:
            with self._backend.engine.execution_options(**options).begin() as connection:
                yield connection
        except (SQLAlchemyError, DatabaseUnavailable) as error:
            why = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            raise AnalyticsUnavailable(f"the analytics database {self._name} can't be used: {why}") from None


def _replacing(insert: Any) -> Any:
    new = {each.name: insert.excluded[each.name] for each in fields(OrderFacts)}
    return insert.on_conflict_do_update(index_elements=["order_id"], set_=new)


def _adding(insert: Any) -> Any:
    added = {"amount": figures_table.c.amount + insert.excluded.amount}
    return insert.on_conflict_do_update(index_elements=["minute", "name", "key"], set_=added)


def _with_totals(figures: Mapping[Figure, int]) -> list[dict[str, Any]]:
    totals: dict[Figure, int] = {}
    for figure, amount in figures.items():
        if figure.name != DURATIONS:
            total = figure._replace(minute=ALL_TIME)
            totals[total] = totals.get(total, 0) + amount
    return [{**figure._asdict(), "amount": amount} for figure, amount in {**figures, **totals}.items()]
