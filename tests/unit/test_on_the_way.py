"""How many messages are on their way to a consumer, from what the broker and the services count."""

import pytest

from control_room.operations.audit.on_the_way import _on_the_way
from control_room.operations.audit.reconciliation import OnTheWay

QUEUE = "notification_service.email"
READY = {QUEUE: 3, f"{QUEUE}.retry.1s": 2, f"{QUEUE}.retry.1800s": 0, "notification_service.sms": 50}
DELAYS = (1, 1800, 1800)


def found(*, held: int | None = 4, limit: int = 10, delays: tuple[float, ...] = DELAYS) -> OnTheWay:
    return _on_the_way(QUEUE, 7, READY, held, limit, delays)


def test_outboxes_the_queue_its_retry_queues_and_what_consumers_hold_are_counted() -> None:
    assert found().counted == 7 + 3 + 2 + 4


def test_there_are_no_more_than_consumers_may_hold_and_the_broker_may_be_moving() -> None:
    assert found().at_most == 7 + 3 + 2 + 10 + 32
    assert found(limit=0).at_most == 7 + 3 + 2 + 4 + 32  # the consumer has just gone away


def test_what_the_broker_has_not_counted_yet_consumers_may_hold() -> None:
    """After a restart, and with some defects of the broker for good, its API leaves the number out."""
    assert found(held=None).counted == 7 + 3 + 2 + 10
    assert found(held=None, limit=0).counted == 7 + 3 + 2


@pytest.mark.parametrize(
    ("delays", "lasts", "attempts"), [(DELAYS, 3601, 4), ((1, 5, 30), 2 * 1801, 5)], ids=["known", "others"]
)
def test_retries_last_as_long_as_their_delays_together(delays: tuple[float, ...], lasts: float, attempts: int) -> None:
    assert (found(delays=delays).retry_seconds, found(delays=delays).attempts) == (lasts, attempts)
