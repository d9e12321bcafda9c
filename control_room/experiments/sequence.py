"""Events of several keys, queues that keep their sequence, and processes that handle them and may be killed.

The queues are made for the purpose, beside those of the services, as the topology makes the partitions of a contract.
"""

import os
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from control_room.experiments.sequence_consumer import ready_file
from control_room.experiments.traffic import Unexpected
from control_room.launcher.children import kill, spawn, tail
from shared.contract import Partitions
from shared.events import Money, OrderItem, OrderPlaced, OrderPlacedData, OrderSummary, encode
from shared.ids import new_id
from shared.management import Management
from shared.messaging.message import Message
from shared.messaging.publisher import Publisher, publishing
from shared.settings import BrokerSettings
from shared.waiting import poll

NAME = "order-rail sequence"
KEYS = 20
HEADER = Partitions(1, key="data.order.customer_email").header
CONSUMER = (sys.executable, "-m", "control_room.experiments.sequence_consumer", "--key-header", HEADER)
WAIT_SECONDS, LOOK_SECONDS = 60.0, 0.02


@dataclass(frozen=True)
class Handled:
    """An event that a process has handled; `at` in seconds since 1970."""

    key: str
    event: str
    at: float
    pid: int


class Trial:
    """What was published to `exchange`, and what the processes have handled of it; `queues` are behind it."""

    def __init__(
        self,
        settings: BrokerSettings,
        publisher: Publisher,
        exchange: str,
        queues: Sequence[str],
        directory: Path,
    ) -> None:
        self.exchange, self.queues, self.published = exchange, queues, dict[str, list[str]]()
        self._settings, self._publisher, self._directory = settings, publisher, directory
        self._file = directory / "handled"
        self._consumers: dict[int, Process] = {}

    async def publish(self, events: int) -> None:
        """So many events of each key, the keys in turns."""
        order = [f"key-{key}@example.com" for key in range(KEYS)] * events
        placed = [_placed(key) for key in order]
        for key, event in zip(order, placed, strict=True):
            self.published.setdefault(key, []).append(event.subject)
        errors = await self._publisher.publish_all(
            [
                Message(self.exchange, event.type, encode(event), event.id, event.type, headers={HEADER: key})
                for key, event in zip(order, placed, strict=True)
            ]
        )
        if error := next(filter(None, errors), None):
            raise error

    async def start_consumer(self, work_seconds: float, concurrency: int, queues: Collection[str] = ()) -> None:
        """One more process, of all queues or of these; returns once it waits for events. Raises Unexpected."""
        options = ("--file", str(self._file), "--seconds", str(work_seconds), "--concurrency", str(concurrency))
        chosen, log = queues or self.queues, self._directory / f"{len(self._consumers)}.log"
        environment = {**os.environ, "RABBITMQ_URL": self._settings.rabbitmq_url}
        process = await spawn((*CONSUMER, *options, *chosen), environment, log)
        self._consumers[process.pid] = process

        async def is_consuming() -> bool:
            return ready_file(self._file, process.pid).exists()

        if not await poll(is_consuming, within_seconds=WAIT_SECONDS, every_seconds=LOOK_SECONDS):
            raise Unexpected(f"a consumer was not ready within {WAIT_SECONDS:g} s\n{tail(log)}")

    async def kill_active(self) -> None:
        """SIGKILL to the process that has handled the latest event."""
        pid = self.handled()[-1].pid
        await kill(self._consumers.pop(pid))

    async def kill_all(self) -> None:
        while self._consumers:
            await kill(self._consumers.popitem()[1])

    def handled(self) -> list[Handled]:
        """In the sequence in which they were done, those that were done again after a crash as often as they were."""
        text = self._file.read_text() if self._file.exists() else ""
        rows = [line.split() for line in text.splitlines()]
        return [Handled(key, event, float(at), int(pid)) for key, event, at, pid in rows]

    async def until_handled(self, events: int) -> None:
        """Return once so many different events are handled. Raises Unexpected."""

        async def count() -> int:
            return len({each.event for each in self.handled()})

        if (done := await poll(count, within_seconds=WAIT_SECONDS, every_seconds=LOOK_SECONDS,
                               until=lambda count: count >= events)) < events:  # fmt: skip
            raise Unexpected(f"{done:,} of {events:,} events were handled within {WAIT_SECONDS:g} s")


def out_of_sequence(published: Mapping[str, Sequence[str]], handled: Sequence[Handled]) -> list[str]:
    """The keys of which an event is missing, or was done for the first time after one that was published later."""
    first: dict[str, dict[str, None]] = {key: {} for key in published}
    for each in handled:
        first[each.key].setdefault(each.event)
    return [key for key, events in published.items() if list(first[key]) != list(events)]


def rate(handled: Sequence[Handled]) -> float:
    """Events a second, from the first to the last."""
    return (len(handled) - 1) / max(handled[-1].at - handled[0].at, 0.001)


@asynccontextmanager
async def trial(settings: BrokerSettings, partitions: int) -> AsyncIterator[Trial]:
    """New queues; they, and every process, go when the block ends. Raises ManagementError, BrokerUnavailable."""
    exchange = f"sequence-{new_id()}"
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="order-rail-sequence-")))
        management = await stack.enter_async_context(Management(settings))
        queues = [f"{exchange}.{number}" for number in range(partitions)]
        for kind, name in [("exchanges", exchange), *(("queues", queue) for queue in queues)]:
            stack.push_async_callback(management.delete, kind, management.vhost, name)
        await _declare(management, exchange, queues)
        publisher = await stack.enter_async_context(publishing(settings.rabbitmq_url, NAME))
        begun = Trial(settings, publisher, exchange, queues, directory)
        stack.push_async_callback(begun.kill_all)
        yield begun


async def _declare(management: Management, exchange: str, queues: Sequence[str]) -> None:
    hashing = {"type": "x-consistent-hash", "durable": True, "arguments": {"hash-header": HEADER}}
    await management.put("exchanges", management.vhost, exchange, body=hashing)
    arguments = {"x-queue-type": "quorum", "x-single-active-consumer": True}
    for queue in queues:
        await management.put("queues", management.vhost, queue, body={"durable": True, "arguments": arguments})
        await management.post("bindings", management.vhost, "e", exchange, "q", queue, body={"routing_key": "1"})


def _placed(key: str) -> OrderPlaced:
    price = Money(amount_minor=950, currency="EUR")
    item = OrderItem(sku="margherita", name="Pizza Margherita", quantity=1, unit_price=price)
    order = OrderSummary(customer_email=key, items=(item,), total=price)
    return OrderPlaced.about(new_id(), source=NAME, data=OrderPlacedData(order=order, payment_token="tok_visa"))  # noqa: S106 - no secret
