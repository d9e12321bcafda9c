"""What a process remembers of its publishes and deliveries."""

from shared.events import BATCH_CONTENT_TYPE, encode
from shared.ids import new_id
from shared.messaging.message import Delivery, Message
from shared.messaging.retry import DONE, DUPLICATE, DeadLetter, Outcome, Retry
from shared.observability import delivery_log
from tests.examples import order_placed

QUEUE = "payment_service.charge"


def message() -> tuple[str, Message]:
    event = order_placed(order_id := new_id())
    return order_id, Message("orders", event.type, encode(event), message_id=event.id, type=event.type)


def handled(letter: Message, outcome: Outcome, *, settled: bool = True, redelivered: bool = False) -> None:
    delivery_log.note_handled(QUEUE, Delivery(1, redelivered, letter), outcome, settled=settled)


def test_an_order_is_remembered_with_all_that_happened_to_its_messages() -> None:
    order_id, placed = message()
    delivery_log.note_published(placed, "confirmed")
    handled(placed, Retry(5, "the gateway failed"))
    handled(placed, DONE)
    handled(placed, DUPLICATE, redelivered=True)
    handled(placed, DeadLetter("attempts-exhausted", "the gateway failed"))
    notes = [
        (note.act, note.place, note.outcome, note.detail, note.redelivered) for note in delivery_log.about(order_id)
    ]
    assert notes == [
        ("published", "orders", "confirmed", "", False),
        ("handled", QUEUE, "retry", "in 5 s: the gateway failed", False),
        ("handled", QUEUE, "done", "", False),
        ("handled", QUEUE, "duplicate", "", True),
        ("handled", QUEUE, "dead letter", "attempts-exhausted: the gateway failed", False),
    ]


def test_a_delivery_whose_connection_was_lost_comes_again_and_says_so() -> None:
    order_id, placed = message()
    handled(placed, DONE, settled=False)
    assert delivery_log.about(order_id)[0].detail.startswith("the connection was lost: it comes again")


def test_poison_belongs_to_no_order() -> None:
    handled(Message("orders", "order.placed.v1", b"\xff no JSON"), DeadLetter("not-json", ""))
    assert delivery_log.about("") != []
    assert delivery_log.about(new_id()) == []


def test_a_copy_for_the_stream_belongs_to_no_order() -> None:
    order_id, placed = message()
    copy = Message("", "events", b"[" + placed.body + b"]", content_type=BATCH_CONTENT_TYPE)
    delivery_log.note_published(copy, "confirmed")
    assert delivery_log.about(order_id) == []


def test_only_the_latest_are_kept() -> None:
    before = delivery_log.known_since()
    order_id, placed = message()
    handled(placed, DONE)
    _, other = message()
    for _ in range(delivery_log.MAX_NOTES):
        delivery_log.note_published(other, "confirmed")
    assert delivery_log.about(order_id) == []
    assert delivery_log.known_since() > before
