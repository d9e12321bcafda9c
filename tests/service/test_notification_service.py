"""The notification service alone: each channel tells those who should know, once; email goes out by SMTP."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.events import NotificationFailed
from shared.ids import new_id
from shared.settings import BrokerSettings
from tests import examples
from tests.service.mail import MailServer, serving
from tests.service.process import RunningService, running
from tests.service.wire import Wire
from tests.support import eventually

EMAIL_QUEUE = "notification_service.email"


@pytest.fixture(scope="module")
def mail() -> Any:
    with serving(MailServer()) as server:
        yield server


@pytest_asyncio.fixture(scope="module")
async def service(
    module_broker_settings: BrokerSettings, directory: Path, mail: MailServer
) -> AsyncIterator[RunningService]:
    async with running("notification_service", module_broker_settings, directory, EMAIL_URL=mail.url) as service:
        yield service


async def told(service: RunningService, order_id: str) -> dict[str, dict[str, Any]]:
    """Each channel's notification of an order."""
    rows = (await service.http.get("/notifications", params={"order_id": order_id})).raise_for_status().json()
    return {row["channel"]: row for row in rows}


async def all_told(service: RunningService, order_id: str, channels: set[str]) -> dict[str, dict[str, Any]]:
    async def look() -> dict[str, dict[str, Any]] | None:
        found = await told(service, order_id)
        return found if set(found) == channels else None

    found: dict[str, dict[str, Any]] | None = await eventually(look, 15, f"notifications over {channels}")
    assert found is not None
    return found


async def test_a_paid_order_is_told_over_every_channel(service: RunningService, wire: Wire, mail: MailServer) -> None:
    paid = examples.payment_succeeded(email=f"{new_id()}@example.com", phone=examples.PHONE)
    wire.send(paid)

    found = await all_told(service, paid.subject, {"email", "sms", "restaurant"})

    assert {channel: (row["notice"], row["status"], row["attempts"]) for channel, row in found.items()} == {
        "email": ("receipt", "delivered", 1),
        "sms": ("receipt", "delivered", 1),
        "restaurant": ("kitchen_ticket", "delivered", 1),
    }
    await eventually(lambda: len(wire.messages("notifications", paid.subject)) == 3)
    for message in wire.messages("notifications", paid.subject):
        assert message.routing_key == message.type == "notification.delivered.v1"
        assert (message.app_id, message.content_type) == ("notification_service", "application/cloudevents+json")
    rows = [row for row in await service.audit() if row["order_id"] == paid.subject]
    assert sorted((row["kind"], row["channel"], row["status"]) for row in rows) == [
        ("notification", channel, "delivered") for channel in ("email", "restaurant", "sms")
    ]


async def test_a_receipt_arrives_by_smtp(service: RunningService, wire: Wire, mail: MailServer) -> None:
    recipient = f"{new_id()}@example.com"
    paid = examples.payment_succeeded(email=recipient)
    wire.send(paid)
    await all_told(service, paid.subject, {"email", "restaurant"})

    (received,) = mail.received(recipient)

    assert received["To"] == recipient
    assert received["Subject"] == "Your order is confirmed (22.00 EUR)"
    assert received["X-Order-Id"] == paid.subject
    assert received["Message-ID"].endswith("@order-rail.example>")
    text = received.get_payload(decode=True)
    assert isinstance(text, bytes)
    assert b"Pizza Margherita" in text


async def test_a_declined_payment_is_told_to_the_customer_only(
    service: RunningService, wire: Wire, mail: MailServer
) -> None:
    recipient = f"{new_id()}@example.com"
    declined = examples.payment_declined(email=recipient)
    wire.send(declined)

    found = await all_told(service, declined.subject, {"email"})

    assert found["email"]["notice"] == "decline"
    assert [each["Subject"] for each in mail.received(recipient)] == ["Your payment was declined"]


