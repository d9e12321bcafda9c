"""The simulated gateway's SQL: its ledger, the attempts for each idempotency key, and the refunds that are to fail."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, Row, String, Table, select

from shared.persistence.backends import insert_into
from shared.persistence.bulk import BulkInsert, skip_existing
from shared.persistence.one_of import one_of
from shared.persistence.pages import ReadPages
from shared.persistence.prune import Prune
from shared.persistence.utc import UtcDateTime

metadata = MetaData()

ledger = Table(
    "ledger",
    metadata,
    Column("idempotency_key", String, primary_key=True),
    Column("charge_id", String, nullable=False, unique=True),
    Column("order_id", String, nullable=False),
    Column("type", String, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", String, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

tries = Table(
    "tries",
    metadata,
    Column("idempotency_key", String, primary_key=True),
    Column("count", Integer, nullable=False),
)

failing_refunds = Table("failing_refunds", metadata, Column("order_id", String, primary_key=True))

_NEW_ENTRIES = BulkInsert(ledger, skip_existing)
_NEW_FAILING = BulkInsert(failing_refunds, skip_existing)
_BY_KEY = select(ledger).where(one_of(ledger.c.idempotency_key, "values"))
_BY_ID = select(ledger).where(one_of(ledger.c.charge_id, "values"))
_FAILING = select(failing_refunds).where(one_of(failing_refunds.c.order_id, "values"))


@dataclass(frozen=True)
class Entry:
    """Money that was moved, or is to be. `type`: `charge` or `refund`. `charge_id`: its own id, also of a refund."""

    idempotency_key: str
    charge_id: str
    order_id: str
    type: str
    amount_minor: int
    currency: str


def move(connection: Connection, requests: Sequence[Entry | str]) -> list[Entry | None]:
    """The entry that the ledger has for each key, after each entry was inserted whose key is new.

    A request that is a key alone inserts nothing. It is no operation of its own, so that it waits in line with the
    entries: one that its caller has given up may be among them.
    """
    now = datetime.now(UTC)
    entries = [each for each in requests if isinstance(each, Entry)]
    if entries:
        _NEW_ENTRIES.run(connection, [{**vars(each), "at": now} for each in entries])
    keys = [each.idempotency_key if isinstance(each, Entry) else each for each in requests]
    made = {row.idempotency_key: _entry(row) for row in connection.execute(_BY_KEY, {"values": set(keys)})}
    return [made.get(key) for key in keys]


def charge_of(connection: Connection, charge_ids: list[str]) -> list[Entry | None]:
    """The charge of each id, if there is one."""
    rows = connection.execute(_BY_ID, {"values": set(charge_ids)})
    found = {row.charge_id: _entry(row) for row in rows if row.type == "charge"}
    return [found.get(charge_id) for charge_id in charge_ids]


def _entry(row: Row[Any]) -> Entry:
    return Entry(row.idempotency_key, row.charge_id, row.order_id, row.type, row.amount_minor, row.currency)


def count_attempt(connection: Connection, keys: list[str]) -> list[int]:
    """Count an attempt for each key; returns the number of attempts so far."""
    first = insert_into(connection.dialect.name, tries).values(count=1)
    counted = first.on_conflict_do_update(index_elements=["idempotency_key"], set_={"count": tries.c.count + 1})
    count = counted.returning(tries.c.count)
    return [connection.execute(count.values(idempotency_key=key)).scalar_one() for key in keys]


def let_refunds_fail(connection: Connection, order_ids: list[str]) -> list[None]:
    """From now on the refund of each order fails."""
    _NEW_FAILING.run(connection, [{"order_id": order_id} for order_id in order_ids])
    return [None for _ in order_ids]


def refund_fails(connection: Connection, order_ids: list[str]) -> list[bool]:
    """Whether the refund of each order is to fail."""
    failing = {row.order_id for row in connection.execute(_FAILING, {"values": set(order_ids)})}
    return [order_id in failing for order_id in order_ids]


def repair_refund(connection: Connection, order_ids: list[str]) -> list[bool]:
    """From now on the refund of each order works; whether it was to fail."""
    failing = refund_fails(connection, order_ids)
    connection.execute(failing_refunds.delete().where(failing_refunds.c.order_id.in_(order_ids)))
    return failing


pages = ReadPages(ledger, ledger.c.charge_id)
PRUNES = [Prune(key) for key in (ledger.c.idempotency_key, tries.c.idempotency_key, failing_refunds.c.order_id)]
