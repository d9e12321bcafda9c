"""After which attempt a message waits how long, and when it is given up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.messaging.message import Delivery, Message
from shared.messaging.retry import DeadLetter, Retry, RetryPolicy


def test_each_failed_attempt_waits_for_the_delay_of_its_place() -> None:
    policy = RetryPolicy((1.0, 5.0, 30.0))

    assert [policy.after_failure(attempt, "no") for attempt in (1, 2, 3)] == [
        Retry(1.0, "no"),
        Retry(5.0, "no"),
        Retry(30.0, "no"),
    ]


def test_the_attempt_after_the_last_delay_is_the_last() -> None:
    assert RetryPolicy((1.0,)).after_failure(2, "no") == DeadLetter("attempts-exhausted", "no")


@given(st.lists(st.floats(0.1, 100), max_size=10))
def test_there_is_one_attempt_more_than_delays(delays_seconds: list[float]) -> None:
    policy = RetryPolicy(delays_seconds)
    outcomes = [policy.after_failure(attempt, "no") for attempt in range(1, len(delays_seconds) + 3)]

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
