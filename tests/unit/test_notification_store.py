"""The notification service's table: each letter is recorded once, and its event in the same commit."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest_asyncio
from sqlalchemy import Connection

from notification_service import store
from notification_service.notifications import Notification, NotificationStatus
from shared.effects import Recording
from shared.events import Channel, Notice
from shared.ids import new_id
from shared.persistence.database import Database
from shared.persistence.pages import Page
from tests import examples
from tests.support import start_ready


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, store.metadata, name="notifications")
    await start_ready(database)
    yield database
    await database.stop()


def delivered(
    order_id: str, channel: Channel = "email", notice: Notice = "receipt", attempts: int = 1
) -> Recording[Notification]:
    key = f"{order_id}/{channel}/{notice}"
    notification = Notification(
        key, order_id, channel, notice, NotificationStatus.DELIVERED, attempts, datetime.now(UTC), new_id()
    )
    return Recording(notification, examples.receipt_delivered(order_id))


def failed(order_id: str) -> Recording[Notification]:
    key = f"{order_id}/email/receipt"
    notification = Notification(
        key, order_id, "email", "receipt", NotificationStatus.FAILED, 3, datetime.now(UTC), new_id()
    )
    return Recording(notification, examples.receipt_failed(order_id))


async def told(database: Database) -> list[str | None]:
    def read(connection: Connection, limits: list[int]) -> list[list[str | None]]:
        return [[row.message.type for row in store.outbox.waiting(connection, limit)] for limit in limits]

    return await database.read(read, 100)


async def test_a_letter_is_recorded_and_told_once(database: Database) -> None:
    order_id = new_id()
    recordings = [delivered(order_id, attempts=attempt) for attempt in (1, 2, 3)]

    written = await asyncio.gather(*(database.write(store.record, recording) for recording in recordings))

    assert written == [True, False, False]
    assert await database.read(store.of_orders, order_id) == [recordings[0].record]
    assert await told(database) == ["notification.delivered.v1"]


async def test_a_letter_that_was_given_up_may_still_be_delivered(database: Database) -> None:
    order_id = new_id()
    key = f"{order_id}/email/receipt"

    assert await database.write(store.record, failed(order_id))
    known = await database.read(store.get, key)
    assert known is not None
    assert known.status is NotificationStatus.FAILED
    assert await database.write(store.record, delivered(order_id))
    known = await database.read(store.get, key)
    assert known is not None
    assert known.status is NotificationStatus.DELIVERED
    assert not await database.write(store.record, failed(order_id))
    assert await told(database) == ["notification.failed.v1", "notification.delivered.v1"]


async def test_an_order_has_its_own_notifications_and_no_others(database: Database) -> None:
    order_id, other_id = new_id(), new_id()
    for recording in (
        delivered(order_id),
        delivered(order_id, "sms"),
        delivered(order_id, "restaurant", "kitchen_ticket"),
        delivered(other_id),
    ):
        await database.write(store.record, recording)

    found = await database.read(store.of_orders, order_id)

    assert [(each.order_id, each.channel) for each in found] == [
        (order_id, "email"), (order_id, "restaurant"), (order_id, "sms")
    ]  # fmt: skip
    assert await database.read(store.of_orders, new_id()) == []


async def test_the_audit_walks_every_notification_once_oldest_order_first(database: Database) -> None:
    order_ids = [new_id() for _ in range(4)]
    for order_id in reversed(order_ids):
        await database.write(store.record, delivered(order_id))
        await database.write(store.record, delivered(order_id, "sms"))

    walked: list[Any] = []
    while rows := await database.read(store.pages, Page(walked[-1].idempotency_key if walked else None, 3)):
        walked += rows

    assert [each.order_id for each in walked] == [order_id for order_id in order_ids for _ in range(2)]
