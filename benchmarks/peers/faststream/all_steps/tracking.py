"""The order service's worker."""

from faststream import AckPolicy, FastStream

from benchmarks.peers import all_steps
from benchmarks.peers.faststream.all_steps.topology import TRACK, declare, new_broker

broker = new_broker()
app = FastStream(broker)


@app.on_startup
async def prepare() -> None:
    await declare(broker)


@broker.subscriber(TRACK, ack_policy=AckPolicy.NACK_ON_ERROR)
def track(report: all_steps.Report) -> None:
    all_steps.track(report)
