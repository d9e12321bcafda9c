"""How often the control room looks: it must not cost much while nobody watches, nor be late for somebody who comes."""

import asyncio
import time

import pytest

from control_room.dashboard import pace as module
from control_room.dashboard.pace import Pace
from control_room.dashboard.snapshots.auditing import pauses

LONG_SECONDS = 60.0


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Pace:
    monkeypatch.setattr(module, "WATCHED_SECONDS", 0.1)
    monkeypatch.setattr(module, "UNWATCHED_SECONDS", 0.5)
    return Pace()


async def next_look_after(pace: Pace) -> float:
    began = time.monotonic()
    await pace.next_look(began)
    return time.monotonic() - began


async def test_looks_are_far_apart_while_no_page_is_open(pace: Pace) -> None:
    assert await next_look_after(pace) >= 0.5


async def test_looks_are_close_together_while_a_page_is_open(pace: Pace) -> None:
    pace.open("one")
    assert 0.1 <= await next_look_after(pace) < 0.5


async def test_of_two_pages_one_is_enough(pace: Pace) -> None:
    pace.open("one")
    pace.open("another")
    pace.close("one")
    assert await next_look_after(pace) < 0.5
    pace.close("another")
    assert await next_look_after(pace) >= 0.5


async def test_a_page_that_opens_ends_a_long_pause() -> None:
    pace = Pace()
    pausing = asyncio.create_task(pace.pause(0, LONG_SECONDS))
    await asyncio.sleep(0)  # lets it begin
    pace.open("one")
    await asyncio.wait_for(pausing, LONG_SECONDS / 10)


async def test_a_page_that_goes_without_having_come_is_no_error(pace: Pace) -> None:
    pace.close("one")
    assert await next_look_after(pace) >= 0.5


async def test_a_slow_look_is_followed_by_a_pause_all_the_same(pace: Pace) -> None:
    pace.open("one")
    began = time.monotonic()
    await pace.next_look(began - LONG_SECONDS)
    assert time.monotonic() - began >= module.SHORTEST_PAUSE_SECONDS


@pytest.mark.parametrize(
    ("processor_seconds", "expected"), [(0.1, (5.0, 120.0)), (1.0, (20.0, 200.0)), (100.0, (900.0, 900.0))]
)
def test_audits_take_a_twentieth_of_a_processor_or_less_and_a_tenth_of_that_while_no_page_is_open(
    processor_seconds: float, expected: tuple[float, float]
) -> None:
    assert pauses(processor_seconds) == pytest.approx(expected)
