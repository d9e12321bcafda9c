"""Repid's connection to RabbitMQ.

It declares no queues, so the benchmark makes them, as quorum queues; and it knows the virtual host `/` alone.
"""

import os
from typing import Any

from pydantic import BaseModel
from repid import AmqpServer
from repid.connections.amqp._uamqp import _encode
from repid.connections.amqp._uamqp.amqptypes import AMQPTypes


def _encode_boolean(output: bytearray, value: bool, **_options: Any) -> None:
    output.append(0x41 if value else 0x42)


# RabbitMQ before version 4 reads a boolean in its one-byte form alone; Repid writes two bytes.
_encode._ENCODE_MAP[AMQPTypes.boolean.value] = _encode_boolean  # noqa: SLF001


def address_of(queue: str, _routing_key: str | None = None) -> str:
    """An existing queue, in the form that every RabbitMQ understands; Repid's own needs version 4."""
    return f"/amq/queue/{queue}"


def new_server() -> AmqpServer:
    """One connection."""
    url = os.environ["RABBITMQ_URL"]
    return AmqpServer(url, publish_naming_strategy=address_of, subscribe_naming_strategy=address_of)


publisher = new_server()
"""Not the connection that consumes: that one reads nothing, so no confirm either, while all its actors are at work."""


async def publish(queue: str, message: BaseModel) -> None:
    """Returns once the broker has confirmed the message, for which Repid's `send_message_json` does not wait."""
    assert publisher.managed_session is not None, "expected a connected server"
    body = message.model_dump_json().encode()
    await publisher.managed_session.sender_pool.send(address_of(queue), body, settled=False)
