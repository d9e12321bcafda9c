"""A service's consumers: which queues, how many deliveries at once, and a new channel whenever one closes.

One task works on each delivery (`processor.py`); prefetch bounds their number.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from shared.messaging.acknowledger import Acknowledger
from shared.messaging.channel import BrokerUnavailable, Channel, NotFound
from shared.messaging.connection import ConnectedComponent, Connection
from shared.messaging.in_sequence import InSequence
from shared.messaging.message import Delivery
from shared.messaging.processor import Processor, Subscription
from shared.messaging.publisher import Publisher
from shared.messaging.retry import RetryPolicy

TOPOLOGY_POLL_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class Consumer(ConnectedComponent):
    """Consumes one service's queues over one connection, a channel each. `retry_delays_of`: a queue's, in seconds."""

    def __init__(
        self,
        url: str,
        name: str,
        subscriptions: Sequence[Subscription],
        publisher: Publisher,
        retry_delays_of: Callable[[str], Sequence[float]],
    ) -> None:
        super().__init__(url, f"{name} consumer")
        self._queues = [
            (_PartitionConsumer if subscription.key_header else _QueueConsumer)(
                subscription, publisher, RetryPolicy(retry_delays_of(subscription.queue))
            )
            for subscription in subscriptions
        ]

    async def stop(self) -> None:
        """Take no more deliveries, let go of those that wait, finish the others, acknowledge them, disconnect."""
        await asyncio.gather(*(queue.drain() for queue in self._queues))
        for queue in self._queues:
            queue.let_go()
        await super().stop()

    async def pause(self) -> None:
        """Take no more deliveries until `resume`, on later connections either. Those in progress are finished."""
        await asyncio.gather(*(queue.set_paused(True) for queue in self._queues))

    async def resume(self) -> None:
        """Take deliveries again."""
        await asyncio.gather(*(queue.set_paused(False) for queue in self._queues))

    def slow_down(self, delay_seconds: float) -> None:
        """Make each delivery wait that long before it is handled; 0 ends it."""
        for queue in self._queues:
            queue.delay_seconds = delay_seconds

    def problem(self) -> str | None:
        """Why this service does not consume now, or None. A pause is not a problem of the consumer."""
        return self._problem or next((queue.problem for queue in self._queues if queue.problem), None)

    async def backlog(self) -> int:
        """How many messages wait in its queues, beyond those that it holds. Raises `BrokerUnavailable`."""
        return sum([await queue.backlog() for queue in self._queues])

    async def _use(self, connection: Connection) -> None:
        async with asyncio.TaskGroup() as group:
            for queue in self._queues:
                group.create_task(queue.keep_consuming(connection))


class _QueueConsumer:
    """One queue: opens a channel, consumes, and opens another channel whenever that one closes."""

    _processor_type = Processor

    def __init__(self, subscription: Subscription, publisher: Publisher, policy: RetryPolicy) -> None:
        self._queue, self._prefetch = subscription.queue, subscription.concurrency
        self._processor = self._processor_type(subscription, publisher, policy)
        self._loop: asyncio.AbstractEventLoop
        self._intake: _Intake | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused = self._draining = False
        self.delay_seconds = 0.0
        self.problem: str | None = f"not consuming {self._queue} yet"

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
                if not isinstance(error, NotFound):
                    connection.leave(str(error))
            self.problem = f"not consuming {self._queue}: {reason}"
            is_missing = isinstance(reason, NotFound)
            logger.warning("consumer.channel_closed", queue=self._queue, reason=str(reason), queue_missing=is_missing)
            await asyncio.wait([connection.closed], timeout=TOPOLOGY_POLL_SECONDS)

    async def _consume(self, channel: Channel) -> Exception:
        """Consume until the channel closes; the reason why it closed."""
        self._loop = asyncio.get_running_loop()
        await channel.qos(self._prefetch)
        self._intake = _Intake(channel, self._queue, self._taker(self._acknowledger(channel)))
        try:
            await self._adjust()
            self.problem = None
            return await asyncio.shield(channel.closed)
        finally:
            self._intake = None

    async def set_paused(self, paused: bool) -> None:
        self._paused = paused
        with suppress(BrokerUnavailable):  # the next channel starts in the new state
            await self._adjust()

    @property
    def _is_held(self) -> bool:
        return self._paused or self._draining

    async def _adjust(self) -> None:
        if self._intake is not None:
            await self._intake.set_open(not self._is_held)

    def _acknowledger(self, channel: Channel) -> Acknowledger:
        return Acknowledger(channel)

    def _taker(self, acknowledger: Acknowledger) -> Callable[[Delivery], None]:
        return partial(self._take, acknowledger)

    def _take(self, acknowledger: Acknowledger, delivery: Delivery) -> None:
        acknowledger.expect(delivery.tag)
        work = self._process_late if self.delay_seconds else self._processor.process
        self._start(work(delivery, acknowledger))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _process_late(self, delivery: Delivery, acknowledger: Acknowledger) -> None:
        await self._processor.pause(self.delay_seconds)
        await self._processor.process(delivery, acknowledger)

    async def drain(self) -> None:
        self._draining = True
        self._processor.release()
        with suppress(BrokerUnavailable):  # nothing more arrives on a closed channel either
            await self._adjust()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            for task in self._tasks:  # left only if time ran out: unacknowledged, so the broker redelivers them
                task.cancel()

    def let_go(self) -> None:
        """Called once nothing is in progress any more, before the connection is closed."""


class _PartitionConsumer(_QueueConsumer):
    """One partition, of which this is the active consumer or waits to be: the deliveries of a key one after the other.

    What it holds when it ends goes to the next consumer in sequence, since it cuts the connection (`Connection.cut`).
    """

    _processor_type = InSequence

    def __init__(self, subscription: Subscription, publisher: Publisher, policy: RetryPolicy) -> None:
        super().__init__(subscription, publisher, policy)
        self._header = subscription.key_header
        self._connection: Connection | None = None

    async def _adjust(self) -> None:
        if not self._is_held:
            await super()._adjust()
        elif self._paused and self._intake is not None and self._intake.is_open:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self.let_go()

    async def keep_consuming(self, connection: Connection) -> None:
        self._connection = connection
        await super().keep_consuming(connection)

    def let_go(self) -> None:
        if self._connection is not None:
            self._connection.cut()

    def _acknowledger(self, channel: Channel) -> Acknowledger:
        return Acknowledger(channel, abandon=self.let_go)

    def _taker(self, acknowledger: Acknowledger) -> Callable[[Delivery], None]:
        lanes: dict[str, deque[Delivery]] = {}

        def take(delivery: Delivery) -> None:
            acknowledger.expect(delivery.tag)
            key = str(delivery.message.headers.get(self._header))
            lane = lanes.setdefault(key, deque())
            lane.append(delivery)
            if len(lane) == 1:
                self._start(self._process_lane(lanes, key, acknowledger))

        return take

    async def _process_lane(self, lanes: dict[str, deque[Delivery]], key: str, acknowledger: Acknowledger) -> None:
        """Process the deliveries of one key, until there are no more, or they are not ours any more."""
        lane = lanes[key]
        while lane:
            if self._is_held or not acknowledger.is_open:
                return  # what is left stays in the lane, so that no later delivery of the key is begun either
            work = self._process_late if self.delay_seconds else self._processor.process
            await work(lane[0], acknowledger)
            lane.popleft()
        del lanes[key]


class _Intake:
    """The consumer of one channel, open or not. It belongs to the channel, so that a late answer changes no other."""

    def __init__(self, channel: Channel, queue: str, take: Callable[[Delivery], None]) -> None:
        self.channel = channel
        self._queue, self._take = queue, take
        self._consumer_tag: str | None = None
        self._lock = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        return self._consumer_tag is not None

    async def set_open(self, is_open: bool) -> None:
        """The last of several calls at once counts. Raises `BrokerUnavailable`."""
        async with self._lock:
            if is_open and self._consumer_tag is None:
                self._consumer_tag = await self.channel.consume(self._queue, self._take)
            elif not is_open and self._consumer_tag is not None:
                await self.channel.cancel(self._consumer_tag)
                self._consumer_tag = None
