"""The skeleton of every handler that has an effect on the outside world, such as a letter or a mail.

Look the key up, do the effect under the key, record it with its event in one commit, acknowledge. An effect can't be
undone, and repeating it may do harm. So it is not done while it could not be recorded; once it is done, only the
recording is repeated, however long that takes; and two deliveries of the same key, or of keys that belong together,
take turns.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, Protocol

import structlog
from tenacity import AsyncRetrying, RetryError, stop_after_attempt, wait_random_exponential

from shared.events import Event
from shared.messaging.hold import until_ready
from shared.messaging.processor import Subscription
from shared.messaging.retry import DONE, DUPLICATE, Ack, NotReady, PermanentError
from shared.persistence.database import Database
from shared.persistence.keyed import KeyedStore, Record, Recording
from shared.persistence.milestones import expect_kept

RECORDING_TRIES = 5
"""For a recording that fails although the database is available."""

MAX_RECORDING_PAUSE_SECONDS = 3.0

TURN_SECONDS = 60.0
"""A delivery that waits longer for its turn is held as if something were away, so that RabbitMQ's limit is kept."""

logger = structlog.get_logger(__name__)


class Effect(Protocol[Record]):
    """An effect on the outside world for one event, such as a mail. `key` is its idempotency key."""

    @property
    def key(self) -> str: ...

    def is_done(self, known: Record | None) -> bool:
        """Whether nothing is left to do, given the record under the key."""
        ...

    async def perform(self, known: Record | None, attempt: int) -> Record | None:
        """Do the next step and return its record; None if there turns out to be nothing to do.

        Raises `TransientError`, `PermanentError` or `NotReady` if it failed.
        """
        ...

    def given_up(self, attempts: int, error: str) -> Record | None:
        """The record of an effect that was given up for now, if there is to be one."""
        ...

    def event_of(self, record: Record) -> Event:
        """The event of a record, with the same id each time."""
        ...


class Once(Generic[Record]):
    """Does the effect of each event once. `effect_of` returns None for an event without an effect.

    An effect may have several steps, each with a record that replaces the one before. A record that must not replace
    what another replica has written meanwhile is dropped: the effect goes on from what is there.
    """

    def __init__(
        self,
        database: Database,
        records: KeyedStore[Record],
        effect_of: Callable[[Any], Effect[Record] | None],
        turn_of: Callable[[str], str] = str,
    ) -> None:
        """`turn_of` a key: deliveries whose keys give the same take turns. By default the key itself."""
        self._database = database
        self._records = records
        self._effect_of = effect_of
        self._turn_of = turn_of
        self._turns: dict[str, asyncio.Future[None]] = {}

    def subscription(self, queue: str, concurrency: int, *events: type[Event]) -> Subscription:
        """The subscription that does the effects of these events."""
        handlers = dict.fromkeys(events, self.handle)
        return Subscription(queue, handlers=handlers, concurrency=concurrency, give_up=self.give_up)

    async def handle(self, event: Event, attempt: int) -> Ack:
        """A `Handler`. A crash at any point is safe if the outside world honours the key."""
        effect = self._effect_of(event)
        if effect is None:
            return DONE
        turn = await self._take_turn(effect.key)
        try:
            return await self._do(effect, event, attempt)
        finally:
            self._end_turn(turn)

    async def give_up(self, event: Event, attempts: int, error: str) -> bool:
        """A `GiveUp`: record and publish the failure; returns False if the effect was done after all."""
        effect = self._effect_of(event)
        if effect is None:
            return True
        turn = await self._take_turn(effect.key)
        try:
            return await self._give_up(effect, event, effect.given_up(attempts, error))
        finally:
            self._end_turn(turn)

    async def _do(self, effect: Effect[Record], event: Event, attempt: int) -> Ack:
        known, outcome = await self._known(effect), DUPLICATE
        if known is None:
            await expect_kept(self._database, effect.key)  # it may have been pruned just now
        while not effect.is_done(known):
            self._database.expect_writable()
            record = await effect.perform(known, attempt)
            if record is None:
                break
            if await self._record(effect, record):
                known, outcome = record, DONE
            else:
                known = await self._known(effect)
        if outcome is DUPLICATE:
            await self._re_emit(effect, known, event)
        return outcome

    async def _known(self, effect: Effect[Record]) -> Record | None:
        return await self._database.look_up(self._records.get, effect.key)

    async def _record(self, effect: Effect[Record], record: Record) -> bool:
        """Whether the record is new. Raises `PermanentError` on failure: another attempt would repeat the effect."""
        recording = Recording(record, effect.event_of(record))
        try:
            return await self._database.write(self._records.record, recording)
        except Exception as error:  # noqa: BLE001 - the effect has happened, whatever the error is
            logger.warning("effect.not_recorded_yet", key=effect.key, error=str(error))
        tries = AsyncRetrying(
            stop=stop_after_attempt(RECORDING_TRIES),
            wait=wait_random_exponential(multiplier=0.2, max=MAX_RECORDING_PAUSE_SECONDS),
        )
        try:
            return await tries(until_ready, self._database.write, self._records.record, recording)
        except RetryError as failed:
            reason = failed.last_attempt.exception()
            raise PermanentError("not-recorded", f"done, and could not be recorded: {reason}") from reason

    async def _give_up(self, effect: Effect[Record], event: Event, given_up: Record | None) -> bool:
        known = await self._known(effect)
        if given_up is not None and not effect.is_done(known):
            if await self._database.write(self._records.record, Recording(given_up, effect.event_of(given_up))):
                return True
            known = await self._known(effect)
        await self._re_emit(effect, known, event)
        # What the sweep re-emits comes again: with no record of the failure, each time would make a dead letter.
        comes_again = event.again is not None and given_up is None
        return not effect.is_done(known) and not comes_again

    async def _re_emit(self, effect: Effect[Record], known: Record | None, event: Event) -> None:
        """Publish the event again if the sweep asks for it: the first one may have been lost."""
        if event.again and known is not None:
            await self._database.write(self._records.re_emit, effect.event_of(known))

    async def _take_turn(self, key: str) -> str:
        """Wait until no other delivery in this process has the same turn. Raises `NotReady` after `TURN_SECONDS`."""
        turn, loop = self._turn_of(key), asyncio.get_running_loop()
        latest = None
        while (other := self._turns.get(turn)) is not None:
            latest = latest or loop.time() + TURN_SECONDS
            done, _ = await asyncio.wait([other], timeout=latest - loop.time())
            if not done:
                raise NotReady(f"another delivery has been at work on {turn} for {TURN_SECONDS:g} s")
        self._turns[turn] = loop.create_future()
        return turn

    def _end_turn(self, turn: str) -> None:
        self._turns.pop(turn).set_result(None)
