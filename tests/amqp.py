"""Queues of the tests' own, what arrives in them, and connections closed from the broker's side."""

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from shared.management import Management
from shared.messaging.connection import connected
from shared.messaging.message import Delivery, Message
from shared.settings import BrokerSettings
from tests.support import eventually


@asynccontextmanager
async def queue_of(
    settings: BrokerSettings, exchange: str, routing_key: str, arguments: Mapping[str, object] | None = None
) -> AsyncIterator[str]:
    """A quorum queue bound to an exchange, until the block ends; its name."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    queue = {"durable": True, "arguments": {"x-queue-type": "quorum", **(arguments or {})}}
    async with Management(settings) as management:
        await management.put("queues", management.vhost, name, body=queue)
        await management.post("bindings", management.vhost, "e", exchange, "q", name, body={"routing_key": routing_key})
        try:
            yield name
        finally:
            await management.delete("queues", management.vhost, name)


@asynccontextmanager
async def arrivals(settings: BrokerSettings, queue: str) -> AsyncIterator[list[Message]]:
    """A list that fills with the messages of a queue; each is acknowledged."""
    messages: list[Message] = []
    async with connected(settings.rabbitmq_url, "test arrivals") as connection:
        channel = await connection.channel()

        def take(delivery: Delivery) -> None:
            messages.append(delivery.message)
            channel.ack(delivery.tag, multiple=False)

        await channel.qos(1000)
        await channel.consume(queue, take)
        yield messages


_closed: set[str] = set()
"""Connections that were closed here, by the broker's names: it goes on listing them for a while."""


async def close_connection(settings: BrokerSettings, name: str) -> None:
    """Close the connection of this name from the broker's side, once the management API lists it."""
    async with Management(settings) as management:

        async def find() -> str | None:
            connections = await management.find("connections")
            found = [
                each["name"]
                for each in connections
                if each["vhost"] == settings.vhost and each["client_properties"].get("connection_name") == name
            ]
            return next((each for each in found if each not in _closed), None)

        connection = str(await eventually(find, expecting=f"connection {name!r}"))
        _closed.add(connection)
        await management.delete("connections", connection)


async def peek(management: Management, queue: str) -> list[dict[str, Any]]:
    """The messages of a queue, as the management API shows them; they go back to it."""
    body = {"count": 100, "ackmode": "ack_requeue_true", "encoding": "auto"}
    found: list[dict[str, Any]] = await management.post("queues", management.vhost, queue, "get", body=body)
    return found


async def post(
    management: Management,
    routing_key: str,
    payload: str,
    exchange: str = "amq.default",
    properties: Mapping[str, Any] | None = None,
) -> None:
    """Publish a message over the management API; it must reach a queue."""
    persistent = {"delivery_mode": 2, **(properties or {})}
    body = {"routing_key": routing_key, "payload": payload, "payload_encoding": "string", "properties": persistent}
    answer = await management.post("exchanges", management.vhost, exchange, "publish", body=body)
    assert answer["routed"]
