"""One way in the lab: its processes, its record, and what is done to it, step by step."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from control_room.experiments.lab import LabFailed, record, store
from control_room.experiments.lab.points import AFTER_EFFECT, Point
from control_room.experiments.lab.record import KINDS, KITCHEN, Reader, Recorder, Tally, kind_of
from control_room.experiments.lab.staff import Starter, Worker
from control_room.experiments.lab.systems import System
from control_room.experiments.lab.ways import Way
from control_room.launcher.children import tail
from shared.topology import dead_queue

WAIT_SECONDS, LOOK_SECONDS = 60.0, 0.05

QUIET_SECONDS, LAST_QUIET_SECONDS = 0.3, 2.0
"""Nothing happens, every queue is empty and nobody holds anything: after so long a round is over, and the last one."""
SPINNING_DELIVERIES, SPINNING_SECONDS = 300, 1.0
"""So many deliveries in so long and no order done: what is delivered again and again will never be done."""
OUTAGE_STILL_SECONDS = 3.0
"""The courier company is down, and no order is done for so long: the kitchen's orders are held up."""
FROZEN_STILL_SECONDS = 1.0
"""The broker is frozen, and the producer does nothing for so long: it waits for a confirm."""

DEAD = dead_queue("")


@dataclass(frozen=True)
class Stage:
    """What the trials share. `folder`: temporary."""

    system: System
    folder: Path
    log: Path
    starter: Starter


