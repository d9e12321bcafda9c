"""The SMTP adapter against servers as they are met outside: what each failure means, phase by phase."""

import asyncio
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import structlog
import trustme

from control_room.launcher.ports import free_ports
from notification_service import smtp
from notification_service.notifications import Notice
from notification_service.smtp import SmtpChannel
from shared.event_loop import new_event_loop
from shared.messaging.retry import NotReady, OutcomeUnknown, PermanentError, TransientError
from tests.service.odd_mail import HANG_UP, SILENCE, odd_server
from tests.support import eventually

SHORT = "?greeting_seconds=0.3&command_seconds=0.3&data_seconds=0.3&final_seconds=0.3"
SESSION = ("GREETING", "EHLO", "STARTTLS", "AUTH", "MAIL")
REFUSALS = ("421 closing", "451 later", "500 what?", "530 5.7.0 no", "535 no", "550 no", "552 no", "554 no")
OFFERS_TLS = {"EHLO": "250-odd.example\r\n250 STARTTLS"}


def letter(recipient: str = "ada@example.com", text: str = "Thank you.\n") -> Notice:
    return Notice(
        "019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55", "email", "receipt", recipient, "Your order is confirmed", text
    )


async def send(url: str, to: Notice | None = None) -> None:
    await SmtpChannel(url).send(to or letter())


def with_user(url: str) -> str:
    return url.replace("://", "://user:s3cret@")


@pytest.mark.parametrize("answer", REFUSALS)
@pytest.mark.parametrize("phase", SESSION)
async def test_a_refusal_of_the_session_says_nothing_of_the_mail(phase: str, answer: str) -> None:
    offers = {"EHLO": "250-odd.example\r\n250-STARTTLS\r\n250 AUTH PLAIN"}
    refused = {phase: answer, **({"HELO": answer} if phase == "EHLO" else {})}
    if phase in ("AUTH", "MAIL"):
        offers = {"EHLO": "250-odd.example\r\n250 AUTH PLAIN"}
    async with odd_server({**offers, **refused}) as odd:
        with pytest.raises(TransientError, match=answer.split(maxsplit=1)[0]) as caught:
            await send(with_user(odd.url) + SHORT)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert "s3cret" not in str(caught.value)
    assert not odd.mails


@pytest.mark.parametrize("phase", ["RCPT", "DATA", "DOT"])
@pytest.mark.parametrize("answer", ["550 no such user", "552 too big", "553 5.1.3 bad", "554 5.7.1 relaying denied"])
async def test_a_5xx_to_the_recipient_or_the_content_is_for_ever(phase: str, answer: str) -> None:
    async with odd_server({phase: answer}) as odd:
        with pytest.raises(PermanentError, match=answer) as caught:
            await send(odd.url)
        await eventually(lambda: odd.commands[-1] == "QUIT")
    assert caught.value.reason == "mail-refused"


@pytest.mark.parametrize("phase", ["RCPT", "DATA", "DOT"])
@pytest.mark.parametrize(
    "answer", ["421 closing", "422 4.2.2 Greylisted", "450 greylisted", "503 bad sequence", "504 5.5.2 Helo rejected"]
)
async def test_a_4xx_or_a_server_that_is_out_of_step_is_asked_again(phase: str, answer: str) -> None:
    async with odd_server({phase: answer}) as odd:
        with pytest.raises(TransientError, match=answer) as caught:
            await send(odd.url)
    assert not isinstance(caught.value, OutcomeUnknown)


