"""Charge, cancellation and refund in any order, any number of times, over crashes and lost answers: one right end.

A hypothesis state machine over the real handlers and the real stores of two replicas. Each replica stops before every
request to the gateway and before every commit: there the machine decides how it ends, and which replica goes on.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
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
from shared.messaging.retry import DONE, DUPLICATE, OutcomeUnknown, PermanentError, TransientError
from shared.persistence.database import Database
from tests import examples
from tests.support import new_database, start_ready


class Decision(Enum):
    """How a request or a commit ends. LOST: done, but there is no answer. SLOW: no answer, and done later or never."""

    OK, FAILS, LOST, SLOW = auto(), auto(), auto(), auto()


NUMBERS = st.integers(0, 1)


class Ledger:
    """A gateway that honours idempotency keys. A request that took too long is carried out later, or never.

    `uses_keys_up`: a key that was not charged when it was asked for can't be charged later.
    """

    def __init__(self, is_declined: bool, uses_keys_up: bool) -> None:
        self.is_declined, self.uses_keys_up = is_declined, uses_keys_up
        self.used_up: set[str] = set()
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


@dataclass(eq=False)
class Delivery:
    event: OrderEvent
    attempt: int = 1


class Replica:
    """A payment service that handles one delivery at a time, step by step."""

    def __init__(self, database: Database, ledger: Ledger) -> None:
        self._database, self._ledger = database, ledger
        self.once = Once(self, store.records, lambda event: Paying(self, event))  # type: ignore[arg-type]
        self.delivery: Delivery | None = None
        self.gives_up = False
        self._task: asyncio.Task[str] | None = None
        self._stopped, self._decided = asyncio.Event(), asyncio.Event()
        self._decision = Decision.OK

    async def start(self, delivery: Delivery) -> str | None:
        self.delivery, self.gives_up = delivery, False
        self._stopped.clear()
        self._task = asyncio.create_task(self._handle(delivery))
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
        self.delivery = None
        self.once = Once(self, store.records, lambda event: Paying(self, event))  # type: ignore[arg-type]

    async def _until_stopped(self) -> str | None:
        assert self._task is not None
        stopped = asyncio.create_task(self._stopped.wait())
        await asyncio.wait([self._task, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not self._task.done():
            return None
        self.delivery = None
        return self._task.result()

    async def _handle(self, delivery: Delivery) -> str:
        try:
            assert await self.once.handle(delivery.event, delivery.attempt) in (DONE, DUPLICATE)
        except (PermanentError, TransientError) as error:
            if isinstance(error, TransientError) and not self.gives_up:
                return "retried"
            return "parked" if await self.once.give_up(delivery.event, delivery.attempt, str(error)) else "done"
        return "done"

    async def _stop(self) -> Decision:
        self._decided.clear()
        self._stopped.set()
        await self._decided.wait()
        return self._decision

    # The gateway, as the handler sees it.

    async def charge(self, key: str, token: str, amount: Money) -> Charged | Declined:
        if key in self._ledger.used_up:
            raise PermanentError("idempotency-mismatch", "the key was used for something else")
        await self._move("charge", key, amount)
        return Declined("card_declined") if self._ledger.is_declined else Charged(f"charge of {key}")

    async def refund(self, key: str, charge: Charged, amount: Money) -> Refunded:
        assert charge.charge_id.removeprefix("charge of ") in self._ledger.moved, "a refund of no charge"
        await self._move("refund", key, amount)
        return Refunded(charge.charge_id, f"refund {key}")

    async def _move(self, kind: str, key: str, amount: Money) -> None:
        decision = await self._stop()
        if decision is Decision.SLOW:
            self._ledger.under_way.append((key, kind, amount.amount_minor))
        elif decision is not Decision.FAILS:
            self._ledger.move(key, kind, amount.amount_minor)
        if decision is not Decision.OK:
            raise OutcomeUnknown("no answer")

    async def find(self, key: str) -> Charged | None:
        if await self._stop() is not Decision.OK or any(each == key for each, *_ in self._ledger.under_way):
            raise TransientError("the gateway does not know")
        if key in self._ledger.moved:
            return Charged(f"charge of {key}")
        if self._ledger.uses_keys_up:
            self._ledger.used_up.add(key)
        return None

    # The database, as the handler sees it.

    def expect_writable(self) -> None:
        self._database.expect_writable()

    async def look_up(self, operation: Any, row: Any) -> Any:
        return await self._database.look_up(operation, row)

    async def write(self, operation: Any, row: Any) -> Any:
        decision = await self._stop()
        written = await self._database.write(operation, row)
        if decision is Decision.LOST and operation == store.records.record:
            return False  # the answer was lost, and the second run found the row
        return written


class Saga(RuleBasedStateMachine):
    """One order. What the broker holds is delivered at least once, in any order; dead letters are redriven at last."""

    databases: list[Database]
    runner: asyncio.Runner

    @initialize(
        is_declined=st.sampled_from([False] * 5 + [True]),
        is_cancelled=st.sampled_from([True] * 5 + [False]),
        uses_keys_up=st.booleans(),
    )
    def begin(self, is_declined: bool, is_cancelled: bool, uses_keys_up: bool) -> None:
        order_id = new_id()
        self.order_id = order_id
        self.placed, self.cancelled = examples.order_placed(order_id), examples.order_cancelled(order_id)
        both: list[OrderEvent] = [self.placed, self.cancelled]
        self.published = both[: 1 + is_cancelled]
        self.waiting = [Delivery(event) for event in self.published]
        self.parked: list[Delivery] = []
        self.moot: list[Delivery] = []
        self.ledger = Ledger(is_declined, uses_keys_up)
        self.replicas = [Replica(database, self.ledger) for database in self.databases]
        self.runner.run(self.databases[0].write(_forget_events, None))

    @rule(steps=st.lists(st.tuples(NUMBERS, st.booleans()), min_size=4, max_size=12))
    def go_on(self, steps: list[tuple[int, bool]]) -> None:
        """Replicas take their next steps in this order; an idle one takes the newest or the oldest message."""
        for number, takes_newest in steps:
            replica = self.replicas[number]
            if replica.delivery is not None:
                self.leave(replica, Decision.OK)
            elif self.waiting:
                delivery = self.waiting.pop(-1 if takes_newest else 0)
                self.settle(delivery, self.runner.run(replica.start(delivery)))

    @rule(number=NUMBERS, takes_newest=st.booleans(), decision=st.sampled_from(Decision), gives_up=st.booleans())
    def fail(self, number: int, takes_newest: bool, decision: Decision, gives_up: bool) -> None:
        if self.replicas[number].delivery is None:
            self.go_on([(number, takes_newest)])
        if self.replicas[number].delivery is not None:
            self.replicas[number].gives_up = gives_up
            self.leave(self.replicas[number], decision)

    @rule(number=NUMBERS)
    def crash(self, number: int) -> None:
        if (delivery := self.replicas[number].delivery) is not None:
            self.waiting.append(delivery)
            self.runner.run(self.replicas[number].crash())

    @precondition(lambda self: len(self.waiting) < 3)
    @rule(is_cancellation=st.booleans(), by_the_sweep=st.booleans())
    def repeat(self, is_cancellation: bool, by_the_sweep: bool) -> None:
        event = self.published[-1 if is_cancellation else 0]
        self.waiting.append(Delivery(event.model_copy(update={"again": True}) if by_the_sweep else event))

    @precondition(lambda self: self.parked)
    @rule()
    def redrive(self) -> None:
        delivery = self.parked.pop(0)
        self.moot = [each for each in self.moot if each is not delivery]
        self.waiting.append(Delivery(delivery.event))

    @precondition(lambda self: self.moot)
    @rule()
    def discard(self) -> None:
        """Nobody redrives the charge of a cancelled order that has stalled."""
        self.parked.remove(self.moot.pop())

    @precondition(lambda self: self.ledger.under_way)
    @rule(is_carried_out=st.booleans())
    def land(self, is_carried_out: bool) -> None:
        self.ledger.land(is_carried_out)

    def leave(self, replica: Replica, decision: Decision) -> None:
        delivery = replica.delivery
        assert delivery is not None
        self.settle(delivery, self.runner.run(replica.go_on(decision)))

    def settle(self, delivery: Delivery, result: str | None) -> None:
        if result == "retried":
            self.waiting.append(Delivery(delivery.event, delivery.attempt + 1))
        elif result == "parked":
            self.parked.append(delivery)
            if len(self.published) > 1 and delivery.event.type == "order.placed.v1" and self.status() == "stalled":
                self.moot.append(delivery)

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
        while self.waiting or self.parked or self.ledger.under_way or any(each.delivery for each in self.replicas):
            if self.ledger.under_way:
                self.ledger.land(True)
            if self.parked:
                self.redrive()
            self.go_on([(0, False), (1, False)])

    def expect_the_right_end(self) -> None:
        status = self.status()
        types = self.runner.run(self.event_types())
        charged, refunded = (sum(self.ledger.amounts(kind)) for kind in ("charge", "refund"))
        if self.cancelled in self.published:
            assert charged - refunded == 0
            assert status == ("refunded" if charged else "voided")
            assert types[-1] == f"payment.{status}.v1"
        else:
            assert status == ("declined" if self.ledger.is_declined else "succeeded")
            assert (charged > 0, refunded) == (not self.ledger.is_declined, 0)
            assert types[-1] == f"payment.{status}.v1"

    def status(self) -> str | None:
        payment = self.runner.run(self.databases[0].read(store.records.get, self.order_id))
        return None if payment is None else payment.status

    async def event_types(self) -> list[str]:
        """Of the events about this order, in the order of their first publication. No fact has two of them.

        But a charge may be given up again and again.
        """
        found = [event for event in await self.databases[0].read(_events, None) if event.subject == self.order_id]
        types = [event_type for event_type, _ in dict.fromkeys((event.type, event.id) for event in found)]
        facts = [event_type for event_type in types if event_type != "payment.stalled.v1"]
        assert len(set(facts)) == len(facts), "two events of one type"
        return types


def _events(connection: Connection, rows: list[None]) -> list[list[Event]]:
    return [[decode(row.message.body) for row in store.outbox.waiting(connection, 1000)] for _ in rows]


def _forget_events(connection: Connection, rows: list[None]) -> list[None]:
    connection.execute(delete(store.outbox.table))
    return rows


@pytest.fixture
def saga(tmp_path: Path) -> Iterator[type[Saga]]:
    """The machine, with the databases of two replicas."""
    url = f"sqlite:///{tmp_path / 'payments.db'}"
    with asyncio.Runner() as runner:
        Saga.runner, Saga.databases = runner, [new_database(url, store.metadata, name="payments") for _ in range(2)]
        for database in Saga.databases:
            runner.run(start_ready(database))
        yield Saga
        for database in Saga.databases:
            runner.run(database.stop())


def test_whatever_happens_a_cancelled_order_costs_nothing_and_another_what_it_should(saga: type[Saga]) -> None:
    run_state_machine_as_test(saga, settings=settings(max_examples=200, stateful_step_count=12, deadline=None))


@pytest.mark.parametrize("decision", [Decision.OK, Decision.FAILS, Decision.LOST])
def test_every_order_of_the_steps_of_a_charge_and_a_cancellation_ends_the_same(
    saga: type[Saga], decision: Decision
) -> None:
    """A charge without an answer is given up, and nobody redrives it."""
    for steps in sorted(set(permutations([0] * 3 + [1] * 4))):
        machine = saga()
        machine.begin(is_declined=False, is_cancelled=True, uses_keys_up=False)
        is_asked = False
        for number in steps:
            if number == 0 and machine.replicas[0].delivery is not None and not is_asked:
                is_asked = True
                machine.fail(0, False, decision, True)
            else:
                machine.go_on([(number, number == 1)])
            if machine.moot:
                machine.discard()
        machine.teardown()
