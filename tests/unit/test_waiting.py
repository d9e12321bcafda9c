"""Polling with a deadline."""

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from shared.waiting import poll

Answer = TypeVar("Answer")


def answers(*given: Answer | Exception) -> Callable[[], Awaitable[Answer]]:
    """A probe that gives these one after the other, and raises the exceptions among them."""
    remaining = iter(given)

    async def probe() -> Answer:
        answer = next(remaining)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return probe


async def test_the_first_result_that_satisfies_is_returned() -> None:
    assert await poll(answers(0, 0, 3, 4), within_seconds=math.inf, every_seconds=0) == 3


async def test_another_condition_than_truth_can_be_asked_for() -> None:
    problem = answers("starting", None)
    assert await poll(problem, within_seconds=math.inf, every_seconds=0, until=lambda why: why is None) is None


async def test_after_the_deadline_the_last_result_is_returned() -> None:
    assert await poll(answers(*[""] * 100), within_seconds=0.01, every_seconds=0.001) == ""


async def test_an_error_that_means_not_yet_is_raised_only_after_the_deadline() -> None:
    probe: Callable[[], Awaitable[bool]] = answers(ConnectionError("first"), *[ConnectionError("later")] * 100)
    with pytest.raises(ConnectionError, match="later"):
        await poll(probe, within_seconds=0.01, every_seconds=0.001, not_yet=(ConnectionError,))


async def test_any_other_error_is_raised_at_once() -> None:
    with pytest.raises(ConnectionError):
        await poll(answers(ConnectionError(), True), within_seconds=math.inf, every_seconds=0, not_yet=(ValueError,))
