"""The notification service and mail servers that are slow, busy or away: how many mails a customer gets."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.events import PaymentSucceeded
from shared.settings import BrokerSettings
from tests import examples
from tests.postgres import PrivatePostgres
from tests.service.mail import HANG_UP, SILENCE, MailServer
from tests.service.process import RunningService, running
from tests.service.wire import Wire
from tests.support import eventually

QUEUE = "notification_service.email"
LIMITS = "?greeting_seconds=1&command_seconds=1&data_seconds=1&final_seconds=2"
ATTEMPTS = 6  # two on each of three deliveries
OFFERS_AUTH = "250-mail.example\r\n250 AUTH PLAIN"


@pytest_asyncio.fixture(scope="module")
async def service(
    module_broker_settings: BrokerSettings, directory: Path, mail: MailServer, postgres: PrivatePostgres
) -> AsyncIterator[RunningService]:
    """It mails to `mail`, as a user with a password, and records on PostgreSQL, which takes fewer texts than SQLite."""
    variables: dict[str, Any] = {
        "EMAIL_URL": mail.url.replace("://", "://user:s3cret@") + LIMITS,
        "DATABASE_URL": postgres.create_database(),
    }
    async with running("notification_service", module_broker_settings, directory, **variables) as service:
        yield service


@pytest.fixture
def odd(mail: MailServer) -> MailServer:
    """`mail`, well-behaved so far."""
    mail.reset()
    mail.answers["EHLO"] = OFFERS_AUTH
    return mail


async def mailed(service: RunningService, paid: PaymentSucceeded) -> dict[str, Any]:
    """The receipt's notification, once it is sent or given up."""

    async def look() -> dict[str, Any] | None:
        rows = (await service.http.get("/notifications", params={"order_id": paid.subject})).json()
        return next((row for row in rows if row["channel"] == "email"), None)

    found: dict[str, Any] | None = await eventually(look, 60, "the receipt to be sent or given up")
    assert found is not None
    return found


BEHAVIOURS: dict[str, tuple[dict[str, Any], tuple[str, int, int]]] = {
    "a slow answer to the final dot": ({"seconds": {"DOT": 1.3}}, ("delivered", 1, 1)),
    "one final dot without an answer": ({"first": {"DOT": [SILENCE]}}, ("delivered", 2, 2)),
    "one connection lost at the final dot": ({"first": {"DOT": [HANG_UP]}}, ("delivered", 2, 2)),
    # Two refusals each: the first delivery, with its second try at once.
    "a greylisted recipient": ({"first": {"RCPT": ["451 sp\udcfcter"] * 2}}, ("delivered", 3, 1)),
    "a server that is closing": ({"first": {"RCPT": ["421 closing"] * 2}}, ("delivered", 3, 1)),
    "a recipient that is always greylisted": (
        {"refusals": {examples.EMAIL: ["450 later"] * ATTEMPTS}},
        ("failed", ATTEMPTS, 0),
    ),
    # The server has not heard of the mail.
    "sessions refused by their greeting": ({"first": {"GREETING": ["554 not now"] * 3}}, ("delivered", 1, 1)),
    "sessions that get no greeting": ({"first": {"GREETING": [SILENCE] * 2}}, ("delivered", 1, 1)),
}


@pytest.mark.parametrize(("behaviour", "expected"), BEHAVIOURS.values(), ids=BEHAVIOURS.keys())
async def test_a_server_makes_as_many_attempts_and_mails(
    service: RunningService, odd: MailServer, wire: Wire, behaviour: dict[str, Any], expected: tuple[str, int, int]
) -> None:
    vars(odd).update(behaviour)
    wire.send(paid := examples.payment_succeeded())
    found = await mailed(service, paid)
    assert (found["status"], found["attempts"], len(odd.mails)) == expected
    assert len({mail.partition(b"Message-ID: ")[2].partition(b"\r\n")[0] for mail in odd.mails}) <= 1
    if found["status"] == "failed":
        message = await wire.dead_letter(QUEUE, paid.id)
        assert message.headers["dead-letter-reason"] == "attempts-exhausted"


async def test_a_server_that_allows_two_connections_gets_every_mail_once_and_none_spends_an_attempt(
    service: RunningService, odd: MailServer, wire: Wire
) -> None:
    odd.allows, odd.seconds["DOT"] = 2, 0.1
    orders = [examples.payment_succeeded() for _ in range(6)]
    wire.send_all(orders)
    found = [await mailed(service, paid) for paid in orders]
    assert {(each["status"], each["attempts"]) for each in found} == {("delivered", 1)}
    assert len(odd.mails) == len(orders)
    assert odd.refused


@pytest.mark.parametrize(("phase", "refusal"), [("AUTH", "535 5.7.8 bad credentials"), ("MAIL", "530 5.7.0 log in")])
async def test_mails_wait_for_a_person_to_mend_a_refused_login_and_readyz_says_what_to_do(
    service: RunningService, odd: MailServer, wire: Wire, phase: str, refusal: str
) -> None:
    odd.answers[phase] = refusal
    orders = [examples.payment_succeeded() for _ in range(3)]
    wire.send_all(orders)

    async def says_so() -> bool:
        answer = await service.http.get("/readyz")
        return answer.status_code == 503 and "EMAIL_URL" in answer.text and refusal[:3] in answer.text

    await eventually(says_so, 15, "/readyz to say what to do")
    assert await service.metric("deliveries_held", queue=QUEUE) > 0
    del odd.answers[phase]
    found = [await mailed(service, paid) for paid in orders]
    assert {(each["status"], each["attempts"]) for each in found} == {("delivered", 1)}
    assert len(odd.mails) == len(odd.recipients) == len(orders)
    await eventually(lambda: service.answers("/readyz", 200), expecting="the service to be ready")
    assert "s3cret" not in service.log.read_text()


async def test_a_reply_with_bytes_that_no_database_accepts_is_recorded(
    service: RunningService, odd: MailServer, wire: Wire
) -> None:
    odd.answers["RCPT"] = "550 a\x00b \udce4 \x1b[2J"
    wire.send(paid := examples.payment_succeeded())
    found = await mailed(service, paid)
    message = await wire.dead_letter(QUEUE, paid.id)
    assert found["status"] == "failed"
    assert len(odd.recipients) == 1
    assert str(message.headers["dead-letter-error"]).isprintable()
