"""The notification service with a provider for each channel: a mail server, a webhook, and two that Apprise knows."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from control_room.launcher.ports import free_ports
from shared.ids import new_id
from shared.settings import BrokerSettings
from tests import examples
from tests.receiver import SILENCE, Receiver, receiving
from tests.service.mail import MailServer
from tests.service.process import RunningService, running
from tests.service.test_notification_service import notified
from tests.service.wire import Wire
from tests.support import eventually

SECRET = "a secret of the test"
RESTAURANT_QUEUE = "notification_service.restaurant"


@pytest_asyncio.fixture(scope="module")
async def provider() -> AsyncIterator[Receiver]:
    """Of text messages (`/sms/<number>`) and of push notifications (`/`)."""
    async with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def kitchen_port() -> int:
    return free_ports(1)[0]


@pytest_asyncio.fixture(scope="module")
async def service(
    module_broker_settings: BrokerSettings, directory: Path, mail: MailServer, provider: Receiver, kitchen_port: int
) -> AsyncIterator[RunningService]:
    urls: dict[str, Any] = {
        "EMAIL_URL": mail.url,
        "SMS_URL": f"json://ada:Zq7MarkerX9@{provider.address}/sms/{{to}}",
        "PUSH_URL": f"ntfy://{provider.address}/{{to}}",
        "RESTAURANT_URL": f"http://127.0.0.1:{kitchen_port}/tickets",
        "WEBHOOK_SECRET": SECRET,
    }
    async with running("notification_service", module_broker_settings, directory, **urls) as service:
        yield service


@pytest_asyncio.fixture
async def kitchen(kitchen_port: int) -> AsyncIterator[Receiver]:
    async with receiving(kitchen_port) as receiver:
        yield receiver


@pytest.fixture
def customer() -> dict[str, Any]:
    return {"email": f"{new_id()}@example.com", "phone": examples.PHONE, "push": f"device-{new_id()}"}


def pushed(provider: Receiver, device: str) -> list[str]:
    return [each.json["title"] for each in provider.requests if each.json.get("topic") == device]


async def test_a_refund_reaches_everybody_once_and_a_late_payment_nobody(
    service: RunningService,
    wire: Wire,
    mail: MailServer,
    provider: Receiver,
    kitchen: Receiver,
    customer: dict[str, Any],
) -> None:
    refunded = examples.payment_refunded(**customer)
    paid, voided = (
        make(refunded.subject, **customer) for make in (examples.payment_succeeded, examples.payment_voided)
    )
    wire.send(refunded)
    everywhere = dict.fromkeys(("email", "sms", "push", "restaurant"), "delivered")
    found = await notified(service, refunded.subject, **everywhere)
    assert {row["notice"] for row in found.values()} == {"refund", "kitchen_stop"}
    before = await service.metric("duplicate_deliveries_total")

    wire.send_all([paid, voided, refunded] * 2)

    async def all_duplicates() -> bool:
        return await service.metric("duplicate_deliveries_total") - before == 4 * 6 - 2  # no void to the restaurant

    await eventually(all_duplicates, 30, "all of them to be out of date, or duplicates")
    assert [each["Subject"] for each in mail.received(customer["email"])] == [
        "Your order is cancelled, and 22.00 EUR go back to you"
    ]
    assert pushed(provider, customer["push"]) == ["Order cancelled"]
    assert [each.json["notice"] for each in kitchen.requests] == ["kitchen_stop"]
    assert len(wire.messages("notifications", refunded.subject)) == 4


async def test_a_kitchen_that_is_away_delays_nobody_and_gets_its_tickets_once_it_is_back(
    service: RunningService, wire: Wire, kitchen_port: int, customer: dict[str, Any]
) -> None:
    orders = [examples.payment_succeeded(**customer) for _ in range(5)]
    wire.send_all(orders)
    for paid in orders:
        await notified(service, paid.subject, email="delivered", sms="delivered", push="delivered")

    async with receiving(kitchen_port) as kitchen:
        for paid in orders:
            found = await notified(
                service, paid.subject, email="delivered", sms="delivered", push="delivered", restaurant="delivered"
            )
            assert found["restaurant"]["attempts"] == 1
        keys = [each.headers["Idempotency-Key"] for each in kitchen.requests]
    assert sorted(keys) == sorted(f'"{paid.subject}/restaurant/kitchen_ticket"' for paid in orders)
    assert not wire.parked[RESTAURANT_QUEUE]


async def test_a_provider_that_never_answers_holds_up_neither_the_others_nor_the_end_of_the_service(
    service: RunningService, wire: Wire, provider: Receiver, kitchen: Receiver, customer: dict[str, Any]
) -> None:
    provider.answer = SILENCE
    paid = examples.payment_succeeded(**customer)
    wire.send(paid)
    await notified(service, paid.subject, email="delivered", restaurant="delivered")
    provider.answer = "200 OK"
    for conversation in list(provider.conversations):
        conversation.cancel()
    await notified(service, paid.subject, email="delivered", restaurant="delivered", sms="delivered", push="delivered")
    assert "Zq7MarkerX9" not in service.log.read_text()
    assert examples.PHONE not in service.log.read_text()


async def test_mails_of_many_orders_share_few_connections_and_have_text_and_html(
    service: RunningService, wire: Wire, mail: MailServer, kitchen: Receiver, customer: dict[str, Any]
) -> None:
    mail.commands.clear()
    mail.most_connections = 0
    orders = [examples.payment_succeeded(email=customer["email"]) for _ in range(40)]
    wire.send_all(orders)
    await eventually(lambda: len(mail.received(customer["email"])) == 40, 30, "every mail")
    assert mail.most_connections <= 10
    assert sum(command.startswith("EHLO") for command in mail.commands) <= 10
    (first, *_) = mail.received(customer["email"])
    assert [part.get_content_type() for part in first.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert len({each["X-Order-Id"] for each in mail.received(customer["email"])}) == 40
