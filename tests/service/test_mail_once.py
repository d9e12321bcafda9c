"""A mail can't be undone: no customer gets the same one twice, whatever happens while it is under way."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from shared.ids import new_id
from shared.management import Management
from shared.settings import BrokerSettings
from tests import examples
from tests.amqp import close_connection
from tests.conftest import Broker, virtual_host
from tests.service.mail import MailServer, serving
from tests.service.process import RunningService, running
from tests.service.wire import Wire
from tests.support import eventually, never

MAILS = 5
QUEUE = "notification_service.email"


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with serving(MailServer()) as server:
        yield server


@pytest_asyncio.fixture
async def settings(broker: Broker) -> AsyncIterator[BrokerSettings]:
    """A virtual host for each test: the connections of the service before have the same names."""
    async with virtual_host(broker) as settings:
        yield settings


@pytest_asyncio.fixture
async def wire(settings: BrokerSettings) -> AsyncIterator[Wire]:
    async with Wire.open(settings) as wire:
        yield wire


@pytest_asyncio.fixture
async def service(settings: BrokerSettings, tmp_path: Path, mail: MailServer) -> AsyncIterator[RunningService]:
    async with running("notification_service", settings, tmp_path, EMAIL_URL=mail.url) as service:
        yield service


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


async def mails_under_way(wire: Wire, mail: MailServer) -> list[str]:
    """The recipients of mails that the server has been sent and does not answer yet."""
    mail.silent = {f"{new_id()}@example.com" for _ in range(MAILS)}
    send_payments(wire, mail.silent)
    await eventually(lambda: set(mail.asked) == mail.silent, expecting="every mail to be under way")
    return list(mail.silent)


def send_payments(wire: Wire, recipients: Iterable[str]) -> None:
    """Each leads to a mail."""
    for recipient in recipients:
        wire.send(examples.payment_succeeded(email=recipient))


async def test_a_mail_that_can_not_be_recorded_is_sent_once(
    service: RunningService, wire: Wire, mail: MailServer
) -> None:
    early, late = await mails_under_way(wire, mail), [f"{new_id()}@example.com" for _ in range(MAILS)]
    async with full_disk(service):
        mail.silent.clear()
        await eventually(lambda: service.answers("/readyz", 503), 20, "/readyz to say so")
        await eventually(lambda: all(mail.received(recipient) for recipient in early), 20, "the mails to be sent")
        send_payments(wire, late)

        async def all_held() -> bool:
            return await service.metric("deliveries_held", queue=QUEUE) == MAILS

        await eventually(all_held, 20, "further mails to be held")
        await never(lambda: len(mail.asked) > MAILS, 5, "another mail while nothing can be recorded")

    await eventually(lambda: all(mail.received(recipient) for recipient in late), 20, "the other mails to be sent")

    async def all_recorded() -> bool:
        return Counter(row["channel"] for row in await service.audit()) == {"email": 2 * MAILS, "restaurant": 2 * MAILS}

    await eventually(all_recorded, 20, "everything to be recorded")
    assert Counter(len(mail.received(recipient)) for recipient in early + late) == {1: 2 * MAILS}


async def test_a_mail_that_is_under_way_when_its_delivery_is_repeated_is_sent_once(
    service: RunningService, wire: Wire, mail: MailServer, settings: BrokerSettings
) -> None:
    recipients = await mails_under_way(wire, mail)
    before = await service.metric("broker_connections_opened")
    await close_connection(settings, "notification_service consumer")

    async def all_redelivered() -> bool:
        assert await service.metric("broker_connections_opened") > before
        async with Management(settings) as management:
            queue = await management.find("queues", settings.vhost, QUEUE)
        return bool(queue.get("messages_unacknowledged") == MAILS)

    await eventually(all_redelivered, 30, "the broker to deliver them again")
    mail.silent.clear()

    async def all_duplicates() -> bool:
        return await service.metric("duplicate_deliveries", queue=QUEUE) >= MAILS

    await eventually(all_duplicates, 20, "the second deliveries to find the work done")
    assert Counter(len(mail.received(recipient)) for recipient in recipients) == {1: MAILS}
