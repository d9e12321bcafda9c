"""How often the dashboard reads the system: seldom while no page is open, at once when one is opened."""

import asyncio
import time

import pytest

from control_room.dashboard import pace as module
from control_room.dashboard.pace import Pace

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


async def test_looks_are_close_together_while_a_page_is_open_and_far_apart_while_none_is(pace: Pace) -> None:
    pace.close("a page that was never opened")
    assert await next_look_after(pace) >= 0.5
    pace.open("one")
    pace.open("another")
    pace.close("one")
    assert 0.1 <= await next_look_after(pace) < 0.5
    pace.close("another")
    assert await next_look_after(pace) >= 0.5


async def test_a_page_that_opens_ends_a_long_pause() -> None:
    pace = Pace()
    pausing = asyncio.create_task(pace.pause(0, LONG_SECONDS))
    await asyncio.sleep(0)  # lets it begin
    pace.open("one")
    await asyncio.wait_for(pausing, LONG_SECONDS / 10)


async def test_a_slow_look_is_followed_by_a_pause_all_the_same(pace: Pace) -> None:
    pace.open("one")
    began = time.monotonic()
    await pace.next_look(began - LONG_SECONDS)
    assert time.monotonic() - began >= module.SHORTEST_PAUSE_SECONDS
