"""The circuit breaker: what opens it, what a call meets while it is open, and what closes it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from shared.breaker import FAILURES, FIRST_PAUSE_SECONDS, MAX_DENIED_PAUSE_SECONDS, MAX_PAUSE_SECONDS, Breaker
from shared.messaging.retry import AccessDenied, NotReady, OutcomeUnknown, PermanentError, TransientError, Unavailable

DOWN = Unavailable("it answers 503")


class System:
    """An outside system, the breaker around it, and the breaker's clock. `answer`: what it raises, None for success."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, 0
        self.answer: Exception | None = None
        self.breaker = Breaker("the system", clock=lambda: self.now)

    async def work(self) -> str:
        self.calls += 1
        if self.answer is not None:
            raise self.answer
        return "done"

    async def call(self, function: Callable[[], Awaitable[str]] | None = None) -> str:
        return await self.breaker.call(function or self.work)

    async def fails(self, expected: type[Exception], answer: Exception | None = DOWN) -> None:
        self.answer = answer
        with pytest.raises(expected) as caught:
            await self.call()
        assert type(caught.value) is expected

    async def opened(self) -> "System":
        for _ in range(FAILURES - 1):
            await self.fails(Unavailable)
        await self.fails(NotReady)
        return self


async def test_a_few_failures_in_a_row_open_it_and_a_probe_closes_it() -> None:
    system = await System().opened()  # the last of them is not the message's fault, and spends no attempt
    assert "the system, since 2" in (system.breaker.degraded() or "")
    assert "it answers 503" in (system.breaker.degraded() or "")
    assert system.breaker.problem() is None

    calls, system.answer = system.calls, None
    await system.fails(NotReady, None)  # it is not called before the pause is over
    assert system.calls == calls

    system.now += FIRST_PAUSE_SECONDS
    assert await system.call() == "done"
    assert system.breaker.degraded() is None
    assert await system.call() == "done"


async def test_pauses_between_probes_grow_and_end_somewhere() -> None:
    system = await System().opened()
    pauses = []
    for _ in range(10):
        begun = system.now
        while True:
            calls = system.calls
            await system.fails(NotReady)
            if system.calls > calls:
                break
            system.now += FIRST_PAUSE_SECONDS
        pauses.append(system.now - begun)
    assert pauses[:3] == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS]
    assert pauses[-1] == MAX_PAUSE_SECONDS


async def test_a_system_may_ask_for_a_longer_pause() -> None:
    system = await System().opened()
    system.now += FIRST_PAUSE_SECONDS
    await system.fails(NotReady, Unavailable("too many requests", retry_after_seconds=30))
    system.now += 29
    await system.fails(NotReady, None)
    system.now += 1
    assert await system.call() == "done"


@pytest.mark.parametrize(
    "answer", [None, TransientError("this card alone"), PermanentError("refused", "this mail alone")]
)
async def test_answers_about_one_message_are_no_failures(answer: Exception | None) -> None:
    system = System()
    for _ in range(2 * FAILURES):
        await system.fails(Unavailable)
        system.answer = answer
        if answer is None:
            await system.call()
        else:
            await system.fails(type(answer), answer)
    assert system.breaker.degraded() is None


async def test_an_unknown_outcome_counts_and_is_raised_as_it_is_since_a_repetition_may_do_harm() -> None:
    system = System()
    for _ in range(FAILURES):
        await system.fails(OutcomeUnknown, OutcomeUnknown("no answer to the final dot"))
    assert system.breaker.degraded()
    await system.fails(NotReady)


async def test_one_probe_at_a_time_and_its_place_is_free_when_it_is_cancelled() -> None:
    system = await System().opened()
    system.now += FIRST_PAUSE_SECONDS
    probe = asyncio.create_task(system.call(asyncio.Event().wait))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await system.fails(NotReady, None)

    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert await system.call(System().work) == "done"
    assert system.breaker.degraded() is None


@pytest.mark.parametrize("late", [None, DOWN])
async def test_a_call_that_began_before_the_outage_neither_closes_it_nor_counts_as_its_probe(
    late: Exception | None,
) -> None:
    system, answered = System(), asyncio.Event()

    async def slow() -> str:
        await answered.wait()
        if late:
            raise late
        return "done"

    begun_before = asyncio.create_task(system.call(slow))
    await asyncio.sleep(0)
    await system.opened()
    answered.set()
    (result,) = await asyncio.gather(begun_before, return_exceptions=True)

    assert result == "done" if late is None else type(result) is NotReady
    assert system.breaker.degraded()
    system.now += FIRST_PAUSE_SECONDS
    system.answer = None
    assert await system.call() == "done"


async def test_a_denial_opens_it_at_once_is_logged_once_is_a_problem_and_tried_ever_more_rarely() -> None:
    system = System()
    with capture_logs() as log:
        for number in range(10):
            await system.fails(AccessDenied, AccessDenied("wrong key: set STRIPE_API_KEY"))
            calls = system.calls
            system.now += min(FIRST_PAUSE_SECONDS * 2**number, MAX_DENIED_PAUSE_SECONDS) - 0.25
            await system.fails(NotReady)
            assert system.calls == calls
            system.now += 0.25
    assert [(line["event"], line["log_level"]) for line in log] == [("breaker.opened", "error")]
    assert "set STRIPE_API_KEY" in (system.breaker.problem() or "")
    assert system.breaker.degraded() is None

    system.answer = None
    assert await system.call() == "done"
    assert system.breaker.problem() is None
