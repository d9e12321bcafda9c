"""The SMTP adapter against real-world mail servers: what each failure in each phase means."""

import asyncio
import socket
import ssl
from datetime import UTC, datetime
from email import message_from_bytes
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import structlog
import trustme

from control_room.launcher.ports import free_ports
from notification_service import smtp_session
from notification_service.notifications import Notice
from notification_service.smtp import SmtpChannel
from notification_service.templates import Templates, Words
from shared.messaging.retry import AccessDenied, NotReady, OutcomeUnknown, PermanentError, TransientError
from shared.tuning import new_event_loop
from tests import examples
from tests.service.mail import HANG_UP, SILENCE, mail_server
from tests.support import eventually

SHORT = "?connect_seconds=0.3&greeting_seconds=0.3&command_seconds=0.3&data_seconds=0.3&final_seconds=0.3"
OFFERS = {
    name: {"EHLO": f"250-mail.example\r\n250 {offer}"}
    for name, offer in (("STARTTLS", "STARTTLS"), ("AUTH", "AUTH PLAIN"))
}


RECIPIENT = "o'brien+x={}|~@example.com"


def notice(recipient: str = RECIPIENT) -> Notice:
    order = examples.order_summary(email=recipient)
    return Notice("019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55", "email", "receipt", recipient, order, order.total)


class Saying(Templates):
    """Templates that give each notice this text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def words(self, notice: Notice) -> Words:
        return Words("Your order is confirmed", self._text)


def channel(url: str, text: str = "Thank you.\n") -> SmtpChannel:
    return SmtpChannel(url, Saying(text))


async def send(url: str, text: str = "Thank you.\n") -> None:
    """On the services' own event loop, whose transports differ from those of this test's."""

    async def send_and_close() -> None:
        sender = channel(url, text)
        try:
            await sender.send(notice())
        finally:
            await sender.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(send_and_close())

    await asyncio.to_thread(run)


MEANINGS: list[tuple[str, list[str], type[Exception]]] = [
    # Without a session the server has not heard of the mail.
    ("GREETING EHLO MAIL", [SILENCE, HANG_UP], NotReady),
    ("EHLO STARTTLS AUTH MAIL", ["nonsense", "399 hm"], NotReady),
    ("GREETING EHLO STARTTLS AUTH MAIL", ["421 4.7.0 too many connections", "451 later", "500 what?"], NotReady),
    ("GREETING EHLO STARTTLS", ["530 5.7.0 no", "550 no", "554 no"], NotReady),
    # Nor will it, until a person has mended a setting.
    ("AUTH MAIL", ["530 5.7.0 no", "535 no", "550 no", "552 no", "554 no"], AccessDenied),
    # A 5xx to the recipient or the content is final.
    ("RCPT DATA DOT", ["550 no such user", "552 too big", "553 5.1.3 bad", "554 5.7.1 no relay"], PermanentError),
    # A 4xx, or a server that is out of step, is tried again.
    ("RCPT DATA DOT", ["421 closing", "422 4.2.2 Greylisted", "450 greylisted", "503 bad sequence", "504 5.5.2 Helo"],
     TransientError),
    # Before the final dot it is certain that nothing was sent; after it, nothing is certain.
    ("RCPT DATA", [SILENCE, HANG_UP, "nonsense"], TransientError),
    ("DOT", [SILENCE, HANG_UP, "nonsense", "399 hm"], OutcomeUnknown),
]  # fmt: skip
"""Phases, the server's answers in each of them, and the error that these become."""


@pytest.mark.parametrize(
    ("phase", "answer", "outcome"),
    [(phase, answer, error) for phases, answers, error in MEANINGS for phase in phases.split() for answer in answers],
)
async def test_an_answer_means_what_its_phase_makes_of_it(phase: str, answer: str, outcome: type[Exception]) -> None:
    refused = {phase: answer, **({"HELO": answer} if phase == "EHLO" and answer[0] == "5" else {})}
    async with mail_server({**OFFERS.get(phase, {}), **refused}) as odd:
        with pytest.raises(outcome) as caught:
            await send((odd.url.replace("://", "://user:s3cret@") if phase == "AUTH" else odd.url) + SHORT)
        if isinstance(caught.value, PermanentError):
            assert caught.value.reason == "mail-refused"
            await eventually(lambda: odd.commands[-1] == "QUIT")
    assert type(caught.value) is outcome
    assert "s3cret" not in str(caught.value)
    assert not answer[:3].isdigit() or answer[:3] in str(caught.value)
    assert len(odd.mails) == (phase == "DOT")


