"""What can never work is set aside at once with its reason, and the consumer goes on as ever."""

import json

import pytest

from shared.events import encode
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


async def expect_business_as_usual(service: RunningService, wire: Wire, connections_before: float) -> None:
    """The next order is charged, over the connections that were there before."""
    placed = order_placed()
    wire.send(placed)
    await wire.event("payments", placed.subject, "payment.succeeded.v1")
    assert await service.metric("broker_connections_opened_total") == connections_before
    assert (await service.http.get("/readyz")).status_code == 200


@pytest.mark.parametrize(("body", "reason"), GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_parked_at_once_with_its_reason(
    payment_service: RunningService, wire: Wire, body: bytes, reason: str
) -> None:
    connections_before = await payment_service.metric("broker_connections_opened_total")

    message_id = wire.send_garbage("orders", "order.placed.v1", body)
    letter = await wire.dead_letter(CHARGE, message_id)

    headers = letter.headers
    assert headers["dead-letter-reason"] == reason
    assert headers["dead-letter-attempts"] == 1
    assert headers["dead-letter-queue"] == CHARGE
    assert headers["dead-letter-error"]
    assert letter.body == body
    await expect_business_as_usual(payment_service, wire, connections_before)


# The broker passes both on, and pika's decoder raises on both. (RabbitMQ 3.10 refuses a NaN itself.)
HOSTILE = {"timestamp 2^62": TIMESTAMP_2_62, "nested 5000 deep": nested(5000)}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_header_that_cannot_be_read_takes_nothing_down(
    payment_service: RunningService, wire: Wire, value: bytes
) -> None:
    connections_before = await payment_service.metric("broker_connections_opened_total")
    placed = order_placed()
    await wire.watch_dead_letters(CHARGE)

    wire.publish("orders", "order.placed.v1", encode(placed), RawHeaders({b"hostile": value}))

    def parked() -> list[str]:
        letters = [letter for letter in wire.parked[CHARGE] if letter.body == encode(placed)]
        return [str(letter.headers["dead-letter-reason"]) for letter in letters]

    assert await eventually(parked, expecting="the message to be parked") == ["undecodable-properties"]
    await expect_business_as_usual(payment_service, wire, connections_before)


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


async def test_properties_that_are_not_utf8_are_kept_apart(payment_service: RunningService, wire: Wire) -> None:
    connections_before = await payment_service.metric("broker_connections_opened_total")
    await wire.watch_dead_letters(CHARGE)
    body = b"not JSON, and neither is its message id UTF-8"

    wire.publish("orders", "order.placed.v1", body, RawHeaders({b"not UTF-8 \xff": VOID}, message_id=b"\xff\xfe"))

    await eventually(
        lambda: [letter for letter in wire.parked[CHARGE] if letter.body == body], expecting="the message to be parked"
    )
    await expect_business_as_usual(payment_service, wire, connections_before)
