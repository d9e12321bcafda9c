"""The crash-point plugin finds a planted fault in each of three small handlers, and none in those of the services."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, NamedTuple, cast

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, select

import notification_service.store
import order_service.store
import payment_service.store
from notification_service.channels import NotificationChannel
from notification_service.handlers import subscriptions as notifying
from notification_service.notifications import KINDS
from order_service.handlers import Tracking
from order_service.handlers import subscriptions as tracking
from order_service.live import Changes
from order_service.orders import SweepDelays
from payment_service.gateways import Gateway
from payment_service.handlers import subscriptions as paying
from payment_service.payments import Charged, Refunded
from shared.breaker import Breaker
from shared.effects import Once
from shared.events import ChannelName, Event, OrderPlaced
from shared.ids import new_id
from shared.messaging.processor import Subscription
from shared.messaging.retry import DONE, DUPLICATE, Ack
from shared.persistence.bulk import BulkInsert, skip_existing
from shared.persistence.keyed import KeyedStore
from shared.persistence.outbox import Outbox
from shared.testing.crash_points import CrashPoints, Process
from tests import examples

metadata = MetaData()
outbox = Outbox(metadata, "orders")
badges = Table("badges", metadata, Column("order_id", String, primary_key=True))
credited = Table("credited", metadata, Column("order_id", String, primary_key=True))
balances = Table("balances", metadata, Column("customer", String, primary_key=True), Column("orders", Integer))
facts = Table(
    "facts", metadata, Column("key", String, primary_key=True), Column("status", String), Column("event_id", String)
)

EARLY, UNRECORDED, KEYLESS = "effect before look-up", "ack before record", "no key"
_background: set[asyncio.Future[Any]] = set()


def is_in(table: Table) -> Callable[[Connection, list[str]], list[bool]]:
    def look(connection: Connection, keys: list[str]) -> list[bool]:
        found = set(connection.execute(select(table.primary_key.columns[0])).scalars())
        return [key in found for key in keys]

    return look


def add_to(table: Table) -> Callable[[Connection, list[str]], list[bool]]:
    insert = BulkInsert(table, lambda into: skip_existing(into).returning(table.primary_key.columns[0]))
    return lambda connection, keys: [bool(insert.run(connection, [{"order_id": key}])) for key in keys]


def count_up(connection: Connection, customers: list[str]) -> list[None]:
    for customer in customers:
        BulkInsert(balances, skip_existing).run(connection, [{"customer": customer, "orders": 0}])
        connection.execute(balances.update().values(orders=balances.c.orders + 1))
    return [None for _ in customers]


def credit(connection: Connection, keys: list[str]) -> list[bool]:
    are_new = add_to(credited)(connection, keys)
    count_up(connection, ["ada"] * sum(are_new))
    return are_new


is_badge, add_badge, is_credited, mark_credited = is_in(badges), add_to(badges), is_in(credited), add_to(credited)


async def in_the_background(work: Awaitable[Any]) -> Ack:
    _background.add(asyncio.ensure_future(work))
    return DONE


def badge(process: Process, fault: str) -> Callable[[Event, int], Awaitable[Ack]]:
    """Has an effect on the outside world, then records it."""

    async def handle(event: Event, attempt: int) -> Ack:
        key = new_id() if fault == KEYLESS else event.subject
        if fault == EARLY:
            await process.effect(key)
        if await process.database.look_up(is_badge, event.subject):
            return DUPLICATE
        if fault != EARLY:
            await process.effect(key)
        recording = process.database.write(add_badge, event.subject)
        if fault == UNRECORDED:
            return await in_the_background(recording)
        return DONE if await recording else DUPLICATE

    return handle


def balance(process: Process, fault: str) -> Callable[[Event, int], Awaitable[Ack]]:
    """Its effect is in its own database, in the commit that records it."""

    async def handle(event: Event, attempt: int) -> Ack:
        if fault == EARLY:
            await process.database.write(count_up, "ada")
            if await process.database.look_up(is_credited, event.subject):
                return DUPLICATE
            return DONE if await process.database.write(mark_credited, event.subject) else DUPLICATE
        recording = process.database.write(credit, new_id() if fault == KEYLESS else event.subject)
        if fault == UNRECORDED:
            return await in_the_background(recording)
        return DONE if await recording else DUPLICATE

    return handle


class Fact(NamedTuple):
    key: str
    status: str
    event_id: str


records = KeyedStore(facts, outbox, to_row=Fact._asdict, from_row=Fact._make, replaces={"done": ()})


class Outside:
    def __init__(self, process: Process, fault: str, event: Event) -> None:
        self._process, self._fault, self._event = process, fault, event
        self.key = new_id() if fault == KEYLESS else event.subject

    def is_done(self, known: Fact | None) -> bool:
        return known is not None

    async def perform(self, known: Fact | None, attempt: int) -> Fact:
        if self._fault != EARLY:
            await self._process.effect(self.key)
        return Fact(self.key, "done", new_id())

    def given_up(self, attempts: int, error: str) -> None:
        return None

    def event_of(self, fact: Fact) -> Event:
        return self._event.model_copy(update={"id": fact.event_id})


def skeleton(process: Process, fault: str) -> Callable[[Event, int], Awaitable[Ack]]:
    """The shared skeleton, which publishes as well."""
    once = Once(process.database, records, lambda event: Outside(process, fault, event))

    async def handle(event: Event, attempt: int) -> Ack:
        if fault == EARLY:
            await process.effect(event.subject)
        if fault == UNRECORDED:
            return await in_the_background(once.handle(event, attempt))
        return await once.handle(event, attempt)

    return handle


Handler = Callable[[Process, str], Callable[[Event, int], Awaitable[Ack]]]


async def faults_of(crash_points: CrashPoints, handler: Handler, fault: str, **how: Any) -> tuple[list[str], list[str]]:
    def subscription(process: Process) -> Subscription:
        return Subscription("small.work", {OrderPlaced: handler(process, fault)}, concurrency=1)

    return await crash_points.faults(subscription, examples.order_placed(), tables=metadata, outbox=outbox, **how)


@pytest.mark.parametrize(
    ("handler", "fault", "finding"),
    [
        (badge, EARLY, "a duplicate that comes after the acknowledgement has its effect again"),
        (badge, UNRECORDED, "killed before record: table badges holds [], expected"),
        (badge, KEYLESS, "killed before record: effects: 2, expected 1"),
        (balance, EARLY, "killed before record 2: table balances holds [['ada', 2]], expected [['ada', 1]]"),
        (balance, UNRECORDED, "killed before record: table balances holds [], expected [['ada', 1]]"),
        (balance, KEYLESS, "killed before ack: table balances holds [['ada', 2]], expected [['ada', 1]]"),
        (skeleton, EARLY, "a duplicate that comes after the acknowledgement has its effect again"),
        (skeleton, UNRECORDED, "killed before effect: effects: 0, expected 1"),
        (skeleton, KEYLESS, "killed before record: effects: 2, expected 1"),
    ],
)
async def test_a_planted_fault_is_found(crash_points: CrashPoints, handler: Handler, fault: str, finding: str) -> None:
    _, found = await faults_of(crash_points, handler, fault)
    assert any(each.startswith(finding) for each in found), "\n".join(found)


@pytest.mark.parametrize(
    ("handler", "steps"),
    [
        (badge, ["look-up", "effect", "record", "ack"]),
        (balance, ["record", "ack"]),
        (skeleton, ["look-up", "effect", "record", "ack", "publish", "forget"]),
    ],
)
async def test_it_kills_before_every_step_and_finds_nothing_in_a_right_handler(
    crash_points: CrashPoints, handler: Handler, steps: list[str]
) -> None:
    assert await faults_of(crash_points, handler, "") == (steps, [])


def by_mail(process: Process, fault: str) -> Callable[[Event, int], Awaitable[Ack]]:
    async def handle(event: Event, attempt: int) -> Ack:
        if await process.database.look_up(is_badge, event.subject):
            return DUPLICATE
        if fault == "record before effect":
            await process.database.write(add_badge, event.subject)
        await process.effect(None)
        if not fault:
            await process.database.write(add_badge, event.subject)
        return DONE

    return handle


async def test_an_outside_world_that_knows_no_keys_may_see_a_repetition_and_no_gap(crash_points: CrashPoints) -> None:
    assert (await faults_of(crash_points, by_mail, ""))[1] == ["killed before record: effects: 2, expected 1"]
    assert not (await faults_of(crash_points, by_mail, "", outside_knows_keys=False))[1]
    _, found = await faults_of(crash_points, by_mail, "record before effect", outside_knows_keys=False)
    assert "killed before effect: effects: 0, expected 1" in found


class KeyedGateway:
    def __init__(self, process: Process) -> None:
        self._effect = process.effect

    async def charge(self, key: str, token: str, amount: Any) -> Charged:
        await self._effect(key)
        return Charged("charge-1")

    async def refund(self, key: str, charge: Charged, amount: Any) -> Refunded:
        await self._effect(key)
        return Refunded(charge.charge_id, "refund-1")


class Mail:
    concurrency = 1

    def __init__(self, process: Process) -> None:
        self._effect = process.effect

    async def send(self, notice: Any) -> None:
        await self._effect(None)


PLACED = examples.order_placed()
PAID = examples.payment_succeeded(PLACED.subject)
EFFECT = ["look-up", "effect", "record", "ack", "publish", "forget"]


def charging(process: Process) -> Subscription:
    return paying(process.database, cast(Gateway, KeyedGateway(process)), 1)[0]


@pytest.mark.parametrize(
    ("before", "event"), [([], PLACED), ([PLACED], examples.order_cancelled(PLACED.subject))], ids=["charge", "refund"]
)
async def test_payments_are_made_once(crash_points: CrashPoints, before: list[Event], event: Event) -> None:
    store = payment_service.store
    steps = await crash_points.check(charging, event, tables=store.metadata, outbox=store.outbox, before=before)
    assert steps == EFFECT


@pytest.mark.parametrize("channel", KINDS)
async def test_notices_are_sent_once_but_for_the_moment_after_sending(
    crash_points: CrashPoints, channel: ChannelName
) -> None:
    def sending(process: Process) -> Subscription:
        adapter = cast(NotificationChannel, Mail(process))
        return notifying(process.database, {channel: adapter}, {channel: Breaker(channel)})[0]

    store, event = notification_service.store, examples.payment_succeeded(phone=examples.PHONE, push="a phone")
    steps = await crash_points.check(
        sending, event, tables=store.metadata, outbox=store.outbox, outside_knows_keys=False
    )
    assert steps == EFFECT


async def test_reports_are_written_to_the_timeline_once(crash_points: CrashPoints) -> None:
    def reporting(process: Process) -> Subscription:
        async def place(event: OrderPlaced, attempt: int) -> Ack:
            await process.database.write(store.place, store.Placement(event, None, "asked"))
            return DONE

        (subscription,) = tracking(
            Tracking(process.database, Changes(), SweepDelays(dict.fromkeys(("charge", *KINDS), 60.0)))
        )
        return replace(subscription, handlers={OrderPlaced: place, **subscription.handlers})

    store = order_service.store
    steps = await crash_points.check(
        reporting, PAID, tables=store.metadata, outbox=store.outbox, before=[PLACED], but={store.duplicates.name}
    )
    assert steps == ["record", "ack"]
