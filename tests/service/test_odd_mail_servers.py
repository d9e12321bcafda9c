"""The notification service and mail servers that are slow, busy or away: how many mails a customer gets."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from control_room.launcher.children import tail
from control_room.launcher.ports import free_ports
from shared.events import PaymentSucceeded
from shared.settings import BrokerSettings
from tests import examples
from tests.postgres import PrivatePostgres
from tests.service.mail import HANG_UP, SILENCE, mail_server
from tests.service.process import RunningService, running
from tests.service.wire import Wire
from tests.support import eventually

QUEUE = "notification_service.email"
SHORT = "?greeting_seconds=0.3&command_seconds=0.3&data_seconds=0.3"
ATTEMPTS = 6  # two on each of three deliveries
UNAVAILABLE, AVAILABLE = "mail_server.unavailable", "mail_server.available"

Notifying = Callable[..., AbstractAsyncContextManager[RunningService]]


@pytest.fixture
def notifying(module_broker_settings: BrokerSettings, directory: Path) -> Notifying:
    """Runs the service; takes EMAIL_URL and further variables."""
    return partial(running, "notification_service", module_broker_settings, directory)


async def mailed(service: RunningService, paid: PaymentSucceeded) -> dict[str, Any]:
    """The receipt's notification, once it is sent or given up."""

    async def look() -> dict[str, Any] | None:
        rows = (await service.http.get("/notifications", params={"order_id": paid.subject})).json()
        return next((row for row in rows if row["channel"] == "email"), None)

    found: dict[str, Any] | None = await eventually(look, 30, "the receipt to be sent or given up")
    assert found is not None
    return found


async def unavailable(service: RunningService) -> None:
    await eventually(lambda: UNAVAILABLE in service.log.read_text(), 30, "the server to be found unavailable")


BEHAVIOURS: dict[str, tuple[dict[str, Any], str, tuple[str, int, int]]] = {
    "a slow answer to the final dot": ({"seconds": {"DOT": 2.0}}, SHORT, ("delivered", 1, 1)),
    "one final dot without an answer": ({"first": {"DOT": [SILENCE]}}, "?final_seconds=0.3", ("delivered", 2, 2)),
    "one connection lost at the final dot": ({"first": {"DOT": [HANG_UP]}}, "", ("delivered", 2, 2)),
    # Two refusals each: the first delivery, with its second try at once.
    "a greylisted recipient": ({"first": {"RCPT": ["451 sp\udcfcter"] * 2}}, "", ("delivered", 3, 1)),
    "a server that is closing": ({"first": {"RCPT": ["421 closing"] * 2}}, "", ("delivered", 3, 1)),
    "a session refused by its greeting": ({"first": {"GREETING": ["554 not now"] * 2}}, "", ("delivered", 3, 1)),
    "a session refused at MAIL": ({"first": {"MAIL": ["554 not now"] * 2}}, "", ("delivered", 3, 1)),
    "a session that is always refused": ({"answers": {"MAIL": "550 not you"}}, "", ("failed", ATTEMPTS, 0)),
}


@pytest.mark.parametrize(("behaviour", "parameters", "expected"), BEHAVIOURS.values(), ids=BEHAVIOURS.keys())
async def test_a_server_makes_as_many_attempts_and_mails(
    notifying: Notifying, wire: Wire, behaviour: dict[str, Any], parameters: str, expected: tuple[str, int, int]
) -> None:
    async with mail_server() as odd:
        vars(odd).update(behaviour)
        async with notifying(EMAIL_URL=odd.url + parameters) as service:
            wire.send(paid := examples.payment_succeeded())
            found = await mailed(service, paid)
    assert (found["status"], found["attempts"], len(odd.mails)) == expected
    assert len({mail.partition(b"Message-ID: ")[2].partition(b"\r\n")[0] for mail in odd.mails}) <= 1
    if found["status"] == "failed":
        message = await wire.dead_letter(QUEUE, paid.id)
        assert message.headers["dead-letter-reason"] == "attempts-exhausted"


async def test_mails_wait_for_a_server_that_is_away_and_nothing_else_does(notifying: Notifying, wire: Wire) -> None:
    (port,) = free_ports(1)
    orders = [examples.payment_succeeded() for _ in range(30)]  # more than the consumer takes at once
    async with notifying(EMAIL_URL=f"smtp://127.0.0.1:{port}") as service:
        for paid in orders:
            wire.send(paid)
        await unavailable(service)

        async def kitchen_is_notified() -> bool:
            tickets = {row["order_id"] for row in await service.audit() if row["channel"] == "restaurant"}
            return tickets >= {paid.subject for paid in orders}

        await eventually(kitchen_is_notified, 30, "every kitchen ticket")
        assert (await service.http.get("/readyz")).status_code == 200
        async with mail_server(port=port) as odd:
            found = [await mailed(service, paid) for paid in orders]
        log = service.log.read_text()
    assert {(each["status"], each["attempts"]) for each in found} == {("delivered", 1)}
    assert len(odd.mails) == len(orders)
    assert (log.count(UNAVAILABLE), log.count(AVAILABLE)) == (1, 1), tail(service.log)


async def test_a_name_that_does_not_resolve_and_a_silent_server_hold_the_mail_beyond_a_restart(
    notifying: Notifying, wire: Wire
) -> None:
    """`running` checks that the service stops in time, with status 0, also while a mail is being sent."""
    wire.send(paid := examples.payment_succeeded())
    async with notifying(EMAIL_URL="smtp://user:s3cret@no-such-host.invalid") as service:
        await unavailable(service)
    assert "s3cret" not in service.log.read_text()
    async with mail_server({"DOT": SILENCE}) as odd, notifying(EMAIL_URL=odd.url):
        await eventually(lambda: odd.mails, 20)
    async with mail_server() as odd, notifying(EMAIL_URL=odd.url) as service:
        assert (await mailed(service, paid))["status"] == "delivered"


async def test_a_reply_with_bytes_that_no_database_accepts_is_recorded(
    notifying: Notifying, wire: Wire, postgres: PrivatePostgres
) -> None:
    refusing, url = mail_server({"RCPT": "550 a\x00b \udce4 \x1b[2J"}), postgres.create_database()
    async with refusing as odd, notifying(EMAIL_URL=odd.url, DATABASE_URL=url) as service:
        wire.send(paid := examples.payment_succeeded())
        found = await mailed(service, paid)
        message = await wire.dead_letter(QUEUE, paid.id)
    assert found["status"] == "failed"
    assert [command.split()[0] for command in odd.commands] == ["EHLO", "MAIL", "RCPT", "QUIT"]
    assert str(message.headers["dead-letter-error"]).isprintable()
