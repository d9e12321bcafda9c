"""The payment worker. A plain `def` handler runs in a thread pool; what it returns is published before the message is
acknowledged."""

from faststream import AckPolicy, FastStream

from benchmarks.peers import shop
from benchmarks.peers.faststream.queues import NOTIFICATIONS, PAYMENTS, new_broker

broker = new_broker()
app = FastStream(broker)


@app.after_startup
async def declare() -> None:
    await broker.declare_queue(NOTIFICATIONS)


@broker.subscriber(PAYMENTS, ack_policy=AckPolicy.NACK_ON_ERROR)
@broker.publisher(NOTIFICATIONS, persist=True)
def pay(placed: shop.PlacedOrder) -> shop.PlacedOrder:
    shop.pay(placed.order_id, placed.order.total.amount_minor, placed.order.total.currency)
    return placed
