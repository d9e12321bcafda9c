"""An effect that can't be taken back happens once, whatever its record meets with."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio
from sqlalchemy import Column, Connection, MetaData, String, Table

from shared.effects import Once
from shared.events import Event
from shared.messaging.retry import DONE, DUPLICATE, NotReady, PermanentError, TransientError
from shared.persistence import backends
from shared.persistence.database import Database
from shared.persistence.failures import DatabaseUnavailable
from shared.persistence.keyed import KeyedStore, Recording
from shared.persistence.outbox import Outbox
from tests import examples
from tests.postgres import read_only
from tests.support import eventually, new_database, ready

metadata = MetaData()
table = Table("done", metadata, Column("key", String, primary_key=True), Column("status", String, nullable=False))

Unwritable = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Fact:
    key: str
    status: str


facts = KeyedStore(
    table,
    Outbox(metadata, "facts"),
    to_row=vars,
    from_row=lambda row: Fact(row.key, row.status),
    replaces={"done": {"failed"}, "failed": ()},
)


class Outside:
    """An effect on the outside world: counts how often it is done, and fails with the errors that a test gives it."""

    def __init__(self, placed: Event) -> None:
        self.key, self._placed = placed.subject, placed
        self.effects = 0
        self.failures: list[Exception] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    def is_done(self, known: Fact | None) -> bool:
        return known is not None and known.status == "done"

    async def perform(self, known: Fact | None, attempt: int) -> Fact:
        if self.failures:
            raise self.failures.pop(0)
        self.effects += 1
        await self.may_end.wait()
        return Fact(self.key, "done")

    def given_up(self, attempts: int, error: str) -> Fact:
        return Fact(self.key, "failed")

    def event_of(self, fact: Fact) -> Event:
        return self._placed


@pytest.fixture
def placed() -> Event:
    return examples.order_placed()


@pytest.fixture
def outside(placed: Event) -> Outside:
    return Outside(placed)


@pytest.fixture
def once(database: Database, outside: Outside) -> Once[Fact]:
    return Once(database, facts, lambda _event: outside)


@pytest_asyncio.fixture
async def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(backends, "LOCK_TIMEOUT_SECONDS", 0.05)
    async with ready(new_database(database_url, metadata, name="effects")) as database:
        yield database


@pytest.fixture
def unwritable(database_url: str) -> Unwritable:
    """While its block lasts the database can be read and not be written."""
    return lambda: (locked if database_url.startswith("sqlite") else read_only)(database_url)


@contextmanager
def locked(url: str) -> Iterator[None]:
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.close()


async def is_refused(database: Database, placed: Event) -> bool:
    """Whether the database refuses a record of another effect."""
    try:
        await database.write(facts.record, Recording(Fact("other", "done"), placed))
    except DatabaseUnavailable:
        return True
    return False


async def test_while_the_record_cannot_be_written_only_the_recording_is_repeated(
    database: Database, unwritable: Unwritable, once: Once[Fact], outside: Outside, placed: Event
) -> None:
    outside.may_end.clear()
    handling = asyncio.create_task(once.handle(placed, 1))
    await eventually(lambda: outside.effects, expecting="the effect to begin")
    with unwritable():
        outside.may_end.set()
        for _ in range(10):
            await eventually(lambda: is_refused(database, placed), expecting="a write to be refused")
        assert not handling.done()

    assert await asyncio.wait_for(handling, 20) == DONE
    assert outside.effects == 1


async def test_nothing_is_done_that_could_not_be_recorded(
    database: Database, unwritable: Unwritable, once: Once[Fact], outside: Outside, placed: Event
) -> None:
    with unwritable():
        assert await is_refused(database, placed)
        for _ in range(3):
            with pytest.raises(NotReady):
                await once.handle(placed, 1)
        assert not outside.effects

    await eventually(lambda: database.problem() is None, expecting="the database to be found writable again")
    assert await once.handle(placed, 1) == DONE


async def test_a_second_delivery_waits_for_the_first_and_finds_its_work(
    once: Once[Fact], outside: Outside, placed: Event
) -> None:
    outside.may_end.clear()
    handling = [asyncio.create_task(once.handle(placed, 1)) for _ in range(3)]
    await eventually(lambda: outside.effects, expecting="the effect to begin")
    outside.may_end.set()

    assert await asyncio.gather(*handling) == [DONE, DUPLICATE, DUPLICATE]
    assert outside.effects == 1


async def test_a_second_delivery_takes_its_turn_after_the_first_has_failed(
    once: Once[Fact], outside: Outside, placed: Event
) -> None:
    outside.failures.append(TransientError("not now"))

    results = await asyncio.gather(*(once.handle(placed, 1) for _ in range(2)), return_exceptions=True)

    assert [type(result) for result in results] == [TransientError, type(DONE)]


async def test_giving_up_looks_first_whether_the_work_is_done(
    database: Database, once: Once[Fact], placed: Event
) -> None:
    await once.handle(placed, 1)

    assert not await once.give_up(placed, 4, "no answer")
    assert await database.read(facts.get, placed.subject) == Fact(placed.subject, "done")


async def test_giving_up_twice_is_giving_up_and_a_later_success_counts(
    once: Once[Fact], outside: Outside, placed: Event
) -> None:
    assert [await once.give_up(placed, 4, "no answer") for _ in range(2)] == [True, True]
    assert await once.handle(placed, 1) == DONE
    assert outside.effects == 1


async def test_what_the_sweep_re_emits_is_set_aside_once_though_no_failure_is_recorded(
    once: Once[Fact], outside: Outside, placed: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a refund: the dead letter of the first event is there, and the sweep goes on re-emitting."""
    again = placed.model_copy(update={"again": True})
    assert await once.give_up(again, 4, "no answer")  # with a record, after which the sweep stops

    monkeypatch.setattr(outside, "given_up", lambda attempts, error: None)
    assert [await once.give_up(event, 4, "no answer") for event in (placed, again, placed)] == [True, False, True]


async def test_what_can_never_be_recorded_is_set_aside_and_not_done_again(
    once: Once[Fact], outside: Outside, placed: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_connection: Connection, _rows: list[Recording[Fact]]) -> list[bool]:
        raise ZeroDivisionError

    monkeypatch.setattr("shared.effects.MAX_RECORDING_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(facts, "record", broken)

    with pytest.raises(PermanentError) as raised:
        await once.handle(placed, 1)

    assert raised.value.reason == "not-recorded"
    assert outside.effects == 1
