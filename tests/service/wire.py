"""A test's own AMQP client: publishes any bytes with any properties, and reads what the services publish."""

import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pika

from shared.contract import publisher
from shared.events import Event, decode, encode
from shared.messaging.message import Message
from shared.settings import BrokerSettings
from shared.topology import dead_queue
from tests.amqp import arrivals, queue_of
from tests.support import eventually

EXCHANGES = ("orders", "payments", "notifications")


class Wire:
    """`seen`: what was published to each exchange; `parked`: the dead letters of each queue that was asked for."""

    def __init__(self, settings: BrokerSettings) -> None:
        self.settings = settings
        self.seen: dict[str, list[Message]] = {}
        self.parked: dict[str, list[Message]] = defaultdict(list)
        self._stack = AsyncExitStack()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: BrokerSettings) -> AsyncIterator["Wire"]:
        wire = cls(settings)
        async with wire._stack:
            for exchange in EXCHANGES:
                queue = await wire._stack.enter_async_context(queue_of(settings, exchange, "#"))
                wire.seen[exchange] = await wire._stack.enter_async_context(arrivals(settings, queue))
            yield wire

    async def watch_dead_letters(self, queue: str) -> None:
        if queue not in self.parked:
            self.parked[queue] = await self._stack.enter_async_context(arrivals(self.settings, dead_queue(queue)))

    def publish(self, exchange: str, routing_key: str, body: bytes, properties: pika.BasicProperties) -> None:
        """Returns once the broker has it in a queue."""
        self._publish_all([(exchange, routing_key, body, properties)])

    def send(self, event: Event, times: int = 1) -> None:
        """Publish an event as its service would."""
        self.send_all([event] * times)

    def send_all(self, events: Sequence[Event]) -> None:
        """Publish events in this order, over one connection."""
        self._publish_all(
            (publisher(type(event)).exchange, event.type, encode(event), _properties(event)) for event in events
        )

    def _publish_all(self, publications: Iterable[tuple[str, str, bytes, pika.BasicProperties]]) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(self.settings.rabbitmq_url))
        channel = connection.channel()
        channel.confirm_delivery()
        for publication in publications:
            channel.basic_publish(*publication, mandatory=True)
        connection.close()

    def messages(self, exchange: str, order_id: str) -> list[Message]:
        """What has been published about an order so far."""
        return [message for message in self.seen[exchange] if order_id.encode() in message.body]

    async def event(self, exchange: str, order_id: str, event_type: str) -> Event:
        """The first event of a type about an order, once it is there; its message must keep to the contract."""

        def look() -> Message | None:
            return next((each for each in self.messages(exchange, order_id) if each.type == event_type), None)

        message = await eventually(look, 15, f"{event_type} about {order_id}")
        assert message is not None
        event = decode(message.body)
        assert (message.routing_key, message.content_type) == (event.type, "application/cloudevents+json")
        assert (message.message_id, message.app_id) == (event.id, event.source)
        assert message.timestamp == int(event.time.timestamp())
        assert (event.specversion, event.source, event.subject) == ("1.0", publisher(type(event)).name, order_id)
        assert not [name for name in message.headers if name.startswith("x-")]
        return event

    async def dead_letter(self, queue: str, message_id: str) -> Message:
        """The dead letter of a message, once it is there."""
        await self.watch_dead_letters(queue)

        def look() -> Message | None:
            return next((each for each in self.parked[queue] if each.message_id == message_id), None)

        found = await eventually(look, 15, f"a dead letter of {queue} with the message id {message_id}")
        assert found is not None
        return found


def _properties(event: Event) -> pika.BasicProperties:
    return pika.BasicProperties(message_id=event.id, type=event.type, delivery_mode=2)


class RawHeaders(pika.BasicProperties):  # type: ignore[misc]  # pika has no py.typed
    """Headers that are written byte by byte, since pika refuses to encode them."""

    def __init__(self, fields: Mapping[bytes, bytes], message_id: bytes = b"") -> None:
        super().__init__(headers={"raw": True}, delivery_mode=2)
        entries = b"".join(_short(name) + value for name, value in fields.items())
        self._table = struct.pack(">L", len(entries)) + entries
        self._message_id = message_id

    def encode(self) -> list[bytes]:
        flags = self.FLAG_HEADERS | self.FLAG_DELIVERY_MODE | self.FLAG_MESSAGE_ID
        return [struct.pack(">H", flags), self._table, b"\x02", _short(self._message_id)]


TIMESTAMP_2_62 = b"T" + struct.pack(">Q", 2**62)
VOID = b"V"


def nested(depth: int) -> bytes:
    """A list in a list in a list."""
    value = VOID
    for _ in range(depth):
        value = b"A" + struct.pack(">L", len(value)) + value
    return value


def _short(text: bytes) -> bytes:
    return bytes([len(text)]) + text
