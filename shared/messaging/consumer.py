"""A service's consumers: which queues, how many deliveries at once, and what to do when the ground moves under them.

One task works on each delivery (`processor.py`), and prefetch bounds their number.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from shared.messaging.acknowledger import Acknowledger
from shared.messaging.channel import BrokerUnavailable, Channel, NotFound
from shared.messaging.connection import Connection, keep_connected
from shared.messaging.message import Delivery
from shared.messaging.processor import Processor, Subscription
from shared.messaging.publisher import Publisher
from shared.messaging.retry import RetryPolicy

TOPOLOGY_POLL_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class Consumer:
    """Consumes one service's queues over one connection, a channel each. `retry_delays_of`: a queue's, in seconds."""

    def __init__(
        self,
        url: str,
        name: str,
        subscriptions: Sequence[Subscription],
        publisher: Publisher,
        retry_delays_of: Callable[[str], Sequence[float]],
    ) -> None:
        self._url = url
        self._name = f"{name} consumer"
        self._queues = [
            _QueueConsumer(subscription, publisher, RetryPolicy(retry_delays_of(subscription.queue)))
            for subscription in subscriptions
        ]
        self._problem: str | None = "RabbitMQ is away: not connected yet"
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(keep_connected(self._url, self._name, self._use, self._say), name=self._name)

    async def stop(self) -> None:
        """Take no more deliveries, finish those at hand, acknowledge them, disconnect."""
        await asyncio.gather(*(queue.drain() for queue in self._queues))
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def pause(self) -> None:
        """Take no more deliveries until `resume`, and finish those at hand. It holds for connections to come, too."""
        await asyncio.gather(*(queue.set_paused(True) for queue in self._queues))

    async def resume(self) -> None:
        """Take deliveries again."""
        await asyncio.gather(*(queue.set_paused(False) for queue in self._queues))

    def slow_down(self, delay_seconds: float) -> None:
        """Let each delivery wait that long before it is handled; 0 ends it."""
        for queue in self._queues:
            queue.delay_seconds = delay_seconds

    def problem(self) -> str | None:
        """Why this service does not consume now, or None. That it is paused is no problem of its own."""
        return self._problem or next((queue.problem for queue in self._queues if queue.problem), None)

    async def backlog(self) -> int:
        """How many messages wait in its queues, beyond those that it holds. Raises `BrokerUnavailable`."""
        return sum([await queue.backlog() for queue in self._queues])

    async def _use(self, connection: Connection) -> None:
        async with asyncio.TaskGroup() as group:
            for queue in self._queues:
                group.create_task(queue.keep_consuming(connection))

    def _say(self, problem: str | None) -> None:
        self._problem = problem


class _QueueConsumer:
    """One queue: opens a channel, consumes, and opens another whenever that one ends."""

    def __init__(self, subscription: Subscription, publisher: Publisher, policy: RetryPolicy) -> None:
        self._subscription = subscription
        self._queue = subscription.queue
        self._processor = Processor(subscription, publisher, policy)
        self._loop: asyncio.AbstractEventLoop
        self._intake: _Intake | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused = self._draining = False
        self.delay_seconds = 0.0
        self.problem: str | None = f"not consuming {subscription.queue} yet"

    async def backlog(self) -> int:
        if self._intake is None:
            raise BrokerUnavailable(self.problem or "stopped")
        return (await self._intake.channel.inspect(self._queue)).messages

    async def keep_consuming(self, connection: Connection) -> None:
        while not connection.closed.done() and not self._draining:
            try:
                reason: Exception = await self._consume(await connection.channel())
            except BrokerUnavailable as error:
                reason = error
            self.problem = f"not consuming {self._queue}: {reason}"
            logger.warning("consuming stopped", queue=self._queue, reason=str(reason),
                           missing=isinstance(reason, NotFound))  # fmt: skip
            await asyncio.wait([connection.closed], timeout=TOPOLOGY_POLL_SECONDS)

    async def _consume(self, channel: Channel) -> Exception:
        self._loop = asyncio.get_running_loop()
        await channel.qos(self._subscription.concurrency)
        self._intake = _Intake(channel, self._queue, partial(self._take, Acknowledger(channel)))
        try:
            await self._adjust()
            self.problem = None
            return await asyncio.shield(channel.closed)
        finally:
            self._intake = None

    async def set_paused(self, paused: bool) -> None:
        self._paused = paused
        with contextlib.suppress(BrokerUnavailable):  # then the next channel begins as is wanted
            await self._adjust()

    async def _adjust(self) -> None:
        if self._intake is not None:
            await self._intake.set_open(not (self._paused or self._draining))

    def _take(self, acknowledger: Acknowledger, delivery: Delivery) -> None:
        acknowledger.expect(delivery.tag)
        work = self._process_late if self.delay_seconds else self._processor.process
        task = self._loop.create_task(work(delivery, acknowledger))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _process_late(self, delivery: Delivery, acknowledger: Acknowledger) -> None:
        await asyncio.sleep(self.delay_seconds)
        await self._processor.process(delivery, acknowledger)

    async def drain(self) -> None:
        self._draining = True
        with contextlib.suppress(BrokerUnavailable):  # nothing more arrives on a closed channel either
            await self._adjust()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            for task in self._tasks:  # time ran out: unacknowledged, so the broker delivers them to someone else
                task.cancel()


class _Intake:
    """What one channel delivers of a queue, while it is open."""

    def __init__(self, channel: Channel, queue: str, take: Callable[[Delivery], None]) -> None:
        self.channel = channel
        self._queue, self._take = queue, take
        self._consumer_tag: str | None = None
        self._turn = asyncio.Lock()

    async def set_open(self, is_open: bool) -> None:
        """The last of several calls at once counts. Raises `BrokerUnavailable`."""
        async with self._turn:
            if is_open and self._consumer_tag is None:
                self._consumer_tag = await self.channel.consume(self._queue, self._take)
            elif not is_open and self._consumer_tag is not None:
                await self.channel.cancel(self._consumer_tag)
                self._consumer_tag = None
