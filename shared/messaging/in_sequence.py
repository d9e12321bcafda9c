"""What happens to one delivery of a partition, in which a later message must not overtake an earlier one of its key."""

from dataclasses import replace

import structlog

from shared.messaging import message as headers
from shared.messaging.acknowledger import Acknowledger
from shared.messaging.message import Delivery
from shared.messaging.processor import Processor, Subscription, retry_headers
from shared.messaging.publisher import Publisher
from shared.messaging.retry import Outcome, Retry, RetryPolicy
from shared.observability.delivery_log import note_handled

logger = structlog.get_logger(__name__)


class InSequence(Processor):
    """Waits in place where others send a message through a retry queue, for the same time and as often.

    It waits without a limit for what the service itself needs: RabbitMQ takes the delivery back after half an hour, and
    gives it to the next consumer. A message that becomes a dead letter leaves its sequence.
    """

    def __init__(self, subscription: Subscription, publisher: Publisher, policy: RetryPolicy) -> None:
        super().__init__(subscription, publisher, policy)
        self._hold_seconds = None

    async def _settle(self, delivery: Delivery, outcome: Outcome, acknowledger: Acknowledger) -> None:
        while isinstance(outcome, Retry):
            logger.info("delivery.waits_in_place", queue=self._queue, message_id=delivery.message.message_id,
                        attempt=delivery.attempt, delay_seconds=outcome.delay_seconds, error=outcome.error)  # fmt: skip
            note_handled(self._queue, delivery, outcome, settled=True)
            await self.pause(outcome.delay_seconds)
            if not acknowledger.is_open:  # the broker has given it to the next consumer
                return
            delivery, outcome = await self._handle(_next_try(delivery, outcome))
        await super()._settle(delivery, outcome, acknowledger)


def _next_try(delivery: Delivery, outcome: Retry) -> Delivery:
    first_seen = {headers.FIRST_SEEN: headers.header_time()}
    new_headers = {**first_seen, **delivery.message.headers, **retry_headers(delivery, outcome)}
    return replace(delivery, message=replace(delivery.message, headers=new_headers), is_second_try=False)
