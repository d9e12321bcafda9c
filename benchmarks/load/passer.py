"""Messages passed through as Order Rail passes them, with nothing in between: no database, no validation, no decoding.

`python -m benchmarks.load.passer payment_service URL` takes each message of the service's queues, publishes what the
service would publish, and acknowledges once that is confirmed. `order_service` ends after `--orders`, and prints when
the first and the last message came; `place` publishes that many orders and ends.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Annotated, Any

import pika
import typer
import uvloop
from pika import spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel

from benchmarks.load.order import delivered_event, order_event, payment_event

PERSISTENT = spec.BasicProperties(content_type="application/cloudevents+json", delivery_mode=2)
MESSAGES_BACK = 3
"""Events about each order that the order service consumes: the payment, the receipt, the kitchen's ticket."""
MAX_IN_FLIGHT = 1000


@dataclass(frozen=True)
class Publication:
    exchange: str
    routing_key: str
    body: bytes


@dataclass(frozen=True)
class Inlet:
    """A queue that is consumed, and what is published for each of its messages."""

    queue: str
    prefetch: int
    publication: Publication | None


DELIVERED = Publication("notifications", "notification.delivered.v1", delivered_event())
PLACED = Publication("orders", "order.placed.v1", order_event())
INLETS = {
    "payment_service": [
        Inlet("payment_service.charge", 64, Publication("payments", "payment.succeeded.v1", payment_event()))
    ],
    "notification_service": [
        Inlet("notification_service.email", 100, DELIVERED),
        Inlet("notification_service.restaurant", 100, DELIVERED),
        Inlet("notification_service.sms", 100, None),  # nobody gave a number
        Inlet("notification_service.push", 100, None),
    ],
    "order_service": [Inlet("order_service.track", 250, None)],
    "place": [],
}


class Passer:
    """One connection: a channel for each inlet, and one that publishes and has its messages confirmed."""

    def __init__(self, url: str, inlets: list[Inlet]) -> None:
        self._inlets = inlets
        self._unconfirmed: dict[int, tuple[Channel, int] | None] = {}
        self._sequence = 0
        self._confirmed = asyncio.Event()
        self._came = asyncio.Event()
        self.opened = asyncio.Event()
        self.came_at: list[float] = []
        loop = asyncio.get_running_loop()
        self._connection = AsyncioConnection(
            pika.URLParameters(url),
            on_open_callback=lambda connection: connection.channel(on_open_callback=self._use_publisher),
            custom_ioloop=loop,
        )

    async def place(self, orders: int) -> None:
        """Publish so many orders; returns once all are confirmed."""
        await self.opened.wait()
        for _ in range(orders):
            self._publish(PLACED, None)
            while len(self._unconfirmed) >= MAX_IN_FLIGHT:
                await self._some_confirmed()
        while self._unconfirmed:
            await self._some_confirmed()

    async def count(self, messages: int) -> float:
        """Wait until so many have come; the seconds from the first to the last."""
        while len(self.came_at) < messages:
            self._came.clear()
            await self._came.wait()
        return self.came_at[messages - 1] - self.came_at[0]

    async def _some_confirmed(self) -> None:
        self._confirmed.clear()
        await self._confirmed.wait()

    def _use_publisher(self, channel: Channel) -> None:
        self._publisher = channel
        channel.confirm_delivery(self._on_confirm, callback=self._use_inlets)

    def _use_inlets(self, _frame: Any) -> None:
        self.opened.set()
        for inlet in self._inlets:
            self._connection.channel(on_open_callback=lambda channel, inlet=inlet: self._consume(channel, inlet))

    def _consume(self, channel: Channel, inlet: Inlet) -> None:
        channel.basic_qos(prefetch_count=inlet.prefetch)
        channel.basic_consume(
            inlet.queue, lambda channel, method, _properties, _body: self._take(channel, method.delivery_tag, inlet)
        )

    def _take(self, channel: Channel, tag: int, inlet: Inlet) -> None:
        self.came_at.append(time.perf_counter())
        self._came.set()
        if inlet.publication is None:
            channel.basic_ack(tag)
        else:
            self._publish(inlet.publication, (channel, tag))

    def _publish(self, publication: Publication, for_delivery: tuple[Channel, int] | None) -> None:
        self._sequence += 1
        self._unconfirmed[self._sequence] = for_delivery
        self._publisher.basic_publish(
            publication.exchange, publication.routing_key, publication.body, PERSISTENT, mandatory=True
        )

    def _on_confirm(self, frame: Any) -> None:
        last, multiple = frame.method.delivery_tag, frame.method.multiple
        numbers = [number for number in self._unconfirmed if number <= last] if multiple else [last]
        latest = {entry[0]: entry[1] for number in numbers if (entry := self._unconfirmed.pop(number))}
        for channel, tag in latest.items():
            channel.basic_ack(tag, multiple)  # what came before on this channel is confirmed too
        self._confirmed.set()


async def run_passer(role: str, url: str, orders: int) -> float:
    """Play the role; the seconds from the first to the last message."""
    passer = Passer(url, INLETS[role])
    if role == "place":
        await passer.place(orders)
        return 0.0
    if role == "order_service":
        return await passer.count(orders * MESSAGES_BACK)
    await asyncio.Event().wait()
    return 0.0


def main(
    role: Annotated[str, typer.Argument(help="The service to stand for, or `place`.")],
    url: Annotated[str, typer.Argument(help="The AMQP URL.")],
    orders: int = 0,
) -> None:
    """Pass messages through."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps({"seconds": runner.run(run_passer(role, url, orders))}))


if __name__ == "__main__":
    typer.run(main)
