"""Which rows share a batch, how long they linger, and that each caller gets the outcome of its own row."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection

from shared.persistence import batcher as module
from shared.persistence.batcher import ENOUGH_ROWS, MAX_ROWS, Batch, Batcher
from shared.persistence.failures import DatabaseUnavailable

FOREVER_SECONDS = 60.0


class Rows:
    """A batcher of numbers, whose outcomes are the numbers; an odd one fails if `odd_fails`."""

    def __init__(self, *, in_loop: bool) -> None:
        self.batches: list[int] = []
        self.odd_fails = False
        self.batcher = Batcher(self._run, in_loop=in_loop)

    def _run(self, batch: Batch) -> list[Any]:
        self.batches.append(len(batch))
        return [ValueError(row) if self.odd_fails and row % 2 else row for _, row, _ in batch]

    def add(self, row: int, linger_seconds: float = 0) -> "asyncio.Future[int]":
        return self.batcher.submit(operation, row, linger_seconds)

    async def add_many(self, *numbers: int, linger_seconds: float = 0) -> list[int]:
        async with asyncio.timeout(30):
            return await asyncio.gather(*(self.add(number, linger_seconds) for number in numbers))


def operation(_connection: Connection, rows: list[int]) -> list[int]:
    return rows


@pytest_asyncio.fixture(params=[False, True], ids=["on a thread", "in the loop"])
async def rows(request: pytest.FixtureRequest) -> AsyncIterator[Rows]:
    rows = Rows(in_loop=request.param)
    rows.batcher.start()
    yield rows
    await rows.batcher.stop()


@pytest.fixture
def long_linger(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a batch of several rows the next ones linger for a minute."""
    monkeypatch.setattr(module, "LINGER_FACTOR", 1e9)
    rows.batcher._linger_seconds = FOREVER_SECONDS


async def test_rows_that_wait_share_a_batch_and_each_caller_gets_its_own_result(rows: Rows) -> None:
    assert await rows.add_many(*range(200)) == list(range(200))
    assert rows.batches == [200]


async def test_a_row_that_fails_fails_alone(rows: Rows) -> None:
    rows.odd_fails = True
    results = await asyncio.gather(*(rows.add(number) for number in range(4)), return_exceptions=True)
    assert [type(result) for result in results] == [int, ValueError, int, ValueError]


async def test_a_batch_has_an_upper_bound_and_the_rows_beyond_do_not_linger(rows: Rows) -> None:
    await rows.add_many(*range(2 * MAX_ROWS + 1), linger_seconds=FOREVER_SECONDS)
    assert rows.batches == [MAX_ROWS, MAX_ROWS, 1]


@pytest.mark.usefixtures("long_linger")
async def test_many_callers_that_write_over_and_over_share_each_batch(rows: Rows) -> None:
    async def write_three(number: int) -> None:
        for _ in range(3):
            await rows.add(number)
            for _ in range(number):  # not all of them come back at once
                await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await asyncio.gather(*(write_three(10 * number) for number in range(ENOUGH_ROWS + 5)))
    assert rows.batches == [ENOUGH_ROWS + 5] * 3


async def test_rows_that_come_shortly_after_a_batch_share_the_next(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_FACTOR", 1e9)
    rows.batcher._linger_seconds = 0.3
    await rows.add_many(0, 1)
    writing = []
    for number in range(2, ENOUGH_ROWS):
        writing.append(rows.add(number))
        await asyncio.sleep(0)
    await asyncio.gather(*writing)
    assert rows.batches == [2, ENOUGH_ROWS - 2]


@pytest.mark.usefixtures("long_linger")
async def test_a_row_that_comes_after_a_single_row_does_not_linger(rows: Rows) -> None:
    for number in range(3):
        await rows.add_many(number)
    assert rows.batches == [1, 1, 1]


async def test_an_urgent_row_takes_the_lingering_rows_along(rows: Rows) -> None:
    lingering = [rows.add(number, FOREVER_SECONDS) for number in range(2)]
    await asyncio.sleep(0)
    await rows.add_many(2)
    await asyncio.gather(*lingering)
    assert rows.batches == [3]


@pytest.mark.parametrize("end", ["its time is over", "enough rows", "stop", "stop after a batch"])
async def test_the_linger_ends(rows: Rows, end: str, request: pytest.FixtureRequest) -> None:
    count = ENOUGH_ROWS if end == "enough rows" else 2
    if end == "stop after a batch":
        request.getfixturevalue("long_linger")
        await rows.add_many(0, 1)
        rows.batches.clear()
    writing = []
    for number in range(count):
        writing.append(rows.add(number, 0.2 if end == "its time is over" else FOREVER_SECONDS))
        await asyncio.sleep(0)
    assert rows.batches == []

    async with asyncio.timeout(30):
        if end.startswith("stop"):
            await rows.batcher.stop()
        await asyncio.gather(*writing)
    assert rows.batches == [count]


async def test_a_cancelled_caller_disturbs_nobody(rows: Rows) -> None:
    writes = [rows.add(number) for number in range(10)]
    writes[4].cancel()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(results[4], asyncio.CancelledError)
    assert sum(isinstance(result, int) for result in results) == 9
    assert await rows.add(10) == 10


async def test_rows_that_wait_are_run_before_it_stops_and_later_rows_are_refused(rows: Rows) -> None:
    writes = [rows.add(number) for number in range(50)]
    await rows.batcher.stop()
    assert await asyncio.gather(*writes) == list(range(50))
    with pytest.raises(DatabaseUnavailable):
        rows.add(51)
