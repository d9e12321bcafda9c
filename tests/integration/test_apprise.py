"""Text messages and push by Apprise, against a receiver of its own protocols that refuses, stalls and comes back."""

import asyncio
import logging
import threading
from dataclasses import replace

import pytest

from control_room.launcher.ports import free_ports
from notification_service import apprise_channel
from notification_service.apprise_channel import RECIPIENT, AppriseChannel
from notification_service.notifications import Notice, notice_of
from notification_service.templates import Templates
from shared.messaging.retry import NotReady, OutcomeUnknown, PermanentError, TransientError, Unavailable
from tests import examples
from tests.receiver import HANG_UP, SILENCE, TRICKLE, Receiver, receiving
from tests.support import eventually

PASSWORD, TOKEN = "Zq7MarkerX9", "t0ken-in-the-path"
SECRETS = (PASSWORD, TOKEN, "+4915112345678", "%2B4915112345678")


def text() -> Notice:
    notice = notice_of("sms", examples.payment_succeeded(phone=examples.PHONE))
    assert notice is not None
    return notice


def push(recipient: str = "ada-s_phone") -> Notice:
    notice = notice_of("push", examples.payment_refunded(push=recipient))
    assert notice is not None
    return notice


def sms_over(receiver: Receiver, query: str = "") -> AppriseChannel:
    url = f"json://ada:{PASSWORD}@{receiver.address}/{TOKEN}/{{to}}{query}"
    return AppriseChannel("sms", url, Templates())


class Logged(logging.Handler):
    """What of Apprise's log reaches the service's."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "apprise":
            self.lines.append(record.getMessage())


async def test_a_text_message_goes_to_its_number_and_push_to_its_device() -> None:
    async with receiving() as receiver:
        await sms_over(receiver).send(text())
        await AppriseChannel("push", f"ntfy://{receiver.address}/{{to}}", Templates()).send(push())
    sms, ntfy = receiver.requests
    assert sms.target == f"/{TOKEN}/{examples.PHONE}"
    assert sms.json["message"] == "Order confirmed, 22.00 EUR paid. Thank you!"
    assert (ntfy.json["topic"], ntfy.json["title"]) == ("ada-s_phone", "Order cancelled")
    assert ntfy.json["message"] == "22.00 EUR go back to you."


async def test_many_at_once_are_not_paced() -> None:
    async with receiving() as receiver:
        channel = AppriseChannel("push", f"ntfy://{receiver.address}/{{to}}", Templates())
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _ in range(4):  # Apprise alone waits 5.5 s before each further call
            await channel.send(push())
        assert loop.time() - started < 5.5
    assert len(receiver.requests) == 4


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        *((f"{code} No", TransientError) for code in (400, 401, 404, 429)),
        *((f"{code} Oops", Unavailable) for code in (500, 503)),
        (HANG_UP, OutcomeUnknown),
        (SILENCE, OutcomeUnknown),
        (TRICKLE, OutcomeUnknown),
    ],
)
async def test_a_failure_is_told_from_success_and_shows_no_secret(
    answer: str, outcome: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apprise_channel, "SEND_SECONDS", 2.0)
    logging.getLogger().addHandler(log := Logged())
    async with receiving() as receiver:
        channel = sms_over(receiver, "?rto=0.5")
        receiver.answer = answer
        with pytest.raises(outcome) as caught:
            await channel.send(text())
        assert type(caught.value) is outcome
        assert answer[:3] in str(caught.value) or not answer[0].isdigit()
        receiver.answer = "200 OK"
        await channel.send(text())
    assert len(receiver.requests) == 2
    logging.getLogger().removeHandler(log)
    assert not log.lines
    assert not [secret for secret in SECRETS if secret in str(caught.value)]


async def test_a_provider_that_is_away_costs_attempts_and_is_used_again_once_it_is_back() -> None:
    (port,) = free_ports(1)
    channel = AppriseChannel("push", f"ntfy://127.0.0.1:{port}/{{to}}", Templates())
    for _ in range(2):
        with pytest.raises(OutcomeUnknown, match="onnection error"):
            await channel.send(push())
    async with receiving(port) as receiver:
        await channel.send(push())
    assert len(receiver.requests) == 1


async def test_calls_without_an_answer_are_limited_and_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a byte now and then keeps Apprise waiting for ever: no read takes longer than its limit."""
    monkeypatch.setattr(apprise_channel, "SEND_SECONDS", 0.3)
    monkeypatch.setattr(apprise_channel, "THREADS", 2)
    async with receiving() as receiver:
        channel = sms_over(receiver)
        receiver.answer = TRICKLE
        for _ in range(2):
            with pytest.raises(OutcomeUnknown, match="no answer in time"):
                await channel.send(text())
        with pytest.raises(NotReady, match="2 calls have no answer yet"):
            await channel.send(text())
        assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("apprise"))
        for conversation in list(receiver.conversations):
            conversation.cancel()
        receiver.answer = "200 OK"
        monkeypatch.setattr(apprise_channel, "SEND_SECONDS", 5.0)

        async def is_sent() -> bool:
            try:
                await channel.send(text())
            except NotReady:
                return False
            return True

        await eventually(is_sent, expecting="the threads to have ended")


EVIL = [
    "a,b",
    "a/b",
    "a b",
    "a?b",
    "a#b",
    "a%2Fb",
    "a&to=b",
    "a;b",
    "é",
    "",
    "a\n",
    "x" * 513,
    "<b>",
    "'",
    "a|b",
    "{to}",
]


@pytest.mark.parametrize("recipient", EVIL)
async def test_a_recipient_that_could_be_several_or_another_part_of_the_url_is_refused(recipient: str) -> None:
    async with receiving() as receiver:
        channel = sms_over(receiver)
        with pytest.raises(PermanentError, match="can't be part of a URL") as caught:
            await channel.send(replace(text(), recipient=recipient))
    assert caught.value.reason == "no-recipient"
    assert not receiver.requests


@pytest.mark.parametrize("recipient", ["a+b", "a=b", "@ada", "ada~1", "a.b.c", "token:APA91b-x_y", "..", "A" * 512])
async def test_every_recipient_that_is_accepted_arrives_as_it_is(recipient: str) -> None:
    assert RECIPIENT.fullmatch(recipient)
    async with receiving() as receiver:
        url = f"json://{receiver.address}/?:to={{to}}&x=1"
        await AppriseChannel("push", url, Templates()).send(push(recipient))
    assert receiver.requests[0].json["to"] == recipient


async def test_a_plugin_that_knows_no_such_recipient_is_a_failure_with_its_reason() -> None:
    async with receiving() as receiver:
        channel = AppriseChannel("push", f"ntfy://{receiver.address}/{{to}}", Templates())
        with pytest.raises(OutcomeUnknown, match="topic"):
            await channel.send(push("no:topic"))
    assert not receiver.requests
