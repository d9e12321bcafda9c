"""One SMTP connection for many mails, against servers that close it, count it, or stop answering on it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from control_room.launcher.ports import free_ports
from notification_service import smtp, smtp_session
from notification_service.smtp import SmtpChannel
from shared.messaging.retry import NotReady, OutcomeUnknown, PermanentError, TransientError
from tests.integration.test_smtp import SHORT, channel, notice
from tests.service.mail import HANG_UP, SILENCE, MailServer, mail_server
from tests.support import eventually

ONE_MAIL = ["MAIL", "RCPT", "DATA"]


def verbs(server: MailServer) -> list[str]:
    return [command.split()[0] for command in server.commands]


@asynccontextmanager
async def used(server: MailServer, parameters: str = "") -> AsyncIterator[SmtpChannel]:
    """A channel with one connection that has carried one mail; all of the server's counts begin after it."""
    sender = channel(server.url + parameters)
    await sender.send(notice())
    server.commands.clear()
    server.mails.clear()
    yield sender
    await sender.close()


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection counts as one that was idle, and is tried with RSET first."""
    monkeypatch.setattr(smtp_session, "QUIET_SECONDS", -1.0)


async def test_many_mails_take_one_connection_and_it_ends_with_quit() -> None:
    async with mail_server() as server:
        sender = channel(server.url)
        for number in range(5):
            await sender.send(notice(f"guest{number}@example.com"))
        assert verbs(server) == ["EHLO", *ONE_MAIL * 5]
        await sender.close()
        await eventually(lambda: verbs(server)[-1] == "QUIT")
    assert len(server.mails) == 5


async def test_many_mails_at_once_take_ten_connections_at_most_and_few_if_the_url_says_so() -> None:
    for parameters, most in (("", 10), ("?connections=2", 2)):
        async with mail_server() as server:
            server.seconds["DOT"] = 0.02
            sender = channel(server.url + parameters)
            assert sender.concurrency == most
            await asyncio.gather(*(sender.send(notice(f"guest{number}@example.com")) for number in range(40)))
            await sender.close()
        assert len(server.mails) == len(set(server.mails)) == 40
        assert server.most_connections == verbs(server).count("EHLO") == most


async def test_a_connection_is_given_up_after_some_mails_and_after_some_idle_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(smtp, "MAILS", 3)
    async with mail_server() as server:
        sender = channel(server.url)
        for _ in range(4):
            await sender.send(notice())
        await eventually(lambda: "QUIT" in verbs(server))
        assert verbs(server).count("EHLO") == 2
        monkeypatch.setattr(smtp, "IDLE_SECONDS", 0.05)
        await sender.send(notice())
        await eventually(lambda: verbs(server).count("QUIT") == 2, expecting="the idle connection to be closed")
        await sender.close()


CLOSED: dict[str, Callable[[MailServer], Any]] = {
    "while it was idle": lambda server: server.hang_up(),
    "with 421, while it was idle": lambda server: server.hang_up("421 4.4.2 mail.example timeout exceeded"),
    "when MAIL comes": lambda server: server.first.update(MAIL=[HANG_UP]),
    "with 421 when MAIL comes": lambda server: server.first.update(MAIL=["421 4.7.0 too many mails"]),
    "with 451 when MAIL comes": lambda server: server.first.update(MAIL=["451 4.4.2 timeout waiting for data"]),
    "with 503 when MAIL comes": lambda server: server.first.update(MAIL=["503 5.5.1 nested MAIL command"]),
    "with 550 when MAIL comes": lambda server: server.first.update(MAIL=["550 too many mails in this session"]),
    "silently when MAIL comes": lambda server: server.first.update(MAIL=[SILENCE]),
    "when RCPT comes": lambda server: server.first.update(RCPT=[HANG_UP]),
    "with 421 when RCPT comes": lambda server: server.first.update(RCPT=["421 closing"]),
    "when DATA comes": lambda server: server.first.update(DATA=[HANG_UP]),
    "with 421 when DATA comes": lambda server: server.first.update(DATA=["421 closing"]),
}


@pytest.mark.parametrize("close", CLOSED.values(), ids=CLOSED.keys())
async def test_a_connection_that_was_closed_costs_no_attempt_and_no_mail(close: Callable[[MailServer], Any]) -> None:
    async with mail_server() as server, used(server, "?command_seconds=0.3") as sender:
        close(server)
        await sender.send(notice())
        assert verbs(server).count("EHLO") == 1
        await sender.send(notice())
    assert len(server.mails) == 2


@pytest.mark.parametrize("answer", [SILENCE, HANG_UP, "421 bye", "500 what?", "502 no RSET here", "nonsense"])
@pytest.mark.usefixtures("quiet")
async def test_an_idle_connection_is_tried_with_rset_and_replaced_if_that_fails(answer: str) -> None:
    async with mail_server({"RSET": answer}) as server, used(server, "?command_seconds=0.3") as sender:
        await sender.send(notice())
        assert [verb for verb in verbs(server) if verb != "QUIT"] == ["RSET", "EHLO", *ONE_MAIL]
    assert len(server.mails) == 1


@pytest.mark.usefixtures("quiet")
async def test_an_idle_connection_that_answers_rset_is_used() -> None:
    async with mail_server() as server, used(server) as sender:
        await sender.send(notice())
        assert verbs(server) == ["RSET", *ONE_MAIL]


@pytest.mark.parametrize(
    ("phase", "answer", "outcome", "mails"),
    [
        ("RCPT", "550 no such user", PermanentError, 0),
        ("RCPT", "451 greylisted", TransientError, 0),
        ("DATA", "554 no", PermanentError, 0),
        ("TEXT", SILENCE, TransientError, 0),
        ("DOT", "451 later", TransientError, 1),
        ("DOT", "554 spam", PermanentError, 1),
        ("DOT", HANG_UP, OutcomeUnknown, 1),
        ("DOT", SILENCE, OutcomeUnknown, 1),
    ],
)
async def test_an_answer_about_the_mail_and_a_loss_after_its_content_are_never_repeated(
    phase: str, answer: str, outcome: type[Exception], mails: int
) -> None:
    """On a connection that was used before they mean the same as on a new one."""
    async with mail_server() as server, used(server, f"{SHORT}&content_seconds=0.3") as sender:
        (server.answers if phase == "TEXT" else server.first)[phase] = answer if phase == "TEXT" else [answer]  # type: ignore[assignment]
        longer_than_every_buffer = ("x" * 76 + "\n") * (400_000 if phase == "TEXT" else 1)
        sender._templates = channel(server.url, longer_than_every_buffer)._templates
        with pytest.raises(outcome) as caught:
            await sender.send(notice())
        assert type(caught.value) is outcome
        assert verbs(server).count("EHLO") == 0
        assert verbs(server).count("MAIL") == 1
        server.answers.clear()
        sender._templates = channel(server.url)._templates
        await sender.send(notice())
        assert verbs(server).count("EHLO") == 1, "a connection with a failed mail is not used again"
    assert len(server.mails) == mails + 1


async def test_connections_that_died_while_idle_are_all_replaced_and_a_server_that_is_gone_is_waited_for() -> None:
    async with mail_server() as server:
        server.seconds["DOT"] = 0.02
        sender = channel(server.url + SHORT)
        await asyncio.gather(*(sender.send(notice()) for _ in range(10)))
        server.hang_up()
        await asyncio.gather(*(sender.send(notice()) for _ in range(10)))
        assert verbs(server).count("EHLO") == 20
        server.hang_up()
    with pytest.raises(NotReady):
        await sender.send(notice())
    async with mail_server(port=int(server.url.rpartition(":")[2])) as back:
        await sender.send(notice())
    assert (len(server.mails), len(back.mails)) == (20, 1)
    await sender.close()


class Policy:
    """A real server (aiosmtpd) whose policy is three mails on a connection."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, bytes]] = []
        self.of_session: dict[int, int] = {}

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        count = self.of_session[id(session)] = self.of_session.get(id(session), 0) + 1
        if count > 3:
            return "421 4.7.0 too many mails on this connection"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.mails.append((envelope.rcpt_tos[0], envelope.content))
        return "250 OK"


@pytest_asyncio.fixture
async def strict() -> AsyncIterator[tuple[Policy, str]]:
    policy = Policy()
    (port,) = free_ports(1)
    controller = Controller(policy, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield policy, f"smtp://127.0.0.1:{port}"
    finally:
        controller.stop()


async def test_a_real_server_with_a_limit_per_connection_gets_every_mail_once(strict: tuple[Policy, str]) -> None:
    policy, url = strict
    sender = channel(url)
    recipients = [f"guest{number}@example.com" for number in range(30)]
    await asyncio.gather(*(sender.send(notice(recipient)) for recipient in recipients))
    for recipient in recipients[:8]:
        await sender.send(notice(f"late.{recipient}"))
    await sender.close()
    expected = [*recipients, *(f"late.{recipient}" for recipient in recipients[:8])]
    assert sorted(recipient for recipient, _ in policy.mails) == sorted(expected)
