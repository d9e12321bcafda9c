"""The notification service alone: each channel sends its notice once; email goes out by SMTP."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.events import NotificationFailed
from shared.ids import new_id
from shared.settings import BrokerSettings
from tests import examples
from tests.service.mail import MailServer, serving
from tests.service.process import RunningService, problem, running
from tests.service.wire import Wire
from tests.support import eventually

EMAIL_QUEUE = "notification_service.email"


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    with serving(MailServer()) as server:
        yield server


@pytest_asyncio.fixture(scope="module")
async def service(
    module_broker_settings: BrokerSettings, directory: Path, mail: MailServer
) -> AsyncIterator[RunningService]:
    async with running("notification_service", module_broker_settings, directory, EMAIL_URL=mail.url) as service:
        yield service


@pytest.fixture
def recipient() -> str:
    return f"{new_id()}@example.com"


async def notified(service: RunningService, order_id: str, **statuses: str) -> dict[str, dict[str, Any]]:
    """The notifications of an order by channel, once they are these with these statuses."""

    async def look() -> dict[str, dict[str, Any]] | None:
        rows = (await service.http.get("/notifications", params={"order_id": order_id})).raise_for_status().json()
        found = {row["channel"]: row for row in rows}
        return found if {channel: row["status"] for channel, row in found.items()} == statuses else None

    found: dict[str, dict[str, Any]] | None = await eventually(look, 15, f"notifications {statuses}")
    assert found is not None
    return found


async def test_a_paid_order_is_notified_over_every_channel(
    service: RunningService, wire: Wire, mail: MailServer, recipient: str
) -> None:
    paid = examples.payment_succeeded(email=recipient, phone=examples.PHONE)
    wire.send(paid)

    found = await notified(service, paid.subject, email="delivered", sms="delivered", restaurant="delivered")

    assert {channel: (row["notice"], row["attempts"]) for channel, row in found.items()} == {
        "email": ("receipt", 1), "sms": ("receipt", 1), "restaurant": ("kitchen_ticket", 1)
    }  # fmt: skip
    await eventually(lambda: len(wire.messages("notifications", paid.subject)) == 3)
    for message in wire.messages("notifications", paid.subject):
        assert message.routing_key == message.type == "notification.delivered.v1"
        assert (message.app_id, message.content_type) == ("notification_service", "application/cloudevents+json")
    rows = [row for row in await service.audit() if row["order_id"] == paid.subject]
    assert sorted((row["kind"], row["channel"], row["status"]) for row in rows) == [
        ("notification", channel, "delivered") for channel in ("email", "restaurant", "sms")
    ]
    (received,) = mail.received(recipient)
    assert (received["To"], received["X-Order-Id"]) == (recipient, paid.subject)
    assert received["Subject"] == "Your order is confirmed (22.00 EUR)"
    assert received["Message-ID"].endswith("@order-rail.example>")
    assert b"Pizza Margherita" in received.as_bytes()


async def test_a_declined_payment_is_notified_to_the_customer_only(
    service: RunningService, wire: Wire, mail: MailServer, recipient: str
) -> None:
    declined = examples.payment_declined(email=recipient)
    wire.send(declined)

    found = await notified(service, declined.subject, email="delivered")

    assert found["email"]["notice"] == "decline"
    assert [each["Subject"] for each in mail.received(recipient)] == ["Your payment was declined"]


async def test_the_same_payment_ten_times_sends_one_mail(
    service: RunningService, wire: Wire, mail: MailServer, recipient: str
) -> None:
    paid = examples.payment_succeeded(email=recipient)
    before = await service.metric("duplicate_deliveries_total")

    wire.send(paid, times=10)

    async def counted() -> bool:
        return await service.metric("duplicate_deliveries_total") - before == 18  # email and restaurant

    await eventually(counted, expecting="the duplicates to be counted")
    await notified(service, paid.subject, email="delivered", restaurant="delivered")
    assert len(mail.received(recipient)) == 1
    assert len(wire.messages("notifications", paid.subject)) == 2


@pytest.mark.parametrize("answer", ["451 try again later", "451 bitte sp\udcfcter", "421 closing"])
async def test_a_busy_mail_server_is_asked_again(
    service: RunningService, wire: Wire, mail: MailServer, recipient: str, answer: str
) -> None:
    mail.answers[recipient] = [answer] * 3
    paid = examples.payment_succeeded(email=recipient)
    wire.send(paid)

    found = await notified(service, paid.subject, email="delivered", restaurant="delivered")

    assert found["email"]["attempts"] > 1
    assert len(mail.received(recipient)) == 1


@pytest.mark.parametrize("answer", ["550 no such user", "550 Empf\udce4nger unbekannt"])
async def test_a_refused_mail_is_dead_lettered_and_published_and_a_redrive_delivers_it(
    service: RunningService, wire: Wire, mail: MailServer, recipient: str, answer: str
) -> None:
    mail.answers[recipient] = [answer]
    paid = examples.payment_succeeded(email=recipient)
    wire.send(paid)

    message = await wire.dead_letter(EMAIL_QUEUE, paid.id)
    event = await wire.event("notifications", paid.subject, "notification.failed.v1")

    assert message.headers["dead-letter-reason"] == "mail-refused"
    assert message.headers["dead-letter-attempts"] == 1
    assert isinstance(event, NotificationFailed)
    assert (event.data.channel, event.data.notice) == ("email", "receipt")
    assert "550" in event.data.error
    await notified(service, paid.subject, email="failed", restaurant="delivered")

    wire.send(paid)

    await notified(service, paid.subject, email="delivered", restaurant="delivered")
    await wire.event("notifications", paid.subject, "notification.delivered.v1")


async def test_a_bad_query_names_the_parameter(service: RunningService) -> None:
    for query in ("", "?order_id=nonsense", "?order_id="):
        found = problem(await service.http.get(f"/notifications{query}"), 422)
        assert found["errors"][0]["field"] == "order_id"
    unknown = await service.http.get("/notifications", params={"order_id": new_id()})
    assert (unknown.status_code, unknown.json()) == (200, [])


async def test_a_mail_server_that_never_answers_does_not_delay_the_kitchen(
    service: RunningService, wire: Wire, mail: MailServer, recipient: str
) -> None:
    mail.silent.add(recipient)
    orders = [examples.payment_succeeded(email=recipient) for _ in range(20)]
    for paid in orders:
        wire.send(paid)

    for paid in orders:
        await notified(service, paid.subject, restaurant="delivered")

    assert mail.received(recipient) == []
    mail.silent.clear()
    for paid in orders:
        await notified(service, paid.subject, email="delivered", restaurant="delivered")
