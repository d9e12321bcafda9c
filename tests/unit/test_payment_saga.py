"""Charge, cancellation and refund in any order, any number of times, over crashes and lost answers: one right end.

A hypothesis state machine over the real handlers and the real stores of two replicas. Each replica stops at every step,
before and after each request to the gateway and each commit: there the machine decides what happens next, and where.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, delete

from payment_service import store
from payment_service.handlers import Paying
from payment_service.payments import Charged, Declined, OrderEvent, Refunded
from shared.effects import Once
from shared.events import Event, Money, decode
from shared.ids import new_id
from shared.messaging.retry import DONE, DUPLICATE, OutcomeUnknown, TransientError
from shared.persistence.database import Database
from tests import examples
from tests.support import start_ready


class Decision(Enum):
    """How a step ends. A step that can't fail goes well."""

    OK, FAILS, SLOW = auto(), auto(), auto()


class Ledger:
    """A gateway that honours idempotency keys. A request that took too long is carried out later, or never."""

    def __init__(self, is_declined: bool) -> None:
        self.is_declined = is_declined
        self.moved: dict[str, tuple[str, int]] = {}
        self.under_way: list[tuple[str, str, int]] = []

    def move(self, key: str, kind: str, amount: int) -> None:
        if self.is_declined:
            return
        assert self.moved.setdefault(key, (kind, amount)) == (kind, amount), "a key was used for something else"

    def land(self, is_carried_out: bool) -> None:
        request = self.under_way.pop(0)
        if is_carried_out:
            self.move(*request)

    def amounts(self, kind: str) -> list[int]:
        return [amount for each, amount in self.moved.values() if each == kind]


@dataclass
class Delivery:
    event: OrderEvent
    attempt: int = 1


