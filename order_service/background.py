"""Work on orders that is done again and again, beside requests and events."""

import asyncio

import structlog

from shared.messaging.channel import BrokerUnavailable
from shared.messaging.consumer import Consumer
from shared.persistence.failures import DatabaseUnavailable

MAX_ORDERS_AT_ONCE = 500
MAX_BACKLOG_MESSAGES = 1000
"""About a second's work. A busy service may never find its queue empty."""

logger = structlog.get_logger(__name__)


class Background:
    """A component that works every so many seconds, while this service's queue is short.

    In a long queue, or in one that can't be reached, may be the event that an order seems to lack.
    """

    def __init__(self, name: str, consumer: Consumer, every_seconds: float) -> None:
        self._name, self._consumer, self._every_seconds = name, consumer, every_seconds
        self._task: asyncio.Task[None] | None = None

    async def work(self) -> None:
        """Do it once."""
        raise NotImplementedError

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def problem(self) -> str | None:
        return None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_seconds)
            try:
                if await self._consumer.backlog() <= MAX_BACKLOG_MESSAGES:
                    await self.work()
            except (DatabaseUnavailable, BrokerUnavailable):
                continue
            except Exception:
                logger.exception("background.failed", name=self._name)
