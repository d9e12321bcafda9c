"""A message that can never work becomes a dead letter at once, and the consumer goes on over the same connections."""

import json

import pytest
from pika import BasicProperties

from shared.events import encode
from shared.ids import new_id
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


NOT_UTF8 = b"not JSON, and neither is its message id UTF-8"
# The broker passes them on, and pika's decoder raises on each. (RabbitMQ 3.10 refuses a NaN itself.)
HOSTILE = {
    "timestamp 2^62": (encode(order_placed()), RawHeaders({b"hostile": TIMESTAMP_2_62}), "undecodable-properties"),
    "nested 5000 deep": (encode(order_placed()), RawHeaders({b"hostile": nested(5000)}), "undecodable-properties"),
    "no UTF-8": (NOT_UTF8, RawHeaders({b"not UTF-8 \xff": VOID}, message_id=b"\xff\xfe"), ""),
}


@pytest.mark.parametrize(
    ("body", "properties", "reason"),
    [
        *((body, BasicProperties(message_id=new_id(), delivery_mode=2), reason) for body, reason in GARBAGE.values()),
        *HOSTILE.values(),
    ],
    ids=[*GARBAGE, *HOSTILE],
)
async def test_garbage_is_parked_at_once_with_its_reason_and_closes_no_connection(
    payment_service: RunningService, wire: Wire, body: bytes, properties: BasicProperties, reason: str
) -> None:
    connections = await payment_service.metric("broker_connections_opened")
    await wire.watch_dead_letters(CHARGE)
    wire.publish("orders", "order.placed.v1", body, properties)

    (letter,) = await eventually(lambda: [each for each in wire.parked[CHARGE] if each.body == body], expecting="it")

    assert letter.headers["dead-letter-reason"] == reason or not reason
    assert (letter.headers["dead-letter-attempts"], letter.headers["dead-letter-queue"]) == (1, CHARGE)
    assert letter.headers["dead-letter-error"]
    assert letter.message_id == properties.message_id or not properties.message_id
    wire.send(placed := order_placed())
    await wire.event("payments", placed.subject, "payment.succeeded.v1")
    assert await payment_service.metric("broker_connections_opened") == connections
    assert (await payment_service.http.get("/readyz")).status_code == 200


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
