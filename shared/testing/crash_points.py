"""Crash points: a handler is killed between every two of its steps, and its work must be done once nevertheless.

The steps of a handler are what leaves a trace outside of its process: `look-up` and `record` in the database, `effect`
on the outside world, `publish` and `forget` of a row in the outbox, `move` to a retry or dead-letter queue, and `ack`.
`check` lets the handler work once, to learn its steps. Then, for each of them, it starts with an empty database and
lets the process die before that step, as late as can be: the step does not come, all that does not wait for it does.
What was not acknowledged is delivered again, to a new process; at last the event comes once more, as a duplicate.

Then all must be as without the crash: the same rows in the database, as many effects, the same events published; and
what is acknowledged is not begun again. The database is a real one (SQLite), and so is all that decodes, retries and
settles a delivery. Two things are stand-ins: a list for the broker's queue; and a process is dead in that none of its
steps is carried out any more. `faults.py` kills a real process.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import pytest
from sqlalchemy import Connection, MetaData

from shared.events import Event, encode
from shared.messaging.acknowledger import Acknowledger
from shared.messaging.message import DEAD_LETTER_ERROR, Delivery, Message
from shared.messaging.processor import Processor, Subscription
from shared.messaging.publisher import Publisher
from shared.messaging.retry import RetryPolicy
from shared.persistence.database import Database
from shared.persistence.outbox import Outbox, OutboxRow
from shared.testing.parts import create_tables, ready, rows_of
from shared.topology import dead_queue
from shared.waiting import poll

Result = TypeVar("Result")

RETRIES = RetryPolicy((0.0, 0.0))
QUIET_ROUNDS = 10
"""As many looks at a process that find no new step: all is done that does not wait for the step that does not come."""
LOOK_SECONDS = 0.001
LIFE_SECONDS = 30.0
MAX_LIVES = 10


class Process:
    """One life of a service, as its handler sees it: `database`, and the outside world behind `effect`."""

    database: Database

    def __init__(self, dies_before: str = "") -> None:
        self._dies_before = dies_before
        self._counts: Counter[str] = Counter()
        self.steps: list[str] = []
        self.effects: list[str | None] = []
        self.unrecorded = self.under_way = 0
        self.is_dying = self.is_dead = False
        self._never: list[asyncio.Future[None]] = []  # a task that nothing refers to but what it waits for is collected

    async def effect(self, key: str | None) -> None:
        """Do something in the outside world, which knows repetitions by this key. None: one without a key."""
        await self.step("effect", self._have_effect, key)

    async def step(self, kind: str, do: Callable[..., Awaitable[Result]], *arguments: Any) -> Result:
        """Take a step. Never returns if the process dies before it, or has died meanwhile."""
        if not self.takes(kind):
            await self._stand_still()
        self.under_way += 1
        try:
            result = await do(*arguments)
        finally:
            self.under_way -= 1
        if self.is_dead:
            await self._stand_still()
        if kind == "record":
            self.unrecorded = 0
        return result

    def takes(self, kind: str) -> bool:
        """Whether the next step of this kind is carried out."""
        self._counts[kind] += 1
        name = kind if self._counts[kind] == 1 else f"{kind} {self._counts[kind]}"
        is_the_end = name == self._dies_before
        self.is_dying = self.is_dying or is_the_end
        if not (self.is_dead or is_the_end):
            self.steps.append(name)
        return not (self.is_dead or is_the_end)

    async def _have_effect(self, key: str | None) -> None:
        self.effects.append(key)
        self.unrecorded += 1

    async def _stand_still(self) -> None:
        if self.is_dead:
            raise asyncio.CancelledError  # its event loop ends
        self._never.append(asyncio.get_running_loop().create_future())
        await self._never[-1]


class _Database(Database):
    """A database whose calls are steps of a process."""

    def __init__(self, url: str, metadata: MetaData, process: Process) -> None:
        super().__init__(url, metadata, name="crash points")
        self._process = process

    async def write(self, operation: Any, row: Any, *, linger_seconds: float = 0) -> Any:
        return await self._process.step("record", partial(super().write, linger_seconds=linger_seconds), operation, row)

    async def read(self, operation: Any, row: Any) -> Any:
        return await self._process.step("look-up", super().read, operation, row)

    async def look_up(self, operation: Any, row: Any) -> Any:
        return await self._process.step("look-up", super().look_up, operation, row)


@dataclass(frozen=True)
class _Case:
    handler: Callable[[Process], Subscription]
    tables: MetaData
    outbox: Outbox | None
    but: frozenset[str]
    outside_knows_keys: bool


class _Outcome(NamedTuple):
    """What a run has left behind: rows by table, how many effects, ids of published events by type, and messages."""

    rows: Mapping[str, list[Any]]
    effects: int
    published: Mapping[str | None, int]
    dead_letters: list[str]
    unsettled: int


@dataclass
class _Run:
    """What outlives a process: its database, the queue of its broker, the events it published, the outside world."""

    case: _Case
    url: str
    queue: deque[Message] = field(default_factory=deque)
    dead_letters: list[Message] = field(default_factory=list)
    published: set[tuple[str | None, str | None]] = field(default_factory=set)
    lives: list[Process] = field(default_factory=list)

    async def deliver(self, event: Event, dies_before: str = "") -> Process:
        """Deliver it until it is settled, first to a process that dies before this step. Returns that process."""
        self.queue.append(Message("", "", encode(event), event.id, event.type))
        first = await self._live(Process(dies_before))
        for _ in range(MAX_LIVES):
            if self.queue or self.lives[-1].is_dying:
                await self._live(Process())
        return first

    async def _live(self, process: Process) -> Process:
        """Let the process work until it dies, or has nothing left to do. Its event loop and all in it end with it."""
        self.lives.append(process)
        await asyncio.to_thread(asyncio.run, self._work(process))
        return process

    async def _work(self, process: Process) -> None:
        async with ready(_Database(self.url, self.case.tables, process)) as process.database:
            others = asyncio.all_tasks()
            for part in (self._handle, self._relay):
                task = asyncio.create_task(part(process))
                await _until_nothing_moves(process, others)
                if task.done():
                    task.result()  # raises what is wrong in the test's own code
            process.is_dead = process.is_dying

    async def _handle(self, process: Process) -> None:
        subscription = self.case.handler(process)
        while self.queue:
            broker = _Broker(self, process, subscription.queue)
            processor = Processor(subscription, cast(Publisher, broker), RETRIES)
            delivery = Delivery(1, len(self.lives) > 1, self.queue[0])
            await processor.process(delivery, cast(Acknowledger, broker))
            if not broker.is_settled:
                return

    async def _relay(self, process: Process) -> None:
        """What the outbox relay does, one row after the other."""
        if (outbox := self.case.outbox) is None:
            return

        def waiting(connection: Connection, limits: list[int]) -> list[list[OutboxRow]]:
            return [outbox.waiting(connection, limit) for limit in limits]

        def forget(connection: Connection, ids: list[int]) -> list[None]:
            outbox.forget(connection, ids)
            return [None for _ in ids]

        for row in await Database.read(process.database, waiting, 100):
            await process.step("publish", self._publish, row.message)
            await process.step("forget", Database.write, process.database, forget, row.id)

    async def _publish(self, message: Message) -> None:
        self.published.add((message.type, message.message_id))

    def outcome(self) -> _Outcome:
        rows = rows_of(self.url, self.case.tables, but=self.case.but)
        errors = [str(each.headers[DEAD_LETTER_ERROR]) for each in self.dead_letters]
        return _Outcome(rows, self._effects(), Counter(kind for kind, _ in self.published), errors, len(self.queue))

    def _effects(self) -> int:
        """How many there were: calls with the same key are one."""
        if self.case.outside_knows_keys:
            keys = [key for life in self.lives for key in life.effects]
            return len(set(keys) - {None}) + keys.count(None)
        return sum(len(life.effects) - life.unrecorded * life.is_dead for life in self.lives)


class _Broker:
    """Stands for the publisher and the acknowledger of a delivery."""

    is_open = True

    def __init__(self, run: _Run, process: Process, queue: str) -> None:
        self._run, self._process, self._queue = run, process, queue
        self.is_settled = False

    async def publish(self, message: Message) -> None:
        await self._process.step("move", self._move, message)

    async def _move(self, message: Message) -> None:
        is_dead_letter = message.routing_key == dead_queue(self._queue)
        (self._run.dead_letters if is_dead_letter else self._run.queue).append(message)

    def settle(self, _tag: int) -> None:
        if self._process.takes("ack"):
            self._run.queue.popleft()
            self.is_settled = True

    def abandon(self) -> None:
        """It stays in the queue."""


async def _until_nothing_moves(process: Process, others: set[Any]) -> None:
    """Until its tasks, which are those beside the others, are done; of one that dies, until they take no step."""
    quiet = steps = 0

    async def is_over() -> bool:
        nonlocal quiet, steps
        is_quiet = not process.under_way and len(process.steps) == steps
        quiet, steps = quiet + 1 if is_quiet else 0, len(process.steps)
        return asyncio.all_tasks() <= others or (process.is_dying and quiet >= QUIET_ROUNDS)

    if not await poll(is_over, within_seconds=LIFE_SECONDS, every_seconds=LOOK_SECONDS):
        pytest.fail(f"the handler did not end within {LIFE_SECONDS:g} s; its steps so far: {process.steps}")


class CrashPoints:
    """Kills handlers. Their databases go into `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._runs = 0

    async def check(self, handler: Callable[[Process], Subscription], event: Event, **how: Any) -> list[str]:
        """Fail the test unless the work on an event is done once, whenever the process of the handler is killed.

        `handler` makes the subscription for a new process. The other arguments are those of `faults`. Returns the
        steps before which it was killed, such as `["look-up", "effect", "record", "ack", "publish", "forget"]`.
        """
        steps, faults = await self.faults(handler, event, **how)
        if faults:
            pytest.fail("\n".join(["the work was not done once", *faults, f"the steps are: {', '.join(steps)}"]))
        return steps

    async def faults(
        self,
        handler: Callable[[Process], Subscription],
        event: Event,
        *,
        tables: MetaData,
        outbox: Outbox | None = None,
        before: Sequence[Event] = (),
        but: Collection[str] = (),
        outside_knows_keys: bool = True,
    ) -> tuple[list[str], list[str]]:
        """The steps of the handler, and what is wrong after a crash before each of them, in sentences.

        `tables`: of the service, `but` those that count deliveries. `before`: events that were handled already.
        `outside_knows_keys`: False for an effect that comes twice if the process dies before it is recorded: a mail.
        """
        outbox_table = {outbox.table.name} if outbox is not None else set()
        case = _Case(handler, tables, outbox, frozenset({*but, *outbox_table}), outside_knows_keys)
        steps, expected, faults = await self._run(case, before, event, "")
        _, again, _ = await self._run(case, before, event, "")
        faults += [f"without a crash it becomes a dead letter: {error}" for error in expected.dead_letters]
        faults += ["without a crash it is never acknowledged"] * bool(expected.unsettled)
        is_right_without = not faults
        for step in steps:
            _, outcome, repeated = await self._run(case, before, event, step)
            found = [*_differences(outcome, expected, again), *(repeated if is_right_without else [])]
            faults += [f"killed before {step}: {problem}" for problem in found]
        return steps, faults

    async def _run(
        self, case: _Case, before: Sequence[Event], event: Event, point: str
    ) -> tuple[list[str], _Outcome, list[str]]:
        """The steps of the first process, what is left behind, and what is begun again after the acknowledgement."""
        self._runs += 1
        run = _Run(case, f"sqlite:///{self._directory / f'crash-points-{self._runs}.db'}")
        create_tables(run.url, case.tables)
        for each in before:
            await run.deliver(each)
        first = await run.deliver(event, point)
        outcome, lives = run.outcome(), len(run.lives)
        run.queue.clear()
        await run.deliver(event)
        problems = [f"a duplicate changes what was done: {each}" for each in _differences(run.outcome(), outcome)]
        if any(life.effects for life in run.lives[lives:]):
            problems.append("a duplicate that comes after the acknowledgement has its effect again")
        return first.steps, outcome, problems


def _differences(outcome: _Outcome, expected: _Outcome, again: _Outcome | None = None) -> list[str]:
    """What is not as expected. Columns that differ between `expected` and `again`, such as times, do not count."""
    found = []
    for table, rows in expected.rows.items():
        steady = _steady_columns(rows, (again or expected).rows[table])
        was, now = ([[row[at] for at in steady(row)] for row in each] for each in (rows, outcome.rows[table]))
        if sorted(map(repr, was)) != sorted(map(repr, now)):
            found.append(f"table {table} holds {now}, expected {was}")
    for name, has, should in zip(_Outcome._fields[1:], outcome[1:], expected[1:], strict=True):
        if has != should:
            found.append(f"{name.replace('_', ' ')}: {has}, expected {should}")
    return found


def _steady_columns(rows: Sequence[Any], again: Sequence[Any]) -> Callable[[Any], Iterable[int]]:
    """The columns that count of a row: those that are the same in both. All, where there is nothing to compare."""

    def values(some: Sequence[Any], at: int) -> list[str]:
        return sorted(repr(row[at]) for row in some)

    columns = [at for at in range(len(rows[0]) if rows else 0) if values(rows, at) == values(again, at)]
    return lambda row: columns if rows else range(len(row))
