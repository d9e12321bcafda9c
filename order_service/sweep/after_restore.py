"""After a restore RabbitMQ has no message of the backup's orders, so the event of each open one is re-emitted.

The sweep would do it for those that a service has yet to report on, once their delays are over. Here it is done at
once, and for all: a dead letter is lost too, and an order whose work was given up has to get another one.
"""

from datetime import datetime

import structlog

from order_service.background import MAX_ORDERS_AT_ONCE, Background
from order_service.sweep import store
from shared.messaging.consumer import Consumer
from shared.persistence.database import Database

EVERY_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class AfterRestore(Background):
    """Does it once after each restore; if the process ends meanwhile, anew. Replicas repeat each other's work."""

    def __init__(self, database: Database, consumer: Consumer) -> None:
        super().__init__("after_restore", consumer, EVERY_SECONDS)
        self._database = database
        self._is_over = False

    async def work(self) -> None:
        if self._is_over:
            return
        if restored_at := await self._database.read(store.not_caught_up, None):
            count = await self._re_emit_all(restored_at)
            await self._database.write(store.caught_up, restored_at)
            logger.warning("restore.events_re_emitted", count=count)
        self._is_over = True

    async def _re_emit_all(self, restored_at: datetime) -> int:
        count, after = 0, ""
        while order_ids := await self._database.read(
            store.open_at_restore, store.Page(after, restored_at, MAX_ORDERS_AT_ONCE)
        ):
            await self._database.write(store.re_emit, order_ids)
            count, after = count + len(order_ids), order_ids[-1]
        return count