@pytest.mark.parametrize("phase", ["EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("what", [SILENCE, HANG_UP, "nonsense"])
async def test_before_the_final_dot_it_is_certain_that_nothing_was_sent(phase: str, what: str) -> None:
    async with odd_server({phase: what}) as odd:
        with pytest.raises(TransientError, match=phase) as caught:
            await send(odd.url + SHORT)
    assert not isinstance(caught.value, OutcomeUnknown)


@pytest.mark.parametrize("what", [SILENCE, HANG_UP, "nonsense", "399 hm"])
async def test_without_an_answer_to_the_final_dot_the_outcome_is_unknown(what: str) -> None:
    async with odd_server({"DOT": what}) as odd:
        with pytest.raises(OutcomeUnknown, match="the final dot"):
            await send(odd.url + SHORT)
    assert len(odd.mails) == 1


@pytest.mark.parametrize("answer", ["250 ok", "251 forwarded", "252 perhaps", "200 fine", "250-first\r\n250 last"])
async def test_every_2xx_to_the_final_dot_is_a_success(answer: str) -> None:
    async with odd_server({"DOT": answer, "RCPT": "251 forwards", "MAIL": "252 hm"}) as odd:
        await send(odd.url)
    assert len(odd.mails) == 1


@pytest.mark.parametrize("what", [SILENCE, HANG_UP, "421 gone", "554 no", "nonsense"])
async def test_what_is_said_to_quit_changes_nothing(what: str) -> None:
    async with odd_server({"QUIT": what}) as odd:
        await asyncio.wait_for(send(odd.url), 2)
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
async def test_it_introduces_itself_with_a_name_that_servers_take(
    monkeypatch: pytest.MonkeyPatch, name: str, introduced: str
) -> None:
    monkeypatch.setattr(smtp, "_full_name", lambda: name)
    async with odd_server() as odd:
        await send(odd.url)
        assert odd.commands[0] == f"EHLO {introduced}"
        await send(f"{odd.url}?ehlo=shop.example.com")
        assert "EHLO shop.example.com" in odd.commands


async def test_a_greeting_and_answers_may_have_several_lines() -> None:
    many = {phase: f"{code}-one\r\n{code} two" for phase, code in (("GREETING", 220), ("MAIL", 250), ("DATA", 354))}
    async with odd_server(many) as odd:
        await send(odd.url)
    assert len(odd.mails) == 1


async def test_of_a_hosts_addresses_the_one_that_answers_is_taken() -> None:
    """Where `localhost` is ::1 first, nobody listens there."""
    async with odd_server() as odd:
        await send(odd.url.replace("127.0.0.1", "localhost"))
    assert len(odd.mails) == 1


async def test_a_server_that_knows_no_ehlo_is_greeted_in_the_old_way() -> None:
    async with odd_server({"EHLO": "502 not implemented"}) as odd:
        await send(odd.url)
    assert len(odd.mails) == 1


@pytest.mark.parametrize("words", ["Empf\udce4nger \udcff", "a\x00b", "\x1b[31mred\x1b[0m \x07", "550-one\r\n550 two"])
async def test_a_servers_words_are_shown_on_one_line_without_control_characters(words: str) -> None:
    answer = words if words.startswith("550") else f"550 {words}"
    async with odd_server({"RCPT": answer}) as odd:
        with pytest.raises(PermanentError) as caught:
            await send(odd.url)
    assert str(caught.value).isprintable()
    str(caught.value).encode()


async def test_a_server_of_many_words_is_cut_short() -> None:
    async with odd_server({"RCPT": "550 " + "x" * 5000}) as odd:
        with pytest.raises(PermanentError) as caught:
            await send(odd.url)
    assert len(str(caught.value)) < 500


async def test_a_mail_that_is_not_read_to_its_end_was_certainly_not_taken() -> None:
    longer_than_every_buffer = ("x" * 76 + "\n") * 400_000
    async with odd_server({"TEXT": SILENCE}) as odd:
        with pytest.raises(TransientError, match="the mail's text") as caught:
            await send(odd.url + "?content_seconds=0.3", letter(text=longer_than_every_buffer))
    assert not isinstance(caught.value, OutcomeUnknown)


async def test_each_phase_has_a_limit_of_its_own() -> None:
    """A slow answer to the final dot is waited for, although the other phases are quick to be given up."""
    async with odd_server({"DOT": SILENCE}) as odd:
        waiting = asyncio.create_task(send(odd.url + "?greeting_seconds=0.2&command_seconds=0.2&data_seconds=0.2"))
        await eventually(lambda: odd.mails)
        done, _ = await asyncio.wait([waiting], timeout=0.6)
        assert not done
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_it_goes_away_at_once_when_the_service_stops() -> None:
    async with odd_server({"DOT": SILENCE}) as odd:
        waiting = asyncio.create_task(send(odd.url))
        await eventually(lambda: odd.mails)
        waiting.cancel()
        done, _ = await asyncio.wait([waiting], timeout=1)
        assert done


async def nowhere() -> str:
    return f"smtp://127.0.0.1:{free_ports(1)[0]}"


@pytest.mark.parametrize("url", ["refused", "smtp://no-such-host.invalid:25", "GREETING closes", "GREETING is silent"])
async def test_a_server_that_can_not_be_reached_is_waited_for(url: str) -> None:
    async with odd_server({"GREETING": SILENCE if "silent" in url else HANG_UP}) as odd:
        where = {"refused": await nowhere(), "smtp": url}.get(url.partition(":")[0], odd.url)
        with pytest.raises(NotReady, match="the mail server"):
            await send(where + SHORT)


async def test_a_connection_that_does_not_come_about_is_given_up_in_time() -> None:
    with socket.socket() as full:  # a listener whose queue is full lets further ones wait
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [asyncio.create_task(asyncio.open_connection("127.0.0.1", port)) for _ in range(3)]
        await asyncio.wait(waiting, timeout=0.3)
        with pytest.raises(NotReady, match="no answer in time"):
            await send(f"smtp://127.0.0.1:{port}?connect_seconds=0.2&greeting_seconds=0.2")
        for task in waiting:
            task.cancel()


async def test_an_outage_is_logged_once_and_so_is_its_end() -> None:
    port = free_ports(1)[0]
    channel = SmtpChannel(f"smtp://user:s3cret@127.0.0.1:{port}?starttls=never")
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(NotReady):
                await channel.send(letter())
        async with odd_server({"EHLO": "250-odd\r\n250 AUTH PLAIN"}, port=port):
            await channel.send(letter())
            await channel.send(letter())
    said = [line["event"] for line in logs if line["log_level"] != "debug"]
    assert said == ["mail_server.unavailable", "mail_server.available"]
    assert "s3cret" not in repr(logs)


@dataclass(frozen=True)
class Certificate:
    """`file` holds the authority that has signed it."""

    server: ssl.SSLContext
    file: Path


def certificate_for(host: str, directory: Path) -> Certificate:
    authority, server = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(server)
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    return Certificate(server, directory / "ca.pem")


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return certificate_for("127.0.0.1", tmp_path)


@pytest.mark.parametrize("is_smtps", [True, False])
async def test_a_private_certificate_is_trusted_if_the_settings_say_so(
    certificate: Certificate, is_smtps: bool
) -> None:
    async with odd_server(OFFERS_TLS, certificate.server if is_smtps else None) as odd:
        odd.tls = certificate.server
        with pytest.raises(NotReady, match=r"certificate.*\?cafile=.*\?verify=no"):
            await send(odd.url)
        await send(f"{odd.url}?cafile={certificate.file}")
        await send(f"{odd.url}?verify=no")
    assert len(odd.mails) == 2
    assert is_smtps or "STARTTLS" in odd.commands


async def test_a_certificate_for_another_host_is_not_trusted(tmp_path: Path) -> None:
    other = certificate_for("mail.example", tmp_path)
    async with odd_server(tls=other.server) as odd:
        with pytest.raises(NotReady, match=r"127\.0\.0\.1"):
            await send(f"{odd.url}?cafile={other.file}")


async def test_starttls_can_be_required_or_left_out(certificate: Certificate) -> None:
    async with odd_server() as odd:
        with pytest.raises(TransientError, match="STARTTLS"):
            await send(f"{odd.url}?starttls=required")
        assert not odd.mails
    async with odd_server(OFFERS_TLS) as odd:
        odd.tls = certificate.server
        await send(f"{odd.url}?starttls=never")
        assert "STARTTLS" not in odd.commands


async def test_plain_text_where_tls_is_expected_is_waited_for() -> None:
    async with odd_server() as odd:
        with pytest.raises(NotReady):
            await send(odd.url.replace("smtp:", "smtps:") + SHORT)


async def test_the_envelope_and_the_header_name_the_recipient_and_no_other() -> None:
    async with odd_server() as odd:
        for recipient in ("o'brien+x={}|~@example.com", "a" * 64 + "@" + ".".join(["b" * 60] * 3)):
            await send(odd.url, letter(recipient))
            assert odd.recipients[-1] == recipient
            assert message_from_bytes(odd.mails[-1])["To"] == recipient


@pytest.mark.parametrize(
    "recipient",
    [
        "=?utf-8?q?mallory?=@example.com",
        "ada@example.com>\r\nRCPT TO:<mallory@example.com",
        "a,b@example.com",
        "a b@example.com",
        "",
        "ada",
        "ada@",
        '"a b"@example.com',
        "(mallory)ada@example.com",
        "ada@example.com\n",
        "adä@example.com",
        "ada@bücher.example",
    ],
)
async def test_what_others_could_read_as_another_address_is_never_sent(recipient: str) -> None:
    async with odd_server() as odd:
        with pytest.raises(PermanentError, match="email address") as caught:
            await send(odd.url, letter(recipient))
    assert caught.value.reason == "no-mailbox"
    assert odd.connections == 0


async def test_a_text_cannot_end_the_mail_or_add_to_its_headers() -> None:
    lines = ["", ".", "MAIL FROM:<m@example.com>", "..", ".hidden", "Bcc: m@example.com", "\x00 Tiramisù", "z" * 2000]
    async with odd_server() as odd:
        for text in ("\n".join(lines), "\r\n".join(lines), "\r".join(lines)):
            await send(odd.url, letter(text=text))
    assert {command.split()[0] for command in odd.commands} == {"EHLO", "MAIL", "RCPT", "DATA", "QUIT"}
    for raw in odd.mails:
        mail = message_from_bytes(raw)
        payload = mail.get_payload(decode=True)
        assert isinstance(payload, bytes)
        assert payload.decode().splitlines() == lines
        assert (mail["Bcc"], len(odd.recipients)) == (None, 3)
        assert max(map(len, raw.split(b"\r\n"))) <= 998


async def test_a_mail_has_the_headers_that_are_expected_and_a_repeat_the_same_message_id() -> None:
    async with odd_server() as odd:
        await send(odd.url)
        await send(odd.url)
    first, second = (message_from_bytes(mail) for mail in odd.mails)
    written = parsedate_to_datetime(first["Date"])
    assert abs((datetime.now(UTC) - written).total_seconds()) < 60
    assert written.utcoffset() is not None
    assert first["Message-ID"] == second["Message-ID"]
    assert (first["Auto-Submitted"], first["MIME-Version"]) == ("auto-generated", "1.0")
    assert all(len(first.get_all(name) or []) == 1 for name in ("From", "To", "Subject", "Date", "Message-ID"))


async def send_as_a_service_does(url: str) -> None:
    """On the services' own event loop, whose connections differ from those of this one."""

    def run() -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(send(url))

    await asyncio.to_thread(run)


@pytest.mark.parametrize(
    ("phase", "answer", "outcome"),
    [
        ("GREETING", HANG_UP, NotReady),
        ("GREETING", "554 no", TransientError),
        ("RCPT", "550 no such user", PermanentError),
        ("DATA", HANG_UP, TransientError),
        ("DOT", "450 later", TransientError),
        ("DOT", "554 no", PermanentError),
        ("DOT", HANG_UP, OutcomeUnknown),
        ("DOT", SILENCE, OutcomeUnknown),
    ],
)
async def test_on_the_services_event_loop_it_is_the_same(phase: str, answer: str, outcome: type[Exception]) -> None:
    async with odd_server({phase: answer}) as odd:
        with pytest.raises(outcome) as caught:
            await send_as_a_service_does(odd.url + SHORT)
    assert caught.type is outcome


@pytest.mark.parametrize("is_smtps", [True, False])
async def test_on_the_services_event_loop_a_mail_goes_out_over_tls(certificate: Certificate, is_smtps: bool) -> None:
    async with odd_server(OFFERS_TLS, certificate.server if is_smtps else None) as odd:
        odd.tls = certificate.server
        with pytest.raises(NotReady, match=r"certificate.*\?cafile="):
            await send_as_a_service_does(odd.url)
        await send_as_a_service_does(f"{odd.url}?cafile={certificate.file}")
    assert len(odd.mails) == 1
