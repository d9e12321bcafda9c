"""The sweep: re-emits the event of an order that has been open for too long, under the event's own id.

A broker can confirm a message and still lose it, for example when the message's queue is deleted. "Too long" is longer
than a service retries by itself, so that no second chain of attempts starts beside the first.
"""

import structlog
from prometheus_client import Counter

from order_service.background import MAX_ORDERS_AT_ONCE, Background
from order_service.orders import SweepDelays
from order_service.sweep import store
from shared.messaging.consumer import Consumer
from shared.persistence.database import Database

swept_orders = Counter("order_rail_orders_swept", "Orders whose event was re-emitted because they were open too long")
logger = structlog.get_logger(__name__)


class Sweeper(Background):
    """Sweeps four times in each usual delay, and at most once a second."""

    def __init__(self, database: Database, consumer: Consumer, sweep_delays: SweepDelays) -> None:
        super().__init__("sweep", consumer, max(1.0, sweep_delays.usual_seconds / 4))
        self._database = database
        self._sweep = store.Sweep(sweep_delays, MAX_ORDERS_AT_ONCE)

    async def work(self) -> None:
        swept = await self._database.write(store.sweep, self._sweep)
        swept_orders.inc(len(swept))
        if swept:
            logger.warning("sweep.events_re_emitted", count=len(swept), first=swept[0])
