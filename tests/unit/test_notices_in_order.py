"""Whatever arrives how often and in whatever order: each notice once, and none after a later one."""

import asyncio
from collections.abc import AsyncIterator
from itertools import permutations
from pathlib import Path

import pytest
import pytest_asyncio

from notification_service import store
from notification_service.channels import NotificationChannel
from notification_service.handlers import subscriptions
from notification_service.notifications import KINDS, Notice, PaymentOutcome
from shared import effects
from shared.breaker import Breaker
from shared.events import ChannelName
from shared.ids import new_id
from shared.messaging.processor import Subscription
from shared.messaging.retry import DUPLICATE, NotReady, PermanentError, TransientError
from shared.persistence.database import Database
from tests import examples
from tests.support import eventually, new_database, outbox_events, ready

RANKS = {"receipt": 0, "decline": 0, "kitchen_ticket": 0, "cancellation": 1, "refund": 2, "kitchen_stop": 2}


class Recorded:
    """A channel that keeps what it sends, and fails with the errors that a test gives it."""

    concurrency = 10

    def __init__(self) -> None:
        self.sent: list[Notice] = []
        self.begun: list[str] = []
        self.failures: list[Exception] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def send(self, notice: Notice) -> None:
        self.begun.append(notice.kind)
        if self.failures:
            raise self.failures.pop(0)
        await self.may_end.wait()
        self.sent.append(notice)

    async def close(self) -> None:
        """Nothing is kept."""

    def kinds(self, order_id: str) -> list[str]:
        return [notice.kind for notice in self.sent if notice.order_id == order_id]


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with ready(new_database(f"sqlite:///{tmp_path / 'notices'}.db", store.metadata, name="notices")) as database:
        yield database


@pytest.fixture
def channels() -> dict[ChannelName, Recorded]:
    return {name: Recorded() for name in KINDS}


@pytest.fixture
def handlers(database: Database, channels: dict[ChannelName, Recorded]) -> dict[str, Subscription]:
    opened: dict[ChannelName, NotificationChannel] = {**channels}
    breakers = {name: Breaker(name) for name in opened}
    return {each.queue.partition(".")[2]: each for each in subscriptions(database, opened, breakers)}


async def handle(handlers: dict[str, Subscription], channel: str, event: PaymentOutcome, attempt: int = 1) -> object:
    return await handlers[channel].handlers[type(event)](event, attempt)


def events_of(order_id: str) -> list[PaymentOutcome]:
    customer = {"phone": examples.PHONE, "push": "ada-s_phone"}
    return [
        examples.payment_succeeded(order_id, **customer), examples.payment_voided(order_id, **customer),
        examples.payment_refunded(order_id, **customer),
    ]  # fmt: skip


@pytest.mark.parametrize("at_once", [False, True])
async def test_every_order_of_arrival_ends_with_the_latest_notice_and_none_is_repeated(
    handlers: dict[str, Subscription], channels: dict[ChannelName, Recorded], at_once: bool
) -> None:
    for numbers in permutations(range(3)):
        events = events_of(order_id := new_id())
        arrivals = [events[number] for number in (*numbers, *numbers)]
        for name, kinds in KINDS.items():
            calls = [handle(handlers, name, event) for event in arrivals if type(event) in handlers[name].handlers]
            if at_once:
                await asyncio.gather(*calls)
            else:
                for call in calls:
                    await call
            sent = channels[name].kinds(order_id)
            ranks = [RANKS[kind] for kind in sent]
            assert ranks == sorted(set(ranks)), (numbers, sent)
            assert sent[-1] == kinds[type(events[2])]


async def test_an_older_notice_waits_for_nobody_once_a_later_one_is_recorded_even_as_given_up(
    handlers: dict[str, Subscription], channels: dict[ChannelName, Recorded], database: Database
) -> None:
    paid, _, refunded = events_of(new_id())
    channels["email"].failures = [PermanentError("mail-refused", "550 no"), TransientError("greylisted")]
    with pytest.raises(PermanentError):
        await handle(handlers, "email", refunded)
    assert handlers["email"].give_up is not None
    assert await handlers["email"].give_up(refunded, 1, "550 no")

    assert await handle(handlers, "email", paid) == DUPLICATE
    assert not await handlers["email"].give_up(paid, 3, "greylisted")

    assert channels["email"].begun == ["refund"]
    (event,) = await outbox_events(database, store.outbox)
    assert event.type == "notification.failed.v1"
    channels["email"].failures.clear()
    await handle(handlers, "email", refunded, 2)
    assert channels["email"].kinds(paid.subject) == ["refund"]


async def test_a_receipt_that_is_tried_again_after_the_refund_is_not_sent_any_more(
    handlers: dict[str, Subscription], channels: dict[ChannelName, Recorded]
) -> None:
    paid, _, refunded = events_of(new_id())
    channels["email"].failures = [TransientError("greylisted")]
    with pytest.raises(TransientError):
        await handle(handlers, "email", paid)
    await handle(handlers, "email", refunded)

    assert await handle(handlers, "email", paid, 2) == DUPLICATE
    assert channels["email"].kinds(paid.subject) == ["refund"]
    assert await handle(handlers, "sms", paid) != DUPLICATE, "other channels have an order of their own"


async def test_a_refund_waits_while_the_receipt_is_being_sent_and_is_held_if_that_takes_long(
    handlers: dict[str, Subscription], channels: dict[ChannelName, Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    paid, _, refunded = events_of(new_id())
    email = channels["email"]
    email.may_end.clear()
    receipt = asyncio.create_task(handle(handlers, "email", paid))
    await eventually(lambda: email.begun == ["receipt"])
    monkeypatch.setattr(effects, "TURN_SECONDS", 0.05)
    with pytest.raises(NotReady, match="another delivery has been at work"):
        await handle(handlers, "email", refunded)
    monkeypatch.undo()
    refund = asyncio.create_task(handle(handlers, "email", refunded))
    await handle(handlers, "restaurant", refunded)  # another channel does not wait
    assert email.begun == ["receipt"]
    email.may_end.set()
    await asyncio.gather(receipt, refund)
    assert email.kinds(paid.subject) == ["receipt", "refund"]


async def test_the_sweep_gets_the_event_of_the_latest_notice_again(
    handlers: dict[str, Subscription], database: Database
) -> None:
    paid, _, refunded = events_of(new_id())
    await handle(handlers, "sms", refunded)
    await handle(handlers, "sms", paid.model_copy(update={"again": True}))
    first, second = await outbox_events(database, store.outbox)
    assert (first.id, first.data.notice) == (second.id, second.data.notice)
    assert first.data.notice == "refund"
