"""FastStream's broker and the queues. Its channels confirm what they publish by default."""

import logging
import os

from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

PREFETCH = 64

PAYMENTS = RabbitQueue("payments", queue_type=QueueType.QUORUM)
NOTIFICATIONS = RabbitQueue("notifications", queue_type=QueueType.QUORUM)


def new_broker() -> RabbitBroker:
    """As many messages at work at once as the prefetch allows."""
    return RabbitBroker(
        os.environ["RABBITMQ_URL"], default_channel=Channel(prefetch_count=PREFETCH), log_level=logging.DEBUG
    )
