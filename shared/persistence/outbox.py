"""The outbox: events written in the same commit as the facts that they report. `relay.py` publishes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy import BigInteger, Column, Connection, Identity, Index, Integer, LargeBinary, MetaData, String, Table

from shared.events import Event, encode
from shared.messaging.keys import keys_of
from shared.messaging.message import Message
from shared.persistence.bulk import BulkInsert
from shared.persistence.one_of import one_of
from shared.persistence.transactions import hand_over

Tables = MetaData
"""The tables of one service, the outbox among them."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    id: int
    message: Message


class Outbox:
    """The table, in the metadata of the service that owns it, and its only SQL. Its events go to `exchange`."""

    def __init__(self, metadata: MetaData, exchange: str) -> None:
        self._exchange = exchange
        self.table = Table(
            "outbox",
            metadata,
            Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
            Column("event_id", String, nullable=False),
            Column("exchange", String, nullable=False),
            Column("type", String, nullable=False),
            Column("source", String, nullable=False),
            Column("timestamp", BigInteger, nullable=False),
            Column("body", LargeBinary, nullable=False),
            Column("returns", Integer, nullable=False, server_default="0"),
        )
        Index("outbox_order", self.table.c.returns, self.table.c.id)
        columns = self.table.c
        # Built once: building a statement takes twice as long as running it.
        self._insert = BulkInsert(self.table)
        limit: Any = sqlalchemy.bindparam("limit")
        self._next = self.table.select().order_by(columns.returns, columns.id).limit(limit)
        self._next_locked = self._next.with_for_update(skip_locked=True)
        self._forget = self.table.delete().where(one_of(columns.id, "ids"))
        self._put_behind = self.table.update().where(one_of(columns.id, "ids")).values(returns=columns.returns + 1)

    def add(self, connection: Connection, events: Sequence[Event]) -> None:
        """Write the events within the caller's transaction. Raises `Oversize` before anything is inserted.

        Once they are committed, the listeners of `Database.on_commit` get the rows; on PostgreSQL, where another
        replica may publish them first, an empty list.
        """
        if events:
            messages = [self._message(event) for event in events]
            self._insert.run(connection, [_values(message) for message in messages])
            hand_over(connection, _added(connection, messages))

    def waiting(self, connection: Connection, limit: int, *, locked: bool = False) -> list[OutboxRow]:
        """The next rows, oldest first; those the broker has returned come after the others, so they block nobody."""
        query = self._next_locked if locked else self._next
        return [
            OutboxRow(
                row.id,
                Message(exchange=row.exchange, routing_key=row.type, body=row.body, message_id=row.event_id,
                        type=row.type, app_id=row.source, timestamp=row.timestamp, headers=keys_of(row.type, row.body)),
            )
            for row in connection.execute(query, {"limit": limit})
        ]  # fmt: skip

    def forget(self, connection: Connection, ids: list[int]) -> None:
        connection.execute(self._forget, {"ids": ids})

    def put_behind(self, connection: Connection, ids: list[int]) -> None:
        connection.execute(self._put_behind, {"ids": ids})

    def count(self, connection: Connection) -> int:
        return connection.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(self.table)).scalar_one()

    def _message(self, event: Event) -> Message:
        body = encode(event)
        return Message(exchange=self._exchange, routing_key=event.type, body=body, message_id=event.id, type=event.type,
                       app_id=event.source, timestamp=int(event.time.timestamp()),
                       headers=keys_of(event.type, body))  # fmt: skip


def _values(message: Message) -> dict[str, object]:
    return {
        "event_id": message.message_id,
        "exchange": message.exchange,
        "type": message.type,
        "source": message.app_id,
        "timestamp": message.timestamp,
        "body": message.body,
    }


def _added(connection: Connection, messages: list[Message]) -> list[OutboxRow]:
    """The rows just inserted. On SQLite their ids are consecutive, since only one transaction at a time writes."""
    if connection.dialect.name != "sqlite":
        return []
    last = connection.exec_driver_sql("SELECT last_insert_rowid()").scalar_one()
    return [OutboxRow(id, message) for id, message in enumerate(messages, last - len(messages) + 1)]
