"""What the processes of a way work with: customers, books and the courier company."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from control_room.experiments.lab import points, record
from control_room.experiments.lab.events import CourierOrdered, KitchenOrdered, Ordered
from control_room.experiments.lab.record import COURIER, KITCHEN, Recorder, kind_of, lines_of
from shared.events import Event, UnreadableEvent, decode, encode
from shared.messaging.retry import Unavailable

LOOK_SECONDS = 0.05
EVENTS: dict[str, type[Event]] = {KITCHEN: KitchenOrdered, COURIER: CourierOrdered}


class Rubbish(Exception):
    """A message that is no order, and never will be."""


@dataclass(frozen=True)
class Order:
    """`number` is its idempotency key."""

    number: int

    @property
    def kind(self) -> str:
        return kind_of(self.number)

    @property
    def event(self) -> Event:
        order_id = f"{self.number:08x}-0000-7000-8000-000000000000"
        return EVENTS[self.kind].about(order_id, source="lab", data=Ordered(number=self.number))

    @property
    def key(self) -> str:
        """The routing key."""
        return EVENTS[self.kind].type_name()

    @property
    def body(self) -> bytes:
        return encode(self.event)


@dataclass(frozen=True)
class Shop:
    """Of one way. What happens is written to `file`, its record; `folder` has what else its processes share."""

    way: str
    role: str
    url: str
    folder: Path
    file: Path

    @property
    def exchange(self) -> str:
        return self.way

    def queue(self, kind: str) -> str:
        return f"{self.way}.{kind}"

    @property
    def queues(self) -> Sequence[str]:
        """One for each kind of work."""
        return [self.queue(kind) for kind in EVENTS]

    @cached_property
    def record(self) -> Recorder:
        return Recorder(self.file)

    # The producer

    def customers(self) -> Iterator[Order]:
        """Those who have not asked for their order yet, one after the other, for as long as the process lives."""
        while True:
            if (order := self._next_order()) is not None:
                yield order
            else:
                time.sleep(LOOK_SECONDS)

    async def arriving(self) -> AsyncIterator[Order]:
        """The same."""
        while True:
            if (order := self._next_order()) is not None:
                yield order
            else:
                await asyncio.sleep(LOOK_SECONDS)

    def unpublished(self) -> list[Order]:
        """What an earlier process has committed and not published, oldest first."""
        lines = list(lines_of(self.file))
        published = {line["order"] for line in lines if line["what"] == record.PUBLISHED}
        placed = (line["order"] for line in lines if line["what"] == record.PLACED)
        return [Order(number) for number in placed if number not in published]

    def _next_order(self) -> Order | None:
        """None until the lab lets more customers in."""
        next_number = self._asked["order"] + 1
        if next_number > int((self.folder / "gate").read_text()):
            return None
        self._asked["order"] = next_number
        self.record(record.ASKED, next_number)
        return Order(next_number)

    @cached_property
    def _asked(self) -> dict[str, int]:
        """The last customer that an earlier process had, too: an error is no reason to come again."""
        asked = (line["order"] for line in lines_of(self.file) if line["what"] == record.ASKED)
        return {"order": max(asked, default=0)}

    @contextmanager
    def placing(self, order: Order) -> Iterator[None]:
        """Around the commit of an order."""
        self._pass(points.BEFORE_COMMIT, order)
        yield
        self.record(record.PLACED, order.number, durable=True)
        self._pass(points.AFTER_COMMIT, order)

    def commit(self, order: Order) -> None:
        """Write the order into the books, on disk: from now on the shop owes it."""
        with self.placing(order):
            pass  # the line of the record is the book of the wrong ways

    # The consumer

    def order_in(self, body: bytes) -> Order:
        """Raises `Rubbish`."""
        try:
            return Order(decode(body).data.number)
        except UnreadableEvent as error:
            raise Rubbish(str(error)) from error

    def number_in(self, body: bytes) -> int | None:
        """None for rubbish."""
        try:
            return self.order_in(body).number
        except Rubbish:
            return None

    def perform(self, order: Order) -> None:
        """Do the work of an order, however often. Raises `Unavailable` while the courier company is down."""
        self._perform(order, is_new=True)

    def perform_once(self, order: Order) -> None:
        """Do the work of an order, unless it is done. Raises `Unavailable` while the courier company is down."""
        self._perform(order, is_new=order.number not in self._done)
        self._done.add(order.number)

    def _perform(self, order: Order, *, is_new: bool) -> None:
        self._pass(points.BEFORE_EFFECT, order)
        self._call(order)
        self._note_done(order, is_new)
        self._pass(points.AFTER_EFFECT, order)

    @cached_property
    def _done(self) -> set[int]:
        return {line["order"] for line in lines_of(self.file) if line["what"] == record.PERFORMED}

    def order_of(self, event: Event) -> Order:
        """The order in a delivery."""
        order = Order(event.data.number)
        self.record(record.DELIVERED, order.number)
        return order

    async def begin(self, order: Order) -> None:
        """The first half of `perform`, for a handler that works on several orders at a time."""
        await self._pass_by(points.BEFORE_EFFECT, order)
        self._call(order)

    async def end(self, order: Order, *, is_new: bool) -> None:
        """The second half: the work is recorded, or was found recorded."""
        self._note_done(order, is_new)
        await self._pass_by(points.AFTER_EFFECT, order)

    def _call(self, order: Order) -> None:
        if order.kind == COURIER and (self.folder / "courier-is-down").exists():
            self.record(record.REFUSED, order.number)
            raise Unavailable("the courier company is down")

    def _note_done(self, order: Order, is_new: bool) -> None:
        self.record(record.PERFORMED if is_new else record.REPEATED, order.number, durable=is_new)

    def _pass(self, at: str, order: Order) -> None:
        """Go on, unless this is where the process is to be killed."""
        while self._point.is_at(at, order.number):
            time.sleep(LOOK_SECONDS)

    async def _pass_by(self, at: str, order: Order) -> None:
        """The same."""
        if self._point.is_at(at, order.number):
            await asyncio.Event().wait()

    @cached_property
    def _point(self) -> points.Point:
        return points.Point(self.folder, self.role)

    def pause(self) -> None:
        """There was nothing to do."""
        time.sleep(LOOK_SECONDS)
