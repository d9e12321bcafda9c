"""The simulated gateway's ledger: what it has charged, and how often it was asked."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, String, Table, bindparam, select

from shared.persistence.database import UtcDateTime, insert_new
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
    """A request to charge. The order id is the idempotency key; `charge_id` is the new charge's, if it becomes one."""

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
    """Enter each charge whose key is new; for each, the entry that now stands under its key."""
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
        LedgerEntry(
            charge_id=(row := entries[each.order_id]).charge_id,
            amount_minor=row.amount_minor,
            currency=row.currency,
            is_new=row.charge_id == each.charge_id,
        )
        for each in charges
    ]


def count_try(connection: Connection, keys: list[str]) -> list[int]:
    """How often each key has been tried, this time included."""
    counts = []
    for key in keys:
        connection.execute(insert_new(connection, tries), [{"idempotency_key": key, "count": 0}])
        one_more = tries.update().where(tries.c.idempotency_key == key).values(count=tries.c.count + 1)
        counts.append(connection.execute(one_more.returning(tries.c.count)).scalar_one())
    return counts


pages = ReadPages(ledger, ledger.c.charge_id)
