"""Milestones only move forward; a pruned order is told by its id, and a young one costs no statement."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from shared.ids import first_id, made_at, new_id
from shared.messaging.retry import PermanentError
from shared.persistence import milestones
from shared.persistence.database import Database
from shared.persistence.milestones import PRUNED_BEFORE, RESTORED_TO, Milestone, expect_kept, is_pruned, reach, read
from tests.notes import metadata, opened
from tests.support import create_tables

JULY = datetime(2026, 7, 1, tzinfo=UTC)
MOMENT, DAY = timedelta(milliseconds=1), timedelta(days=1)


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as database:
        yield database


async def test_a_milestone_only_moves_forward(database: Database) -> None:
    assert await database.look_up(read, None) == {}
    for at in (JULY, JULY - DAY, JULY + DAY, JULY):
        await database.write(reach, Milestone(PRUNED_BEFORE, at))
    await database.write(reach, Milestone(RESTORED_TO, JULY))

    assert await database.look_up(read, None) == {PRUNED_BEFORE: JULY + DAY, RESTORED_TO: JULY}


async def test_what_was_placed_before_the_milestone_is_pruned(database: Database) -> None:
    before, after = first_id(JULY - MOMENT), first_id(JULY)
    assert not await is_pruned(database, before)  # nothing is pruned yet

    await database.write(reach, Milestone(PRUNED_BEFORE, JULY))

    assert [await is_pruned(database, id) for id in (before, f"{before}/email/receipt")] == [True, True]
    assert [await is_pruned(database, id) for id in (after, f"{after}/refund", new_id())] == [False, False, False]
    with pytest.raises(PermanentError, match=f"order {before} is so old") as pruned:
        await expect_kept(database, f"{before}/email/receipt")
    assert pruned.value.reason == "order-pruned"
    await expect_kept(database, after)


async def test_a_young_order_is_kept_without_a_look_at_the_database(database: Database) -> None:
    await database.stop()  # a look-up would now raise `DatabaseUnavailable`

    assert not await is_pruned(database, new_id())


async def test_a_restored_database_is_given_its_milestone_before_a_service_opens_it(database_url: str) -> None:
    create_tables(database_url, metadata)
    for at in (JULY, JULY - DAY):
        milestones.write(database_url, {RESTORED_TO: at})

    async with opened(database_url) as database:
        assert await database.look_up(read, None) == {RESTORED_TO: JULY}


@pytest.mark.parametrize("at", [JULY, JULY + timedelta(microseconds=999), datetime(1970, 1, 1, tzinfo=UTC)])
def test_ids_of_earlier_moments_sort_before_the_first_of_a_moment(at: datetime) -> None:
    assert made_at(first_id(at)) <= at < made_at(first_id(at)) + MOMENT
    assert first_id(at - MOMENT) <= first_id(at) <= new_id()