@pytest.mark.parametrize(
    "answers",
    [
        *(
            {"DOT": answer}
            for answer in ("250 ok", "251 forwarded", "252 perhaps", "200 fine", "250-first\r\n250 last")
        ),
        {"RCPT": "251 forwards", "MAIL": "252 hm"},
        {"GREETING": "220-one\r\n220 two", "MAIL": "250-one\r\n250 two", "DATA": "354-one\r\n354 two"},
        {"EHLO": "502 not implemented"},  # then HELO
        *({"QUIT": answer} for answer in (SILENCE, HANG_UP, "421 gone", "554 no", "nonsense")),
    ],
)
async def test_a_mail_is_sent_whatever_the_form_of_consent(answers: dict[str, str]) -> None:
    async with mail_server(answers) as odd:
        await asyncio.wait_for(send(odd.url.replace("127.0.0.1", "localhost")), 2)  # ::1 first, where nobody listens
    assert len(odd.mails) == 1


@pytest.mark.parametrize(
    ("name", "introduced"),
    [
        ("orders.example.com", "orders.example.com"),
        ("3f2a9c0d1e5b", "[127.0.0.1]"),  # as a container is called
        ("localhost.localdomain", "[127.0.0.1]"),
        ("my_host.example.com", "[127.0.0.1]"),
        ("bücher.example", "[127.0.0.1]"),
        ("a b.example", "[127.0.0.1]"),
    ],
)
async def test_it_introduces_itself_with_a_name_that_servers_accept(
    monkeypatch: pytest.MonkeyPatch, name: str, introduced: str
) -> None:
    monkeypatch.setattr(smtp_session, "_full_name", lambda: name)
    async with mail_server() as odd:
        await send(odd.url)
        assert odd.commands[0] == f"EHLO {introduced}"
        await send(f"{odd.url}?ehlo=shop.example.com")
        assert "EHLO shop.example.com" in odd.commands


@pytest.mark.parametrize(
    "answer",
    [
        "550 Empf\udce4nger \udcff",
        "550 a\x00b",
        "550 \x1b[31mred\x1b[0m \x07",
        "550-one\r\n550 two",
        "550 " + "x" * 5000,
    ],
)
async def test_a_servers_words_are_shown_as_a_short_line_without_control_characters(answer: str) -> None:
    async with mail_server({"RCPT": answer}) as odd:
        with pytest.raises(PermanentError) as caught:
            await send(odd.url)
    shown = str(caught.value)
    assert shown.isprintable()
    assert len(shown.encode()) < 500


async def test_a_mail_that_is_not_read_to_its_end_was_certainly_not_accepted() -> None:
    longer_than_every_buffer = ("x" * 76 + "\n") * 400_000
    async with mail_server({"TEXT": SILENCE}) as odd:
        with pytest.raises(TransientError, match="the mail's text") as caught:
            await send(odd.url + "?content_seconds=0.3", longer_than_every_buffer)
    assert not isinstance(caught.value, OutcomeUnknown)


async def test_the_final_dot_has_its_own_limit_and_stopping_does_not_wait_for_it() -> None:
    async with mail_server({"DOT": SILENCE}) as odd:
        sender = channel(odd.url + "?greeting_seconds=0.2&command_seconds=0.2&data_seconds=0.2")
        waiting = asyncio.create_task(sender.send(notice()))
        await eventually(lambda: odd.mails)
        done, _ = await asyncio.wait([waiting], timeout=0.6)
        assert not done
        waiting.cancel()
        done, _ = await asyncio.wait([waiting], timeout=1)
        assert done


async def test_a_server_that_can_not_be_reached_is_waited_for() -> None:
    with socket.socket() as full:  # a listener whose queue is full lets further connections wait
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        silent = f"127.0.0.1:{full.getsockname()[1]}"
        waiting = [asyncio.create_task(asyncio.open_connection(*silent.split(":"))) for _ in range(3)]
        await asyncio.wait(waiting, timeout=0.3)
        for address, reason in (
            (f"127.0.0.1:{free_ports(1)[0]}", "Connect call failed"),
            ("no-such-host.invalid", ""),
            (silent, "no answer in time"),
        ):
            with pytest.raises(NotReady, match=f"the mail server .*{reason}"):
                await send(f"smtp://{address}{SHORT}")
        for task in waiting:
            task.cancel()


