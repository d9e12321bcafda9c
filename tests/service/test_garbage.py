"""A message that can never work becomes a dead letter at once, and the consumer goes on over the same connections."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.events import encode
from shared.messaging.message import Message
from tests.examples import order_placed, payment_succeeded
from tests.service.process import RunningService
from tests.service.wire import TIMESTAMP_2_62, VOID, RawHeaders, Wire, nested
from tests.support import eventually

CHARGE = "payment_service.charge"


def spoiled(**changes: object) -> bytes:
    return json.dumps({**json.loads(encode(order_placed())), **changes}).encode()


GARBAGE = {
    "empty": (b"", "not-json"),
    "not JSON": (b"hello", "not-json"),
    "not UTF-8": (b'{"id": "\xfc"}', "not-json"),
    "deeply nested": (b"[" * 100_000, "not-json"),
    "not an object": (b"[]", "schema-mismatch"),
    "wrong schema": (spoiled(data={"order": "a pizza"}), "schema-mismatch"),
    "unknown version": (spoiled(type="order.placed.v99"), "unknown-version"),
    "unknown type": (spoiled(type="order.eaten.v1"), "unknown-type"),
    "another's event": (encode(payment_succeeded()), "not-for-this-queue"),
    "1 MB": (b"x" * 1_000_000, "oversize"),
}


@asynccontextmanager
async def undisturbed(service: RunningService, wire: Wire) -> AsyncIterator[None]:
    """What happens in the block costs the service no connection, and the next order is charged."""
    connections = await service.metric("broker_connections_opened")
    await wire.watch_dead_letters(CHARGE)
    yield
    placed = order_placed()
    wire.send(placed)
    await wire.event("payments", placed.subject, "payment.succeeded.v1")
    assert await service.metric("broker_connections_opened") == connections
    assert (await service.http.get("/readyz")).status_code == 200


async def parked(wire: Wire, body: bytes) -> Mapping[str, Any]:
    """The headers of the dead letter with this body."""

    def find() -> list[Message]:
        return [message for message in wire.parked[CHARGE] if message.body == body]

    (message,) = await eventually(find, expecting="the message to be parked")
    return message.headers


@pytest.mark.parametrize(("body", "reason"), GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_parked_at_once_with_its_reason(
    payment_service: RunningService, wire: Wire, body: bytes, reason: str
) -> None:
    async with undisturbed(payment_service, wire):
        message_id = wire.send_garbage("orders", "order.placed.v1", body)
        letter = await wire.dead_letter(CHARGE, message_id)

    assert letter.headers["dead-letter-reason"] == reason
    assert letter.headers["dead-letter-attempts"] == 1
    assert letter.headers["dead-letter-queue"] == CHARGE
    assert letter.headers["dead-letter-error"]
    assert letter.body == body


# The broker passes both on, and pika's decoder raises on both. (RabbitMQ 3.10 refuses a NaN itself.)
HOSTILE = {"timestamp 2^62": TIMESTAMP_2_62, "nested 5000 deep": nested(5000)}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_header_that_can_not_be_decoded_closes_no_connection(
    payment_service: RunningService, wire: Wire, value: bytes
) -> None:
    body = encode(order_placed())
    async with undisturbed(payment_service, wire):
        wire.publish("orders", "order.placed.v1", body, RawHeaders({b"hostile": value}))
        assert (await parked(wire, body))["dead-letter-reason"] == "undecodable-properties"


async def test_properties_that_are_not_utf8_close_no_connection(payment_service: RunningService, wire: Wire) -> None:
    body = b"not JSON, and neither is its message id UTF-8"
    async with undisturbed(payment_service, wire):
        wire.publish("orders", "order.placed.v1", body, RawHeaders({b"not UTF-8 \xff": VOID}, message_id=b"\xff\xfe"))
        await parked(wire, body)


async def test_headers_that_make_no_sense_do_not_matter(payment_service: RunningService, wire: Wire) -> None:
    placed = order_placed()
    fields = {
        b"attempt": b"l" + (2**62).to_bytes(8),
        b"first-seen": b"S" + (3).to_bytes(4) + b"\xff\xfe\xfd",
        b"dead-letter-reason": VOID,
        b"not UTF-8 \xff": VOID,
    }

    wire.publish("orders", "order.placed.v1", encode(placed), RawHeaders(fields))

    await wire.event("payments", placed.subject, "payment.succeeded.v1")
