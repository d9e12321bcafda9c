"""The shop of the peers that do all that Order Rail does for an order."""

from collections.abc import Iterator

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from benchmarks.contenders import ORDER_RAIL
from benchmarks.load.order import ORDER
from benchmarks.peers import all_steps
from benchmarks.peers.shop import (
    Base,
    ChargeRecord,
    NoticeRecord,
    OrderRecord,
    PaymentRecord,
    PlacedOrder,
    TimelineRecord,
    create_tables,
    engine,
)
from order_service.orders import OrderRequest


@pytest.fixture(autouse=True)
def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("GATEWAY_URL", f"simulated+{database_url}")
    create_tables(database_url)
    yield
    engine().dispose()


def place() -> PlacedOrder:
    with Session(engine()) as session:
        return all_steps.place(session, OrderRequest.model_validate_json(ORDER))


def count(table: type[Base]) -> int | None:
    with Session(engine()) as session:
        return session.scalar(select(func.count()).select_from(table))


def test_an_order_stays_in_the_outbox_until_its_message_is_published() -> None:
    placed = place()

    with pytest.raises(ConnectionError), all_steps.outbox_batch() as messages:
        raise ConnectionError
    with all_steps.outbox_batch() as messages:
        assert [PlacedOrder.model_validate(message) for message in messages] == [placed]
    with all_steps.outbox_batch() as messages:
        assert messages == []


def test_an_order_whose_every_delivery_comes_twice_goes_once_through_all_steps() -> None:
    placed, deliveries = place(), 0
    for _ in range(2):
        paid = all_steps.charge(placed)
        notices = [all_steps.notify(channel, paid) for channel in all_steps.NOTICES]
        reports = [paid, *(report for report in notices if report)]
        for report in reports:
            all_steps.track(report)
        deliveries = 1 + len(notices) + len(reports)

    assert deliveries == ORDER_RAIL.deliveries
    assert count(ChargeRecord) == count(PaymentRecord) == 1
    assert (count(NoticeRecord), count(TimelineRecord)) == (2, 3)
    with Session(engine()) as session:
        assert session.get_one(OrderRecord, placed.order_id).status == "confirmed"
