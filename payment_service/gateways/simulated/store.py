"""The simulated gateway's SQL: its ledger of charges, and the number of attempts for each idempotency key."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, String, Table, bindparam, select

from shared.persistence.backends import insert_new
from shared.persistence.database import UtcDateTime
from shared.persistence.pages import ReadPages

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

_BY_KEY = select(ledger).where(ledger.c.idempotency_key.in_(bindparam("keys", expanding=True)))


@dataclass(frozen=True, slots=True)
class Charge:
    """A request to charge. The order id is the idempotency key. `charge_id` is used if the key is new."""

    order_id: str
    charge_id: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    charge_id: str
    amount_minor: int
    currency: str
    is_new: bool


def charge(connection: Connection, charges: list[Charge]) -> list[LedgerEntry]:
    """Insert each charge whose key is new; returns the ledger's entry for each key."""
    now = datetime.now(UTC)
    values = [
        {
            "idempotency_key": each.order_id,
            "charge_id": each.charge_id,
            "order_id": each.order_id,
            "type": "charge",
            "amount_minor": each.amount_minor,
            "currency": each.currency,
            "at": now,
        }
        for each in charges
    ]
    connection.execute(insert_new(connection, ledger), values)
    rows = connection.execute(_BY_KEY, {"keys": {each.order_id for each in charges}})
    entries = {row.idempotency_key: row for row in rows}
    return [
        LedgerEntry(row.charge_id, row.amount_minor, row.currency, is_new=row.charge_id == each.charge_id)
        for each in charges
        for row in [entries[each.order_id]]
    ]


def count_attempt(connection: Connection, keys: list[str]) -> list[int]:
    """Count an attempt for each key; returns the number of attempts so far."""
    counts = []
    for key in keys:
        connection.execute(insert_new(connection, tries), [{"idempotency_key": key, "count": 0}])
        increment = tries.update().where(tries.c.idempotency_key == key).values(count=tries.c.count + 1)
        counts.append(connection.execute(increment.returning(tries.c.count)).scalar_one())
    return counts


pages = ReadPages(ledger, ledger.c.charge_id)