class Replica:
    """A payment service that handles one delivery at a time, step by step."""

    def __init__(self, database: Database, ledger: Ledger) -> None:
        self._database, self._ledger = database, ledger
        self.once = Once(self, store.records, lambda event: Paying(self, event))  # type: ignore[arg-type]
        self.delivery: Delivery | None = None
        self.step: str | None = None
        self._task: asyncio.Task[str] | None = None
        self._stopped, self._decided = asyncio.Event(), asyncio.Event()
        self._decision = Decision.OK

    async def start(self, delivery: Delivery, gives_up: bool) -> str | None:
        self.delivery = delivery
        self._task = asyncio.create_task(self._handle(delivery, gives_up))
        return await self._until_stopped()

    async def go_on(self, decision: Decision) -> str | None:
        """Leave the step; returns what became of the delivery once it is over."""
        self._decision = decision
        self._stopped.clear()
        self._decided.set()
        return await self._until_stopped()

    async def crash(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        self.delivery = self.step = None
        self.once = Once(self, store.records, lambda event: Paying(self, event))  # type: ignore[arg-type]

    async def _until_stopped(self) -> str | None:
        assert self._task is not None
        stopped = asyncio.create_task(self._stopped.wait())
        await asyncio.wait([self._task, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not self._task.done():
            return None
        self.delivery = self.step = None
        return self._task.result()

    async def _handle(self, delivery: Delivery, gives_up: bool) -> str:
        try:
            assert await self.once.handle(delivery.event, delivery.attempt) in (DONE, DUPLICATE)
        except TransientError as error:
            if not gives_up:
                return "retried"
            return "parked" if await self.once.give_up(delivery.event, delivery.attempt, str(error)) else "done"
        return "done"

    async def _stop(self, step: str) -> Decision:
        self.step = step
        self._decided.clear()
        self._stopped.set()
        await self._decided.wait()
        return self._decision

    # The gateway, as the handler sees it.

    async def charge(self, key: str, token: str, amount: Money) -> Charged | Declined:
        await self._move("charge", key, amount)
        return Declined("card_declined") if self._ledger.is_declined else Charged(f"charge of {key}")

    async def refund(self, key: str, charge: Charged, amount: Money) -> Refunded:
        assert charge.charge_id.removeprefix("charge of ") in self._ledger.moved, "a refund of no charge"
        await self._move("refund", key, amount)
        return Refunded(charge.charge_id, f"refund {key}")

    async def _move(self, kind: str, key: str, amount: Money) -> None:
        match await self._stop(kind):
            case Decision.FAILS:
                raise TransientError("the gateway is away")
            case Decision.SLOW:
                self._ledger.under_way.append((key, kind, amount.amount_minor))
                raise OutcomeUnknown("no answer in time")
        self._ledger.move(key, kind, amount.amount_minor)
        if await self._stop(f"{kind} answered") != Decision.OK:
            raise OutcomeUnknown("the answer was lost")

    async def find(self, key: str) -> Charged | None:
        if await self._stop("find") != Decision.OK or any(each == key for each, *_ in self._ledger.under_way):
            raise TransientError("the gateway does not know")
        found = Charged(f"charge of {key}") if key in self._ledger.moved else None
        if await self._stop("find answered") != Decision.OK:
            raise TransientError("the answer was lost")
        return found

    # The database, as the handler sees it.

    def expect_writable(self) -> None:
        self._database.expect_writable()

    async def look_up(self, operation: Any, row: Any) -> Any:
        await self._stop("look up")
        return await self._database.look_up(operation, row)

    async def write(self, operation: Any, row: Any) -> Any:
        await self._stop("write")
        written = await self._database.write(operation, row)
        if await self._stop("written") != Decision.OK and operation == store.records.record:
            return False  # its answer was lost, and the second run found the row
        return written


class Saga(RuleBasedStateMachine):
    """One order. What the broker holds is delivered at least once, in any order; dead letters are redriven at last."""

    databases: list[Database]
    runner: asyncio.Runner

    @initialize(is_declined=st.sampled_from([False, False, False, True]))
    def begin(self, is_declined: bool) -> None:
        self.order_id = new_id()
        self.placed, self.cancelled = examples.order_placed(self.order_id), examples.order_cancelled(self.order_id)
        self.published: list[OrderEvent] = []
        self.waiting: list[Delivery] = []
        self.parked: list[Delivery] = []
        self.ledger = Ledger(is_declined)
        self.replicas = [Replica(database, self.ledger) for database in self.databases]
        self.runner.run(self.databases[0].write(_forget_events, None))

    def idle(self) -> list[Replica]:
        return [each for each in self.replicas if each.delivery is None]

    def busy(self) -> list[Replica]:
        return [each for each in self.replicas if each.delivery is not None]

    def publish(self, event: OrderEvent) -> None:
        self.published.append(event)
        self.waiting.append(Delivery(event))

    @precondition(lambda self: self.placed not in self.published)
    @rule()
    def place(self) -> None:
        self.publish(self.placed)

    @precondition(lambda self: self.cancelled not in self.published)
    @rule()
    def cancel(self) -> None:
        self.publish(self.cancelled)

    @precondition(lambda self: self.published and len(self.waiting) < 3)
    @rule(data=st.data(), by_the_sweep=st.booleans())
    def repeat(self, data: st.DataObject, by_the_sweep: bool) -> None:
        event = data.draw(st.sampled_from(self.published), "event")
        self.waiting.append(Delivery(event.model_copy(update={"again": True}) if by_the_sweep else event))

    @precondition(lambda self: self.parked)
    @rule()
    def redrive(self) -> None:
        self.waiting.append(Delivery(self.parked.pop(0).event))

    @precondition(lambda self: self.waiting and self.idle())
    @rule(data=st.data(), gives_up=st.booleans())
    def deliver(self, data: st.DataObject, gives_up: bool) -> None:
        replica = data.draw(st.sampled_from(self.idle()), "replica")
        delivery = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1), "delivery"))
        self.carry_out(replica.start(delivery, gives_up), delivery)

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), decision=st.sampled_from([Decision.OK] * 3 + [Decision.FAILS, Decision.SLOW]))
    def go_on(self, data: st.DataObject, decision: Decision) -> None:
        replica = data.draw(st.sampled_from(self.busy()), "replica")
        self.carry_out(replica.go_on(decision), replica.delivery)

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        replica = data.draw(st.sampled_from(self.busy()), "replica")
        assert replica.delivery is not None
        self.waiting.append(replica.delivery)
        self.runner.run(replica.crash())

    @precondition(lambda self: self.ledger.under_way)
    @rule(is_carried_out=st.booleans())
    def land(self, is_carried_out: bool) -> None:
        self.ledger.land(is_carried_out)

    def carry_out(self, step: Any, delivery: Delivery | None) -> None:
        assert delivery is not None
        match self.runner.run(step):
            case "retried":
                self.waiting.append(Delivery(delivery.event, delivery.attempt + 1))
            case "parked":
                self.parked.append(delivery)

    @invariant()
    def money_is_moved_once(self) -> None:
        total = self.placed.data.order.total.amount_minor
        assert self.ledger.amounts("charge") in ([], [total])
        assert self.ledger.amounts("refund") in ([], self.ledger.amounts("charge"))

    def teardown(self) -> None:
        if not hasattr(self, "replicas"):
            return
        self.everything_arrives()
        self.expect_the_right_end()

    def everything_arrives(self) -> None:
        """Nothing fails any more, and every dead letter is redriven."""
        while self.busy() or self.waiting or self.parked or self.ledger.under_way:
            if self.ledger.under_way:
                self.ledger.land(True)
            elif self.busy():
                self.carry_out(self.busy()[0].go_on(Decision.OK), self.busy()[0].delivery)
            elif self.waiting:
                self.carry_out(self.replicas[0].start(delivery := self.waiting.pop(0), False), delivery)
            else:
                self.redrive()

    def expect_the_right_end(self) -> None:
        payment = self.runner.run(self.databases[0].read(store.records.get, self.order_id))
        status = None if payment is None else payment.status
        types = self.runner.run(self.event_types())
        charged, refunded = (sum(self.ledger.amounts(kind)) for kind in ("charge", "refund"))
        if self.cancelled in self.published:
            assert charged - refunded == 0
            assert status == ("refunded" if charged else "voided")
            assert types[-1] == f"payment.{status}.v1"
        elif self.published:
            assert status == ("declined" if self.ledger.is_declined else "succeeded")
            assert (charged > 0, refunded) == (not self.ledger.is_declined, 0)
            assert types[-1] == f"payment.{status}.v1"
        else:
            assert (status, types) == (None, [])

    async def event_types(self) -> list[str]:
        """Of the events about this order, in the order of their first publication. No fact has two of them."""
        found = [event for event in await self.databases[0].read(_events, None) if event.subject == self.order_id]
        ids = list(dict.fromkeys((event.type, event.id) for event in found))
        assert len({event_type for event_type, _ in ids}) == len(ids), "two events of one type"
        return [event_type for event_type, _ in ids]


def _events(connection: Connection, rows: list[None]) -> list[list[Event]]:
    return [[decode(row.message.body) for row in store.outbox.waiting(connection, 1000)] for _ in rows]


def _forget_events(connection: Connection, rows: list[None]) -> list[None]:
    connection.execute(delete(store.outbox.table))
    return rows


def test_whatever_happens_a_cancelled_order_costs_nothing_and_another_what_it_should(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'payments.db'}"
    with asyncio.Runner() as runner:
        Saga.runner, Saga.databases = runner, [Database(url, store.metadata, name="payments") for _ in range(2)]
        for database in Saga.databases:
            runner.run(start_ready(database))
        run_state_machine_as_test(Saga, settings=settings(max_examples=200, stateful_step_count=40, deadline=None))
        for database in Saga.databases:
            runner.run(database.stop())
