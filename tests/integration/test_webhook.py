"""The webhook against receivers that refuse, stall, hang up, redirect and come back; and the example in its page."""

import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from control_room.launcher.ports import free_ports
from notification_service import webhook
from notification_service.notifications import Notice, notice_of
from notification_service.templates import Templates
from notification_service.webhook import WebhookChannel
from shared.messaging.retry import (
    NoAnswer,
    NotReady,
    PermanentError,
    TransientError,
    Unavailable,
)
from tests import examples
from tests.receiver import HANG_UP, SILENCE, TRICKLE, Receiver, receiving

SECRET = "a secret of the test"
PAGE = Path(__file__).parents[2] / "docs/webhooks.md"


def ticket() -> Notice:
    notice = notice_of("restaurant", examples.payment_succeeded())
    assert notice is not None
    return notice


@asynccontextmanager
async def hooked(receiver: Receiver, target: str = "/tickets?token=t0ken") -> AsyncIterator[WebhookChannel]:
    channel = WebhookChannel(f"http://ada:p%40ss@{receiver.address}{target}", Templates(), SECRET)
    yield channel
    await channel.close()


@pytest.fixture(autouse=True)
def _quick_and_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "ANSWER_SECONDS", 2.0)
    monkeypatch.setattr(webhook, "CONNECT_SECONDS", 1.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def is_genuine() -> Callable[..., bool]:
    """The function in the documentation, as it stands there."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    found: Callable[..., bool] = namespace["is_genuine"]
    return found


async def test_a_notice_is_posted_once_and_the_documented_check_accepts_it(is_genuine: Callable[..., bool]) -> None:
    async with receiving() as receiver, hooked(receiver) as channel:
        await channel.send(notice := ticket())
        await channel.send(ticket())
    first, second = receiver.requests
    assert receiver.connections == 1
    assert first.target == "/tickets?token=t0ken"
    assert first.headers["Authorization"] == "Basic YWRhOnBAc3M="
    assert first.headers["Idempotency-Key"] == f'"{notice.idempotency_key}"' != second.headers["Idempotency-Key"]
    assert first.json["id"] == notice.idempotency_key
    assert (first.json["notice"], first.json["text"]) == (
        "kitchen_ticket",
        "  2 x Pizza Margherita\n  1 x Cola 0.33 l\n",
    )
    assert "customer_email" not in str(first.json)
    assert is_genuine(first.headers, first.body, SECRET.encode())


async def test_the_documented_check_refuses_what_was_changed_or_is_old(is_genuine: Callable[..., bool]) -> None:
    async with receiving() as receiver, hooked(receiver) as channel:
        await channel.send(ticket())
    (request,) = receiver.requests
    now, key = str(int(time.time()) + 1), SECRET.encode()
    old = webhook.signed(request.body, key, int(time.time()) - 600)
    assert not is_genuine(request.headers, request.body + b" ", key)
    assert not is_genuine(request.headers, request.body, b"another secret")
    assert not is_genuine({**request.headers, "Order-Rail-Timestamp": now}, request.body, key)
    assert not is_genuine(old, request.body, key)
    assert not is_genuine({}, request.body, key)
    assert not is_genuine({**request.headers, "Order-Rail-Timestamp": "²"}, request.body, key)


async def test_a_repeated_attempt_has_the_same_key_and_the_same_body() -> None:
    async with receiving() as receiver, hooked(receiver) as channel:
        receiver.first = ["500 Oops"]
        notice = ticket()
        with pytest.raises(TransientError):
            await channel.send(notice)
        await channel.send(notice)
    first, second = receiver.requests
    assert (first.body, first.headers["Idempotency-Key"]) == (second.body, second.headers["Idempotency-Key"])


def in_seconds(seconds: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("answer", "outcome", "retry_after_seconds"),
    [
        *((f"{code} Fine", None, 0) for code in (200, 201, 202, 204, 299)),
        *((f"{code} No", PermanentError, 0) for code in (400, 401, 403, 404, 405, 410, 413, 422, 451)),
        *((f"{code} There; Location: /elsewhere", PermanentError, 0) for code in (301, 302, 303, 307, 308)),
        *((f"{code} Later", TransientError, 0) for code in (408, 425)),
        ("429 Slow down", TransientError, 1),
        *((f"{code} Oops", Unavailable, 0) for code in (500, 501, 502, 503, 504, 599)),
        ("429 Slow down; Retry-After: 90", TransientError, 90),
        ("503 Away; Retry-After: 120", Unavailable, 120),
        ("503 Away; Retry-After: <3600>", Unavailable, 3600),  # the date in so many seconds
        *((f"503 Away; Retry-After: {odd}", Unavailable, 0) for odd in (
            "<-9>", "soon", "-1", "1.5", "²", "Fri, 99 Foo 2026 99:99:99 GMT")),
        (HANG_UP, NoAnswer, 0),
        (SILENCE, NoAnswer, 0),
        (TRICKLE, NoAnswer, 0),
        ("abc nonsense", NoAnswer, 0),
    ],
)  # fmt: skip
async def test_what_an_answer_means(answer: str, outcome: type[Exception] | None, retry_after_seconds: float) -> None:
    async with receiving() as receiver, hooked(receiver) as channel:
        answer = re.sub(r"<(-?\d+)>", lambda seconds: in_seconds(int(seconds[1])), answer)
        receiver.answer, receiver.body = answer, b"" if answer.startswith("204") else b"thanks"
        caught: Exception | None = None
        try:
            await channel.send(ticket())
        except Exception as error:  # noqa: BLE001
            caught = error
        assert len(receiver.requests) == 1, "redirects are not followed, and nothing is repeated here"
    assert type(caught) is (outcome or type(None))
    if isinstance(caught, TransientError):
        assert caught.retry_after_seconds == pytest.approx(retry_after_seconds, abs=retry_after_seconds / 4)
    for secret in ("p%40ss", "p@ss", "t0ken", "tickets", SECRET):
        assert secret not in str(caught)


async def test_an_answer_counts_whatever_its_body_and_the_body_is_not_read_for_ever() -> None:
    async with receiving() as receiver, hooked(receiver) as channel:
        receiver.answer = "200 OK; X: y"
        receiver.body = b"x" * 10_000_000
        await channel.send(ticket())
        receiver.body = b"ok"
        await channel.send(ticket())
    assert len(receiver.requests) == 2


async def test_a_receiver_that_is_away_is_waited_for_and_used_again_once_it_is_back() -> None:
    (port,) = free_ports(1)
    channel = WebhookChannel(f"http://127.0.0.1:{port}/", Templates(), SECRET)
    with pytest.raises(NotReady, match="can't be reached"):
        await channel.send(ticket())
    for _ in range(2):  # the second time an idle connection has been closed by the receiver
        async with receiving(port) as receiver:
            await channel.send(ticket())
        assert len(receiver.requests) == 1
    with pytest.raises(NotReady):
        await channel.send(ticket())
    await channel.close()


async def test_a_name_that_is_unknown_and_a_certificate_that_is_not_trusted_are_outages() -> None:
    channel = WebhookChannel("https://no-such-host.invalid/", Templates(), SECRET)
    with pytest.raises(NotReady, match="can't be reached"):
        await channel.send(ticket())
    await channel.close()
    async with receiving() as receiver:  # it speaks no TLS
        channel = WebhookChannel(f"https://{receiver.address}/", Templates(), SECRET)
        with pytest.raises(NotReady, match="can't be reached"):
            await channel.send(ticket())
        await channel.close()


def test_mail_may_go_by_webhook_too_and_then_has_its_html() -> None:
    notice = notice_of("email", examples.payment_refunded())
    assert notice is not None
    body = webhook.body_of(notice, Templates()).decode()
    assert '"html":"<!doctype html>' in body
    assert '"recipient":"ada@example.com"' in body
