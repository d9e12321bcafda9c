"""The sweep: a broker can confirm a message and still lose it (a queue deleted under it), so somebody must look.

The event of an order that has been open for too long is re-emitted under its own id: idempotency makes it safe. Too
long is longer than a service goes on trying by itself, so that no second chain of attempts begins beside the first.

It waits while this service is far behind with what it is told: the news that an order seems to lack may be in its
queue. Else a service that falls behind would be told everything once more, and fall further behind, without end.
"""

import asyncio

import structlog

from order_service.orders import SweepDelays
from order_service.sweep import store
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.consumer import Consumer
from shared.observability import metrics
from shared.persistence.database import Database
from shared.persistence.failures import DatabaseUnavailable

MAX_ORDERS_AT_ONCE = 500
FAR_BEHIND_MESSAGES = 1000
"""About a second's work. A busy service may never find its queue empty."""

logger = structlog.get_logger(__name__)


class Sweeper:
    """Looks for lost orders four times in each usual delay, and at most once a second."""

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
                swept = await self._sweep()
            except (DatabaseUnavailable, BrokerUnavailable):
                continue
            except Exception:
                logger.exception("sweep failed; it goes on")
                continue
            metrics.swept.inc(len(swept))
            if swept:
                logger.warning("orders open too long are told again", count=len(swept), first=swept[0])

    async def _sweep(self) -> list[str]:
        if await self._consumer.backlog() > FAR_BEHIND_MESSAGES:
            return []
        return await self._database.write(store.sweep, store.Sweep(self._sweep_delays, MAX_ORDERS_AT_ONCE))
