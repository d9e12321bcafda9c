"""What becomes of a delivery whose attempt failed, and which attempt a delivery is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.messaging.message import Delivery, Message
from shared.messaging.retry import DeadLetter, NotReady, PermanentError, Retry, RetryPolicy, TransientError


@pytest.mark.parametrize(
    ("error", "attempt", "outcome"),
    [
        (TransientError("no"), 1, Retry(1.0, "TransientError: no")),
        (TransientError("no"), 2, Retry(5.0, "TransientError: no")),
        (TransientError("no"), 3, DeadLetter("attempts-exhausted", "TransientError: no")),
        (ZeroDivisionError("a bug"), 2, Retry(5.0, "ZeroDivisionError: a bug")),
        (NotReady("away"), 3, Retry(1.0, "NotReady: away", spends_attempt=False)),
        (PermanentError("unknown-sku", "no such sku"), 1, DeadLetter("unknown-sku", "no such sku")),
        (PermanentError("odd", "\ud800 and \0"), 1, DeadLetter("odd", "? and ?")),
    ],
    ids=str,
)
def test_the_outcome_of_a_failed_attempt(error: Exception, attempt: int, outcome: Retry | DeadLetter) -> None:
    assert RetryPolicy((1.0, 5.0)).outcome_of(error, attempt) == outcome


@pytest.mark.parametrize(
    ("asked", "attempt", "delay"),
    [
        (0, 1, 1.0),
        (1, 1, 1.0),
        (1.1, 1, 5.0),
        (5, 2, 5.0),
        (6, 1, 30.0),
        (20, 3, 30.0),
        (3600, 1, 30.0),
        (3600, 3, 30.0),
    ],
)
def test_a_request_to_wait_is_honoured_within_the_schedule(asked: float, attempt: int, delay: float) -> None:
    outcome = RetryPolicy((1.0, 5.0, 30.0)).outcome_of(TransientError("busy", retry_after_seconds=asked), attempt)
    assert outcome == Retry(delay, "TransientError: busy")


@given(st.lists(st.floats(0.1, 100), max_size=10))
def test_there_is_one_attempt_more_than_delays(delays_seconds: list[float]) -> None:
    policy = RetryPolicy(delays_seconds)
    outcomes = [policy.outcome_of(TransientError("no"), attempt) for attempt in range(1, len(delays_seconds) + 3)]

    assert [outcome.delay_seconds for outcome in outcomes if isinstance(outcome, Retry)] == delays_seconds
    assert all(isinstance(outcome, DeadLetter) for outcome in outcomes[len(delays_seconds) :])


@pytest.mark.parametrize(
    ("header", "attempt"),
    [({}, 1), ({"attempt": 3}, 3), ({"attempt": 0}, 1), ({"attempt": -4}, 1), ({"attempt": "3"}, 1),
     ({"attempt": True}, 1), ({"attempt": 2**62}, 1), ({"attempt": None}, 1), ({"attempt": [3]}, 1)],
)  # fmt: skip
def test_an_attempt_header_that_makes_no_sense_counts_as_the_first(header: dict[str, object], attempt: int) -> None:
    message = Message(exchange="orders", routing_key="order.placed.v1", body=b"", headers=header)

    assert Delivery(tag=1, redelivered=False, message=message).attempt == attempt
