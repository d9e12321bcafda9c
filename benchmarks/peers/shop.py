"""What the peers have in common: the rules of the shop, and a durable database for each service (`DATABASE_URL`).

The tables and the sessions are those of SQLAlchemy's and FastAPI's documentation: an ORM class a table, a session a
request or a task.
"""

import os
import time
from collections.abc import Iterator
from functools import cache
from threading import Lock
from typing import Annotated, Any

from fastapi import Depends
from pydantic import BaseModel
from sqlalchemy import JSON, Engine, create_engine, event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from order_service.orders import OrderRequest, price
from shared.events import OrderSummary
from shared.ids import new_id

LOCK_TIMEOUT_SECONDS = 30.0
SERVER_CONNECTIONS = 10
"""Of each process. PostgreSQL takes 100, and a peer has up to 6 processes and 7 pools."""

_opening = Lock()


class Base(DeclarativeBase):
    """All tables; each service's database has all of them and uses its own."""


class OrderRecord(Base):
    __tablename__ = "orders"

    order_id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    summary: Mapped[dict[str, Any]] = mapped_column(JSON)
    payment_token: Mapped[str]
    placed_at: Mapped[float]


class PaymentRecord(Base):
    __tablename__ = "payments"

    order_id: Mapped[str] = mapped_column(primary_key=True)
    amount_minor: Mapped[int]
    currency: Mapped[str]
    charge_id: Mapped[str | None]
    """None where there is no gateway."""
    at: Mapped[float]


class NotificationRecord(Base):
    __tablename__ = "notifications"

    order_id: Mapped[str] = mapped_column(primary_key=True)
    customer_email: Mapped[str]
    at: Mapped[float]


class OutboxRecord(Base):
    """This and the following are of the peers that do all steps."""

    __tablename__ = "outbox"

    order_id: Mapped[str] = mapped_column(primary_key=True)
    message: Mapped[dict[str, Any]] = mapped_column(JSON)


class ChargeRecord(Base):
    """A row of the gateway's ledger, which has a database of its own."""

    __tablename__ = "charges"

    order_id: Mapped[str] = mapped_column(primary_key=True)
    charge_id: Mapped[str]
    amount_minor: Mapped[int]
    currency: Mapped[str]
    at: Mapped[float]


class NoticeRecord(Base):
    __tablename__ = "notices"

    order_id: Mapped[str] = mapped_column(primary_key=True)
    channel: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    recipient: Mapped[str]
    at: Mapped[float]


class TimelineRecord(Base):
    __tablename__ = "timeline"

    event_id: Mapped[str] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(index=True)
    type: Mapped[str]
    at: Mapped[float]
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)


class PlacedOrder(BaseModel):
    """The message from service to service, and the body of the 202."""

    order_id: str
    order: OrderSummary
    payment_token: str


def engine(variable: str = "DATABASE_URL") -> Engine:
    """The database that an environment variable names. Each commit is on disk before it returns, as in Order Rail's."""
    with _opening:  # many threads begin at the same time
        return _kept(os.environ[variable].removeprefix("simulated+"))


@cache
def _kept(url: str) -> Engine:
    return open_engine(url)


def open_engine(url: str) -> Engine:
    """SQLite: one connection a process. PostgreSQL: a pool that keeps its connections.

    SQLite takes one writer at a time, and threads that wait for the connection are woken in turn, while those that find
    the database locked sleep and try again. So the peers are up to half as fast again.
    """
    if not url.startswith("sqlite"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        return create_engine(url, pool_size=SERVER_CONNECTIONS, max_overflow=0)
    connect_args = {"check_same_thread": False, "timeout": LOCK_TIMEOUT_SECONDS}
    made = create_engine(url, connect_args=connect_args, pool_size=1, max_overflow=0)
    event.listen(made, "connect", _make_durable)
    return made


def _make_durable(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")  # stays so
    connection.execute("PRAGMA synchronous=FULL")


def create_tables(url: str) -> None:
    """What a migration would do before the service starts."""
    made = open_engine(url)
    Base.metadata.create_all(made)
    made.dispose()


def get_session() -> Iterator[Session]:
    """FastAPI's dependency: a session a request."""
    with Session(engine()) as session:
        yield session


SessionDependency = Annotated[Session, Depends(get_session)]


def place(session: Session, request: OrderRequest) -> PlacedOrder:
    """Price the order and commit it. Raises `UnknownDish`."""
    placed = add_order(session, request)
    session.commit()
    return placed


def add_order(session: Session, request: OrderRequest) -> PlacedOrder:
    """Price the order and add it to the session, which is not committed. Raises `UnknownDish`."""
    placed = PlacedOrder(order_id=new_id(), order=price(request), payment_token=request.payment_token)
    session.add(
        OrderRecord(
            order_id=placed.order_id,
            status="placed",
            summary=placed.order.model_dump(mode="json"),
            payment_token=placed.payment_token,
            placed_at=time.time(),
        )
    )
    return placed


def pay(order_id: str, amount_minor: int, currency: str) -> None:
    """Charge the order and commit that, unless it is done already. The gateway has no latency, and is not there."""
    insert_once(PaymentRecord(order_id=order_id, amount_minor=amount_minor, currency=currency, at=time.time()))


def notify(order_id: str, customer_email: str) -> None:
    """Tell the customer and commit that, unless it is done already. The mail goes nowhere, as in Order Rail's log."""
    insert_once(NotificationRecord(order_id=order_id, customer_email=customer_email, at=time.time()))


def insert_once(record: Base, database: Engine | None = None) -> bool:
    """Commit the record, in this service's database by default; False if its primary key was there already."""
    with Session(database or engine()) as session:
        session.add(record)
        try:
            session.commit()
        except IntegrityError:  # a second delivery of what is done
            session.rollback()
            return False
    return True
