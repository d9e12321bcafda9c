"""Cancellations: by the customer (`store.cancel`), and of orders that are not paid some time after their placement."""

from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import Counter

from order_service.background import MAX_ORDERS_AT_ONCE, Background
from order_service.cancelling import store
from order_service.live import Changes
from order_service.orders import SweepDelays
from shared.messaging.consumer import Consumer
from shared.persistence.database import Database

SHARE = 0.1
"""How late it may be, as a share of the timeout."""
MAX_LATE_SECONDS = 10.0

cancelled_orders = Counter("order_rail_orders_cancelled", "Orders that were cancelled, by reason", ["reason"])
logger = structlog.get_logger(__name__)


class PaymentTimeout(Background):
    """Cancels them just as their customers could. Replicas share the work."""

    def __init__(
        self,
        database: Database,
        consumer: Consumer,
        changes: Changes,
        sweep_delays: SweepDelays,
        after_seconds: float,
    ) -> None:
        super().__init__("payment_timeout", consumer, min(MAX_LATE_SECONDS, max(1.0, SHARE * after_seconds)))
        self._database, self._changes, self._sweep_delays = database, changes, sweep_delays
        self._after = timedelta(seconds=after_seconds)
        self._is_indexed = False

    async def work(self) -> None:
        if not self._is_indexed:
            await self._database.write(store.index_unpaid, None)
            self._is_indexed = True
        request = store.Unpaid(datetime.now(UTC) - self._after, MAX_ORDERS_AT_ONCE, self._sweep_delays)
        order_ids = await self._database.write(store.cancel_unpaid, request)
        for order_id in order_ids:
            self._changes.notify(order_id)
        cancelled_orders.labels("payment-timeout").inc(len(order_ids))
        if order_ids:
            logger.info("payment_timeout.orders_cancelled", count=len(order_ids), first=order_ids[0])