async def test_an_outage_is_logged_once_and_so_is_its_end() -> None:
    port = free_ports(1)[0]
    sender = channel(f"smtp://user:s3cret@127.0.0.1:{port}?starttls=never")
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(NotReady):
                await sender.send(notice())
        async with mail_server(OFFERS["AUTH"], port=port):
            await sender.send(notice())
            await sender.send(notice())
    logged = [line["event"] for line in logs if line["log_level"] != "debug"]
    assert logged == ["mail_server.unavailable", "mail_server.available"]
    assert "s3cret" not in repr(logs)


def certified(host: str, authority_file: Path) -> ssl.SSLContext:
    """For a server with a certificate that is signed by an authority of its own."""
    authority, server = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(server)
    authority.cert_pem.write_to_path(str(authority_file))
    return server


@pytest.mark.parametrize("is_smtps", [True, False])
async def test_a_private_certificate_is_trusted_if_the_settings_say_so(tmp_path: Path, is_smtps: bool) -> None:
    tls, file = certified("127.0.0.1", tmp_path / "ca.pem"), tmp_path / "ca.pem"
    async with mail_server(OFFERS["STARTTLS"], tls if is_smtps else None) as odd:
        odd.tls = tls
        with pytest.raises(NotReady, match=r"certificate.*\?cafile=.*\?verify=no"):
            await send(odd.url)
        await send(f"{odd.url}?cafile={file}")
        await send(f"{odd.url}?verify=no")
    assert len(odd.mails) == 2
    assert is_smtps or "STARTTLS" in odd.commands


async def test_a_certificate_for_another_host_is_not_trusted(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    async with mail_server(tls=certified("mail.example", file)) as odd:
        with pytest.raises(NotReady, match=r"127\.0\.0\.1"):
            await send(f"{odd.url}?cafile={file}")


async def test_starttls_can_be_required_or_left_out() -> None:
    async with mail_server() as odd:
        with pytest.raises(NotReady, match="STARTTLS"):
            await send(f"{odd.url}?starttls=required")
        assert not odd.mails
        with pytest.raises(NotReady):
            await send(odd.url.replace("smtp:", "smtps:") + SHORT)
    async with mail_server(OFFERS["STARTTLS"]) as odd:
        await send(f"{odd.url}?starttls=never")
        assert "STARTTLS" not in odd.commands


async def test_a_text_cannot_end_the_mail_or_add_to_its_headers() -> None:
    lines = ["", ".", "MAIL FROM:<m@example.com>", "..", ".hidden", "Bcc: m@example.com", "\x00 Tiramisù", "z" * 2000]
    async with mail_server() as odd:
        for text in ("\n".join(lines), "\r\n".join(lines), "\r".join(lines)):
            await send(odd.url, text)
    assert {command.split()[0] for command in odd.commands} == {"EHLO", "MAIL", "RCPT", "DATA", "QUIT"}
    for raw in odd.mails:
        mail = message_from_bytes(raw)
        payload = mail.get_payload(decode=True)
        assert isinstance(payload, bytes)
        assert payload.decode().splitlines() == lines
        assert (mail["Bcc"], odd.recipients) == (None, [RECIPIENT] * 3)
        assert max(map(len, raw.split(b"\r\n"))) <= 998


async def test_a_mail_has_the_expected_headers_and_a_repeat_the_same_message_id() -> None:
    async with mail_server() as odd:
        await send(odd.url)
        await send(odd.url)
    first, second = (message_from_bytes(mail) for mail in odd.mails)
    written = parsedate_to_datetime(first["Date"])
    assert abs((datetime.now(UTC) - written).total_seconds()) < 60
    assert written.utcoffset() is not None
    assert first["Message-ID"] == second["Message-ID"]
    assert (first["Auto-Submitted"], first["MIME-Version"]) == ("auto-generated", "1.0")
    assert all(len(first.get_all(name) or []) == 1 for name in ("From", "To", "Subject", "Date", "Message-ID"))
