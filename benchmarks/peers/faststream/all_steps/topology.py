"""The broker, the exchange, the queues and their bindings. All that starts declares all, so that no event is lost."""

import logging
import os

from faststream.rabbit import Channel, ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue

PREFETCH = 64

EVENTS = RabbitExchange("events", type=ExchangeType.TOPIC, durable=True)
CHARGE, EMAIL, SMS, PUSH, RESTAURANT, TRACK = (
    RabbitQueue(name, queue_type=QueueType.QUORUM) for name in ("charge", "email", "sms", "push", "restaurant", "track")
)
ORDER_PLACED, PAYMENT_SUCCEEDED, NOTIFICATION_DELIVERED = "order.placed", "payment.succeeded", "notification.delivered"
BINDINGS = (
    (CHARGE, ORDER_PLACED),
    (EMAIL, PAYMENT_SUCCEEDED),
    (SMS, PAYMENT_SUCCEEDED),
    (PUSH, PAYMENT_SUCCEEDED),
    (RESTAURANT, PAYMENT_SUCCEEDED),
    (TRACK, PAYMENT_SUCCEEDED),
    (TRACK, NOTIFICATION_DELIVERED),
)


def new_broker() -> RabbitBroker:
    """Confirms what it publishes, and raises if no queue takes it."""
    channel = Channel(prefetch_count=PREFETCH, on_return_raises=True)
    return RabbitBroker(os.environ["RABBITMQ_URL"], default_channel=channel, log_level=logging.DEBUG)


async def declare(broker: RabbitBroker) -> None:
    await broker.connect()
    exchange = await broker.declare_exchange(EVENTS)
    for queue, routing_key in BINDINGS:
        await (await broker.declare_queue(queue)).bind(exchange, routing_key)
