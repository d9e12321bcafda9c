"""The sweep: re-emits the event of an order that has been open for too long, under the event's own id.

A broker can confirm a message and still lose it, for example when the message's queue is deleted. "Too long" is longer
than a service retries by itself, so that no second chain of attempts starts beside the first. The sweep pauses while
this service's own queue is long: the event that an order seems to lack may wait there, and re-emitting would only make
the queue longer.
"""

import asyncio

import structlog
from prometheus_client import Counter

from order_service.orders import SweepDelays
from order_service.sweep import store
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.consumer import Consumer
from shared.persistence.database import Database
from shared.persistence.failures import DatabaseUnavailable

MAX_ORDERS_AT_ONCE = 500
MAX_BACKLOG_MESSAGES = 1000
"""About a second's work. A busy service may never find its queue empty."""

swept_orders = Counter("order_rail_orders_swept", "Orders whose event was re-emitted because they were open too long")
logger = structlog.get_logger(__name__)


class Sweeper:
    """Sweeps four times in each usual delay, and at most once a second."""

    def __init__(self, database: Database, consumer: Consumer, sweep_delays: SweepDelays) -> None:
        self._database = database
        self._consumer = consumer
        self._sweep_delays = sweep_delays
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="sweep")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def problem(self) -> str | None:
        return None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(max(1.0, self._sweep_delays.usual_seconds / 4))
            try:
                await self._sweep()
            except (DatabaseUnavailable, BrokerUnavailable):
                continue
            except Exception:
                logger.exception("sweep.failed")

    async def _sweep(self) -> None:
        if await self._consumer.backlog() > MAX_BACKLOG_MESSAGES:
            return
        swept = await self._database.write(store.sweep, store.Sweep(self._sweep_delays, MAX_ORDERS_AT_ONCE))
        swept_orders.inc(len(swept))
        if swept:
            logger.warning("sweep.events_re_emitted", count=len(swept), first=swept[0])
