"""The notification worker."""

from faststream import AckPolicy, FastStream

from benchmarks.peers import shop
from benchmarks.peers.faststream.queues import NOTIFICATIONS, new_broker

broker = new_broker()
app = FastStream(broker)


@broker.subscriber(NOTIFICATIONS, ack_policy=AckPolicy.NACK_ON_ERROR)
def notify(placed: shop.PlacedOrder) -> None:
    shop.notify(placed.order_id, placed.order.customer_email)
