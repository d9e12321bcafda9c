"""The notification service and mail servers as they are: slow, busy, away; and how many mails a customer gets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from control_room.launcher.logs import tail
from control_room.launcher.ports import free_ports
from shared.events import PaymentSucceeded
from shared.settings import BrokerSettings
from tests import examples
from tests.service.odd_mail import HANG_UP, SILENCE, OddServer, odd_server
from tests.service.process import RunningService, running
from tests.service.wire import Wire
from tests.support import eventually

QUEUE = "notification_service.email"
SHORT = "greeting_seconds=0.3&command_seconds=0.3&data_seconds=0.3"
ATTEMPTS = 3


@asynccontextmanager
async def notifying(
    settings: BrokerSettings, directory: Path, url: str, database: str = ""
) -> AsyncIterator[RunningService]:
    database = database or f"sqlite:///{directory / 'notification_service'}.db"
    async with running("notification_service", settings, directory, EMAIL_URL=url, DATABASE_URL=database) as service:
        yield service


async def mailed(service: RunningService, paid: PaymentSucceeded) -> dict[str, Any]:
    """What became of the receipt, once something has."""

    async def look() -> dict[str, Any] | None:
        rows = (await service.http.get("/notifications", params={"order_id": paid.subject})).json()
        return next((row for row in rows if row["channel"] == "email"), None)

    found: dict[str, Any] | None = await eventually(look, 30, "the receipt to be sent or given up")
    assert found is not None
    return found


async def test_a_slow_answer_to_the_final_dot_makes_one_mail(
    module_broker_settings: BrokerSettings, directory: Path, wire: Wire
) -> None:
    async with odd_server() as odd:
        odd.seconds["DOT"] = 2.0
        async with notifying(module_broker_settings, directory, f"{odd.url}?{SHORT}") as service:
            wire.send(paid := examples.payment_succeeded())
            found = await mailed(service, paid)
    assert (found["status"], found["attempts"], len(odd.mails)) == ("delivered", 1, 1)


@pytest.mark.parametrize("what", [SILENCE, HANG_UP])
async def test_a_mail_that_may_have_arrived_is_sent_once_in_each_attempt(
    module_broker_settings: BrokerSettings, directory: Path, wire: Wire, what: str
) -> None:
    async with odd_server() as odd:
        odd.again["DOT"] = [what]
        async with notifying(module_broker_settings, directory, f"{odd.url}?final_seconds=0.3") as service:
            wire.send(paid := examples.payment_succeeded())
            found = await mailed(service, paid)
    assert (found["status"], found["attempts"], len(odd.mails)) == ("delivered", 2, 2)
    assert len({mail.partition(b"Message-ID: ")[2].partition(b"\r\n")[0] for mail in odd.mails}) == 1


@pytest.mark.parametrize("phase", ["GREETING", "MAIL"])
async def test_a_mail_outlives_a_5xx_to_the_session(
    module_broker_settings: BrokerSettings, directory: Path, wire: Wire, phase: str
) -> None:
    async with odd_server() as odd:
        odd.again[phase] = ["554 not you, not now"] * 2  # both tries of the first attempt
        async with notifying(module_broker_settings, directory, odd.url) as service:
            wire.send(paid := examples.payment_succeeded())
            found = await mailed(service, paid)
    assert (found["status"], found["attempts"], len(odd.mails)) == ("delivered", 2, 1)


async def test_a_server_that_always_refuses_the_session_is_given_up_in_the_end(
    module_broker_settings: BrokerSettings, directory: Path, wire: Wire
) -> None:
    refusing = odd_server({"MAIL": "550 not you"})
    async with refusing as odd, notifying(module_broker_settings, directory, odd.url) as service:
        wire.send(paid := examples.payment_succeeded())
        found = await mailed(service, paid)
        letter = await wire.dead_letter(QUEUE, paid.id)
    assert (found["status"], found["attempts"], odd.mails) == ("failed", ATTEMPTS, [])
    assert letter.headers["dead-letter-reason"] == "attempts-exhausted"


async def test_mails_wait_for_a_server_that_is_away_and_nothing_else_does(
    module_broker_settings: BrokerSettings, directory: Path, wire: Wire
) -> None:
    (port,) = free_ports(1)
    orders = [examples.payment_succeeded() for _ in range(30)]  # more than are taken from the queue at once
    async with notifying(module_broker_settings, directory, f"smtp://127.0.0.1:{port}") as service:
        for paid in orders:
            wire.send(paid)
        await eventually(lambda: "mail_server.unavailable" in service.log.read_text(), 30)

        async def kitchen_knows() -> bool:
            tickets = {row["order_id"] for row in await service.audit() if row["channel"] == "restaurant"}
            return tickets >= {paid.subject for paid in orders}

        await eventually(kitchen_knows, 30, "every kitchen ticket")
        assert (await service.http.get("/readyz")).status_code == 200
        async with odd_server(port=port) as odd:
            found = [await mailed(service, paid) for paid in orders]
        said = service.log.read_text()
    assert {(each["status"], each["attempts"]) for each in found} == {("delivered", 1)}
    assert len(odd.mails) == len(orders)
    assert (said.count("mail_server.unavailable"), said.count("mail_server.available")) == (1, 1), tail(service.log)


async def test_a_name_that_does_not_resolve_is_an_outage(
    module_broker_settings: BrokerSettings, directory: Path, wire: Wire
) -> None:
    url = "smtp://user:s3cret@no-such-host.invalid"
    async with notifying(module_broker_settings, directory, url) as service:
        wire.send(paid := examples.payment_succeeded())
        await eventually(lambda: "mail_server.unavailable" in service.log.read_text(), 30)
    assert "s3cret" not in service.log.read_text()
    async with odd_server() as odd, notifying(module_broker_settings, directory, odd.url) as service:
        assert (await mailed(service, paid))["status"] == "delivered"


async def test_it_stops_in_time_while_a_server_is_silent(
    module_broker_settings: BrokerSettings, directory: Path, wire: Wire
) -> None:
    """`running` sees to it that it ends in time, and with status 0. The mail goes out again after the next start."""
    paid = examples.payment_succeeded()
    async with odd_server({"DOT": SILENCE}) as odd, notifying(module_broker_settings, directory, odd.url):
        wire.send(paid)
        await eventually(lambda: odd.mails, 20)
    async with odd_server() as odd, notifying(module_broker_settings, directory, odd.url) as service:
        assert (await mailed(service, paid))["status"] == "delivered"


def words(odd: OddServer) -> list[str]:
    return [command.split()[0] for command in odd.commands]


async def test_a_reply_with_bytes_that_no_database_takes_is_recorded(
    module_broker_settings: BrokerSettings, directory: Path, wire: Wire, postgres: Any
) -> None:
    async with odd_server({"RCPT": "550 a\x00b \udce4 \x1b[2J"}) as odd:
        database = postgres.create_database()
        async with notifying(module_broker_settings, directory, odd.url, database) as service:
            wire.send(paid := examples.payment_succeeded())
            found = await mailed(service, paid)
            letter = await wire.dead_letter(QUEUE, paid.id)
    assert (found["status"], words(odd)) == ("failed", ["EHLO", "MAIL", "RCPT", "QUIT"])
    assert str(letter.headers["dead-letter-error"]).isprintable()
