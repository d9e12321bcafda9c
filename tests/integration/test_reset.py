"""A connection that is reset while its process does not look: on uvloop there is one chance to notice."""

import asyncio
import fcntl
import select
import socket
import struct
import termios
import threading
from urllib.parse import urlsplit

from shared.messaging.connection import Connection
from shared.messaging.message import Delivery, Message
from shared.messaging.publisher import Publisher
from shared.settings import BrokerSettings
from shared.tuning import new_event_loop
from tests.amqp import queue_of
from tests.support import ready

MESSAGES, BODY = 300, b"x" * 1000
ENOUGH_BYTES = 200_000
"""Twice what pika takes at once by itself."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Relay(threading.Thread):
    """Passes one connection on to the broker, and resets it once it has answered with enough bytes."""

    def __init__(self, broker_url: str) -> None:
        super().__init__(daemon=True)
        parts = urlsplit(broker_url)
        self._broker = socket.create_connection((parts.hostname or "", parts.port or 5672))
        self._listening = socket.create_server(("127.0.0.1", 0))
        user = parts.netloc.rpartition("@")[0]
        self.url = parts._replace(netloc=f"{user}@127.0.0.1:{self._listening.getsockname()[1]}").geturl()
        self.has_reset = threading.Event()

    def run(self) -> None:
        client, _ = self._listening.accept()
        answered = 0
        while answered < ENOUGH_BYTES:
            readable, _, _ = select.select([client, self._broker], [], [])
            if client in readable:
                self._broker.sendall(client.recv(4096))
            if self._broker in readable:
                answered += len(data := self._broker.recv(4096))
                client.sendall(data)
        while _unreceived_bytes(client):  # what the other side's kernel has not got by then, it never gets
            pass
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        client.close()
        self.has_reset.set()


def _unreceived_bytes(sender: socket.socket) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(sender, termios.TIOCOUTQ, b"\0" * 4))[0]
    return count


async def fill(settings: BrokerSettings, routing_key: str) -> None:
    async with ready(Publisher(settings.rabbitmq_url, "test", exchanges=["orders"])) as publisher:
        assert await publisher.publish_all([Message("orders", routing_key, BODY)] * MESSAGES) == [None] * MESSAGES


async def be_reset_while_looking_away(settings: BrokerSettings) -> None:
    """Begin to consume, and stand still, as a frozen process does, until the reset."""
    relay = Relay(settings.rabbitmq_url)
    relay.start()
    taken: list[Delivery] = []
    async with queue_of(settings, "orders", "reset.test") as queue:
        await fill(settings, "reset.test")
        connection = await Connection.open(relay.url, "test")
        connection._pika._transport._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * ENOUGH_BYTES)
        channel = await connection.channel()
        await channel.qos(MESSAGES)
        await channel.consume(queue, taken.append)
        assert relay.has_reset.wait(20)  # without awaiting anything
        await asyncio.wait([connection.closed], timeout=10)
        assert len(taken) > 100
        assert connection.closed.done()


def test_a_connection_that_was_reset_behind_much_unread_data_is_known_to_be_closed(
    module_broker_settings: BrokerSettings,
) -> None:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(be_reset_while_looking_away(module_broker_settings))
