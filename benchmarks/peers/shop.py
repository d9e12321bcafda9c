"""What the peers have in common: the rules of the shop, and a durable database for each service (`DATABASE_URL`).

The tables and the sessions are those of SQLAlchemy's and FastAPI's documentation: an ORM class a table, a session a
request or a task.
"""

import os
import time
from collections.abc import Iterator
from functools import cache
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
    at: Mapped[float]


class NotificationRecord(Base):
    __tablename__ = "notifications"

    order_id: Mapped[str] = mapped_column(primary_key=True)
    customer_email: Mapped[str]
    at: Mapped[float]


class PlacedOrder(BaseModel):
    """The message from service to service, and the body of the 202."""

    order_id: str
    order: OrderSummary
    payment_token: str


@cache
def engine() -> Engine:
    """This service's database. Each commit is on disk before it returns, as in Order Rail's."""
    return open_engine(os.environ["DATABASE_URL"])


def open_engine(url: str) -> Engine:
    """SQLite: one connection a process. PostgreSQL: SQLAlchemy's own pool.

    SQLite takes one writer at a time, and threads that wait for the connection are woken in turn, while those that find
    the database locked sleep and try again. So the peers are up to half as fast again.
    """
    if not url.startswith("sqlite"):
        return create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
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
    session.commit()
    return placed


def pay(order_id: str, amount_minor: int, currency: str) -> None:
    """Charge the order and commit that, unless it is done already. The gateway has no latency, and is not there."""
    _insert_once(PaymentRecord(order_id=order_id, amount_minor=amount_minor, currency=currency, at=time.time()))


def notify(order_id: str, customer_email: str) -> None:
    """Tell the customer and commit that, unless it is done already. The mail goes nowhere, as in Order Rail's log."""
    _insert_once(NotificationRecord(order_id=order_id, customer_email=customer_email, at=time.time()))


def _insert_once(record: Base) -> None:
    with Session(engine()) as session:
        session.add(record)
        try:
            session.commit()
        except IntegrityError:  # a second delivery of what is done: the primary key refuses it
            session.rollback()