async def test_the_same_payment_ten_times_sends_one_mail(service: RunningService, wire: Wire, mail: MailServer) -> None:
    recipient = f"{new_id()}@example.com"
    paid = examples.payment_succeeded(email=recipient)
    before = await service.metric("duplicate_deliveries_total")
    wire.send(paid)
    await all_told(service, paid.subject, {"email", "restaurant"})

    wire.send(paid, times=9)

    async def counted() -> bool:
        return await service.metric("duplicate_deliveries_total") - before == 18  # email and restaurant

    await eventually(counted, expecting="the duplicates to be counted")
    assert len(mail.received(recipient)) == 1
    assert len(wire.messages("notifications", paid.subject)) == 2


@pytest.mark.parametrize("answer", ["451 try again later", "451 bitte sp\udcfcter", "421 closing"])
async def test_a_busy_mail_server_is_asked_again(
    service: RunningService, wire: Wire, mail: MailServer, answer: str
) -> None:
    recipient = f"{new_id()}@example.com"
    mail.answers[recipient] = [answer] * 3
    paid = examples.payment_succeeded(email=recipient)
    wire.send(paid)

    found = await all_told(service, paid.subject, {"email", "restaurant"})

    assert found["email"]["status"] == "delivered"
    assert found["email"]["attempts"] > 1
    assert len(mail.received(recipient)) == 1


@pytest.mark.parametrize("answer", ["550 no such user", "550 Empf\udce4nger unbekannt"])
async def test_a_refused_mail_is_parked_and_told(
    service: RunningService, wire: Wire, mail: MailServer, answer: str
) -> None:
    recipient = f"{new_id()}@example.com"
    mail.answers[recipient] = [answer] * 100
    paid = examples.payment_succeeded(email=recipient)
    wire.send(paid)

    letter = await wire.dead_letter(EMAIL_QUEUE, paid.id)
    event = await wire.event("notifications", paid.subject, "notification.failed.v1")

    assert letter.headers["dead-letter-reason"] == "mail-refused"
    assert letter.headers["dead-letter-attempts"] == 1
    assert isinstance(event, NotificationFailed)
    assert (event.data.channel, event.data.notice) == ("email", "receipt")
    assert "550" in event.data.error
    found = await all_told(service, paid.subject, {"email", "restaurant"})
    assert found["email"]["status"] == "failed"


async def test_a_redriven_mail_that_was_refused_is_delivered(
    service: RunningService, wire: Wire, mail: MailServer
) -> None:
    recipient = f"{new_id()}@example.com"
    mail.answers[recipient] = ["550 mailbox is full"]
    paid = examples.payment_succeeded(email=recipient)
    wire.send(paid)
    await wire.dead_letter(EMAIL_QUEUE, paid.id)

    wire.send(paid)

    async def delivered() -> bool:
        return bool((await told(service, paid.subject))["email"]["status"] == "delivered")

    await eventually(delivered)
    await wire.event("notifications", paid.subject, "notification.delivered.v1")


async def test_a_bad_query_names_the_parameter(service: RunningService) -> None:
    for query in ("", "?order_id=nonsense", "?order_id="):
        answer = await service.http.get(f"/notifications{query}")
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["errors"][0]["field"] == "order_id"
    nobody = await service.http.get("/notifications", params={"order_id": new_id()})
    assert (nobody.status_code, nobody.json()) == (200, [])


async def test_a_mail_server_that_is_down_does_not_hold_up_the_kitchen(
    service: RunningService, wire: Wire, mail: MailServer
) -> None:
    """It takes the mail and never answers, the worst way of being down."""
    recipient = f"{new_id()}@example.com"
    mail.silent.add(recipient)
    orders = [examples.payment_succeeded(email=recipient) for _ in range(20)]
    for paid in orders:
        wire.send(paid)

    for paid in orders:
        found = await all_told(service, paid.subject, {"restaurant"})
        assert found["restaurant"]["status"] == "delivered"

    assert mail.received(recipient) == []
    mail.silent.clear()
    for paid in orders:
        await all_told(service, paid.subject, {"email", "restaurant"})
