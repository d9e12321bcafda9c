"""The payment worker."""

from faststream import AckPolicy, FastStream

from benchmarks.peers import all_steps
from benchmarks.peers.faststream.all_steps.topology import CHARGE, EVENTS, PAYMENT_SUCCEEDED, declare, new_broker
from benchmarks.peers.shop import PlacedOrder

broker = new_broker()
app = FastStream(broker)


@app.on_startup
async def prepare() -> None:
    await declare(broker)


@broker.subscriber(CHARGE, ack_policy=AckPolicy.NACK_ON_ERROR)
@broker.publisher(exchange=EVENTS, routing_key=PAYMENT_SUCCEEDED, persist=True)
def charge(placed: PlacedOrder) -> all_steps.Paid:
    return all_steps.charge(placed)