class Trial:
    """`state` in words, for people."""

    def __init__(self, way: Way, stage: Stage, file: Path) -> None:
        self.way, self.file, self.tally, self.state = way, file, Tally(), "waiting for its turn"
        self._stage, self._folder = stage, stage.folder / way.name
        self._folder.mkdir()
        self.record, self._reader = Recorder(file), Reader(file)
        self.producer, self.consumer = (Worker(stage.starter, self._what(role), self.record)
                                        for role in ("produce", "consume"))  # fmt: skip
        self._points = {role: Point(self._folder, role) for role in ("produce", "consume")}
        self._last = self._before = 0
        self._outage_since = 0.0
        self.queues: Sequence[str] = ()
        self.let_in(0)

    def close(self) -> None:
        self.record.close()
        self._reader.close()

    def _what(self, role: str) -> dict[str, str]:
        paths = {"folder": str(self._folder), "file": str(self.file)}
        return {"way": self.way.name, "role": role, "url": self._stage.system.url, **paths}

    @property
    def _main_queues(self) -> list[str]:
        """Those that its consumer takes from."""
        return [queue for queue in self._alive_queues if ".retry." not in queue]

    @property
    def _alive_queues(self) -> list[str]:
        """All but those of dead letters."""
        return [queue for queue in self.queues if not queue.endswith(DEAD)]

    @property
    def kitchen_queue(self) -> str:
        """The one that holds the kitchen's orders."""
        return max(self._main_queues)

    # Steps

    async def declare(self) -> bool:
        """Its exchange and queues, also after they were lost; false where its system refuses them."""
        hired = await self._stage.starter.start(**self._what("declare"))
        failed = await hired.status
        if failed and not self.way.refused:
            raise LabFailed(f"{self.way.name}: its queues could not be declared\n{tail(self._stage.log)}")
        return not failed

    def let_in(self, last: int) -> None:
        """Customers up to this number may come."""
        self._last = last
        new = self._folder / "gate.new"
        new.write_text(str(last))
        new.replace(self._folder / "gate")

    async def alone(self, last: int) -> None:
        """Without faults: how many orders a second?"""
        self.state = "alone, without faults"
        self.producer.come()
        self.consumer.come()
        await self.until(self._is_consumed, "its consumer")
        self.record(record.ALONE_BEGUN)
        self.let_in(last)
        await self.quiet()
        self.record(record.ALONE_OVER)
        self.state = "waits for the others"

    async def kill_producer(self, at: str, last: int) -> None:
        """SIGKILL in the middle of the orders up to `last`."""
        self.state = f"producer killed {at}"
        process, order = await self._bring_to("produce", at, last)
        seen = {"placed": order in self.tally.placed, "published": order in self.tally.published}
        await self._kill(self.producer, process, {"where": at, "order": order, **seen})
        await self._over()

    async def kill_consumer(self, at: str, last: int) -> None:
        """SIGKILL in the middle of the orders up to `last`, once all of them are on the way."""
        self.state = f"consumer killed {at}"
        await self.until(self._is_consumed, "its consumer")
        first = self._middle(last)
        process, order = await self._bring_to("consume", at, last)
        await self.until(lambda: self._stands_still(process, first, done=at == AFTER_EFFECT), "the last customer")
        held = sorted(number for number in self.tally.held[process] if number)
        seen = {"held": held, "ready": await self._kept(self._main_queues)}
        await self._kill(self.consumer, process, {"where": at, "order": order, **seen})
        await self._over()

    async def _bring_to(self, role: str, at: str, last: int) -> tuple[int, int]:
        """The process that stays there, and the order at which it does."""
        point = self._points[role]
        point.arm(at, self._middle(last))
        self.let_in(last)
        await self.until(point.taken, f"a process that is {at}")
        return point.taken() or (0, 0)

    def _middle(self, last: int) -> int:
        """The order in the middle of those that come until `last`."""
        return (self._last + last + 1) // 2

    async def _kill(self, worker: Worker, process: int, seen: Mapping[str, object]) -> None:
        killed, status = await worker.kill()
        if (killed, status) != (process, -9):
            raise LabFailed(f"{self.way.name}: process {process} was to be killed, {killed} ended with {status}")
        self._points[worker.role].disarm()
        self._note_fault(f"{worker.name} killed", time.time(), {**seen, "process": process, "status": status})

    def _note_fault(
        self, fault: str, since: float, evidence: Mapping[str, object], of: Sequence[str] = tuple(KINDS)
    ) -> None:
        """`of`: the kinds of orders whose recovery is measured from then on."""
        self.record(record.FAULT, fault=fault, since=since, of=of, evidence=evidence)

    async def fill(self, last: int) -> int:
        """The consumer is away, and the orders up to `last` wait in the queues; returns how many."""
        self.state = "broker restarted"
        await self.consumer.stay_away()
        self.let_in(last)
        await self.until(self._is_filled, "messages in its queues")
        return await self._kept(self._main_queues)

    async def go_on_frozen(self, last: int) -> int:
        """The broker is frozen, and customers up to `last` come; returns how many messages were sent meanwhile."""
        before, since = len(self.tally.published), time.time()
        self.let_in(last)
        await self.until(
            lambda: self.tally.asked == last or self._still_seconds(since) > FROZEN_STILL_SECONDS, "its producer"
        )
        return len(self.tally.published) - before

    async def recover(self, last: int, evidence: Mapping[str, object]) -> None:
        """The broker is back."""
        await self.declare()
        self._note_fault("broker killed and started", time.time(), evidence)
        self.consumer.come()
        self.let_in(last)
        await self._over()

    async def lose_courier(self, last: int) -> None:
        """The courier company is down; returns once the kitchen has done its orders, or is held up."""
        self.state = "courier company down"
        self._before, since = self._last, time.time()
        (self._folder / "courier-is-down").touch()
        self.let_in(last)
        await self.until(
            lambda: (
                (self.tally.asked == last and not self._kitchen_waits())
                or self._still_seconds(since) > OUTAGE_STILL_SECONDS
            ),
            "the kitchen",
        )
        self._outage_since = since

    async def regain_courier(self) -> None:
        """It is back."""
        for number in sorted(self._kitchen_waits()):
            self.record(record.HELD_UP, number)
        self._note_fault("courier company down", self._outage_since, {"refused": self.tally.refused}, of=[KITCHEN])
        (self._folder / "courier-is-down").unlink()
        await self._over()

    async def meet_rubbish(self, last: int) -> None:
        """There is rubbish in front of the kitchen's next order; returns once nothing more will ever happen."""
        self.state = "rubbish in a queue"
        since = time.time()
        self.let_in(last)
        await self.quiet(LAST_QUIET_SECONDS)
        self._note_fault("rubbish in a queue", since, {"outcomes": dict(self.tally.rubbish)}, of=[KITCHEN])
        await self._over()

    async def finish(self) -> None:
        """End its processes, and look what is left where."""
        self.state = "counting"
        await asyncio.gather(self.producer.stay_away(), self.consumer.stay_away())
        for queue in self.queues:
            for number in await self._stage.system.left_in(queue):
                self.record(record.LEFT, number, where=queue)
        for number in sorted(store.unpublished(self._folder / "books.db")):
            self.record(record.LEFT, number, where="outbox")
        self._look()
        self._compare("orders", "books", self.tally.placed)
        self._compare("done", "work", set(self.tally.performed))
        self.state = "done"

    def _compare(self, table: str, database: str, numbers: set[int]) -> None:
        found = store.numbers_in(self._folder / f"{database}.db", table)
        if found is not None and found != numbers:
            raise LabFailed(f"{self.way.name}: its record and its table {table} differ: {sorted(found ^ numbers)}")

    # Waiting

    async def until(self, is_so: Callable[[], object | Awaitable[object]], expecting: str) -> None:
        """Raises `LabFailed` after a minute in which no order came and none was done."""
        began = time.time()
        while True:
            self._look()
            found = is_so()
            if await found if isinstance(found, Awaitable) else found:
                return
            if self._still_seconds(began) > WAIT_SECONDS:
                waited = f"{self.way.name}, {self.state}: {expecting} was awaited for {WAIT_SECONDS:g} s"
                raise LabFailed(f"{waited}\n{tail(self._stage.log)}")
            await asyncio.sleep(LOOK_SECONDS)

    async def _over(self) -> None:
        """A fault, and what followed from it."""
        await self.quiet()
        self.record(record.OVER, waiting=await self._waiting())

    async def quiet(self, quiet_seconds: float = QUIET_SECONDS) -> None:
        """Until all orders so far are done, or nothing more will happen."""
        since = time.time()  # it may have been quiet before, and just now a process was killed
        await self.until(lambda: self._is_quiet(quiet_seconds, since), "an end")

    async def _is_quiet(self, quiet_seconds: float, since: float) -> bool:
        tally, still = self.tally, self._still_seconds(since)
        if tally.asked < self._last:
            return False
        is_spinning = tally.deliveries_since > SPINNING_DELIVERIES and still > SPINNING_SECONDS
        if is_spinning or still > self._stage.system.give_up_seconds:
            return True
        if still < (QUIET_SECONDS if tally.placed <= tally.performed.keys() else quiet_seconds):
            return False
        if not self.consumer.pid or self.tally.held[self.consumer.pid] or store.unpublished(self._folder / "books.db"):
            return False
        for queue in self._alive_queues:
            if await self._stage.system.is_waiting(queue):
                return False
        return True

    async def _kept(self, queues: Iterable[str]) -> int:
        return sum([await self._stage.system.kept(queue) for queue in queues])

    async def _waiting(self) -> int:
        """Messages in its queues, beside the dead letters, and those that its consumer holds."""
        waiting = [queue for queue in self._alive_queues if await self._stage.system.is_waiting(queue)]
        return await self._kept(waiting) + len(self.tally.held[self.consumer.pid])

    def _stands_still(self, process: int, first: int, *, done: bool) -> bool:
        """Whether all that the consumer holds is at the point where it stays, and no more comes."""
        held = {number for number in self.tally.held[process] if number}
        is_done = not done or held <= self.tally.performed.keys()
        is_there = self._stage.system.gives_ahead or (min(held, default=first) >= first and is_done)
        return self.tally.asked == self._last and is_there and self._still_seconds() > QUIET_SECONDS

    async def _is_consumed(self) -> bool:
        return any([await self._stage.system.is_consumed(queue) for queue in self._main_queues])

    async def _is_filled(self) -> bool:
        if self.tally.asked < self._last or not (ready := await self._kept(self._main_queues)):
            return False
        return ready >= len(self.tally.placed - self.tally.performed.keys()) or self._still_seconds() > QUIET_SECONDS

    def _kitchen_waits(self) -> set[int]:
        """Kitchen orders that came during the outage, and are not done."""
        new = {number for number in self.tally.placed if number > self._before and kind_of(number) == KITCHEN}
        return new - self.tally.performed.keys()

    def _still_seconds(self, since: float = 0.0) -> float:
        return time.time() - max(self.tally.progress_at, since)

    def _look(self) -> None:
        for line in self._reader.new_lines():
            self.tally.add(line)
