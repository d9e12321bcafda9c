"""The simulated gateway's SQL: its ledger of charges, and the number of attempts for each idempotency key."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, String, Table, bindparam, select

from shared.persistence.backends import insert_into
from shared.persistence.bulk import BulkInsert, skip_existing
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

_NEW_CHARGES = BulkInsert(ledger, skip_existing)
_BY_KEY = select(ledger).where(ledger.c.idempotency_key.in_(bindparam("keys", expanding=True)))


@dataclass(frozen=True)
class Charge:
    """A charge, requested or made. The order id is its idempotency key; only a new key gets the requested id."""

    order_id: str
    charge_id: str
    amount_minor: int
    currency: str


def charge(connection: Connection, charges: list[Charge]) -> list[Charge]:
    """Insert each charge whose key is new; returns the charge that the ledger has for each key."""
    now = datetime.now(UTC)
    values = [{**vars(each), "idempotency_key": each.order_id, "type": "charge", "at": now} for each in charges]
    _NEW_CHARGES.run(connection, values)
    rows = connection.execute(_BY_KEY, {"keys": {each.order_id for each in charges}})
    made = {row.order_id: Charge(row.order_id, row.charge_id, row.amount_minor, row.currency) for row in rows}
    return [made[each.order_id] for each in charges]


def count_attempt(connection: Connection, keys: list[str]) -> list[int]:
    """Count an attempt for each key; returns the number of attempts so far."""
    first = insert_into(connection.dialect.name, tries).values(count=1)
    counted = first.on_conflict_do_update(index_elements=["idempotency_key"], set_={"count": tries.c.count + 1})
    count = counted.returning(tries.c.count)
    return [connection.execute(count.values(idempotency_key=key)).scalar_one() for key in keys]


pages = ReadPages(ledger, ledger.c.charge_id)
