"""The notification service alone: each channel sends its notice once, whatever happens meanwhile."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from shared.events import NotificationFailed
from shared.ids import new_id
from shared.management import Management
from shared.settings import BrokerSettings
from tests import examples
from tests.amqp import close_connection
from tests.service.mail import MailServer
from tests.service.process import RunningService, problem, running
from tests.service.wire import Wire
from tests.support import eventually, never

EMAIL_QUEUE = "notification_service.email"
MAILS = 5


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
    await wire.event("notifications", paid.subject, "notification.delivered.v1")
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


async def test_a_refused_mail_is_dead_lettered_and_published_and_a_redrive_delivers_it(
    service: RunningService, wire: Wire, mail: MailServer, recipient: str
) -> None:
    mail.refusals[recipient] = ["550 Empf\udce4nger unbekannt"]
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


def send_payments(wire: Wire) -> dict[str, str]:
    """Each leads to a mail: the recipient, and the order."""
    payments = [examples.payment_succeeded(email=f"{new_id()}@example.com") for _ in range(MAILS)]
    for paid in payments:
        wire.send(paid)
    return {paid.data.order.customer_email: paid.subject for paid in payments}


async def mails_under_way(wire: Wire, mail: MailServer) -> dict[str, str]:
    """The same for mails that the server has been sent and does not answer yet."""
    mail.is_silent = True
    orders = send_payments(wire)
    await eventually(lambda: orders.keys() <= set(mail.recipients), expecting="every mail to be under way")
    return orders


async def test_a_mail_server_that_never_answers_does_not_delay_the_kitchen(
    service: RunningService, wire: Wire, mail: MailServer
) -> None:
    orders = await mails_under_way(wire, mail) | send_payments(wire) | send_payments(wire)

    for order_id in orders.values():
        await notified(service, order_id, restaurant="delivered")

    mail.is_silent = False
    for order_id in orders.values():
        await notified(service, order_id, email="delivered", restaurant="delivered")


@asynccontextmanager
async def full_disk(service: RunningService) -> AsyncIterator[None]:
    """The kernel refuses every write that makes a file of the service longer."""
    process = psutil.Process(service.process.pid)
    allowed = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (0, allowed[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, allowed)


async def test_a_mail_that_can_not_be_recorded_is_sent_once(
    service: RunningService, wire: Wire, mail: MailServer
) -> None:
    early = await mails_under_way(wire, mail)
    async with full_disk(service):
        mail.is_silent = False
        await eventually(lambda: service.answers("/readyz", 503), 20, "/readyz to say so")
        await eventually(lambda: all(mail.received(recipient) for recipient in early), 20, "the mails to be sent")
        asked, late = len(mail.recipients), send_payments(wire)

        async def all_held() -> bool:
            return await service.metric("deliveries_held", queue=EMAIL_QUEUE) == MAILS

        await eventually(all_held, 20, "further mails to be held")
        await never(lambda: len(mail.recipients) > asked, 5, "another mail while nothing can be recorded")

    for recipient, order_id in (early | late).items():
        await notified(service, order_id, email="delivered", restaurant="delivered")
        assert len(mail.received(recipient)) == 1


async def test_a_mail_that_is_under_way_when_its_delivery_is_repeated_is_sent_once(
    service: RunningService, wire: Wire, mail: MailServer
) -> None:
    orders = await mails_under_way(wire, mail)
    opened, duplicates = [await service.metric(name) for name in ("broker_connections_opened", "duplicate_deliveries")]
    await close_connection(wire.settings, "notification_service consumer")

    async def all_redelivered() -> bool:
        assert await service.metric("broker_connections_opened") > opened
        async with Management(wire.settings) as management:
            queue = await management.find("queues", wire.settings.vhost, EMAIL_QUEUE)
        return bool(queue.get("messages_unacknowledged") == MAILS)

    await eventually(all_redelivered, 30, "the broker to deliver them again")
    mail.is_silent = False

    async def all_duplicates() -> bool:
        return await service.metric("duplicate_deliveries") - duplicates >= MAILS

    await eventually(all_duplicates, 20, "the second deliveries to find the work done")
    assert [len(mail.received(recipient)) for recipient in orders] == [1] * MAILS
