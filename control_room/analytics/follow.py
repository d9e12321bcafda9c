"""Reads the stream into the analytics database: on and on beside the control room, or once, as far as it goes."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog

from control_room.analytics.model import (
    DISHES,
    JsonEvent,
    Minute,
    UnreadableBatch,
    events_in,
    minutes_of,
    time_of,
)
from control_room.analytics.store import AnalyticsStore, AnalyticsUnavailable, Progress
from shared.messaging.stream import Arrival, Entry, Start, StreamReader, StreamReplaced, end_of

SHARE_OF_A_PROCESSOR = 0.1
"""The most that following may take: in a rush the services need the rest, and the stream waits."""
LONGEST_PAUSE_SECONDS = 5.0
VIEW_SECONDS = 2.0
"""The least time between two views that are made of the figures."""
SHOWN_MINUTES = 60
RETRY_SECONDS = 5.0
REPLAY_PREFETCH = 200
QUIET_SECONDS = 30.0
"""After this time without a message a replay that lacks some gives up."""
NONE_SINCE_SECONDS = 3.0
"""After this time without a message there is none since the time that a replay was to begin at."""

logger = structlog.get_logger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class View:
    """The figures as they are shown. `dishes`: how many of each were ordered in these minutes, the most first.

    `totals`: since the beginning, by name and, where there are several, by key. `read_at`: in seconds since 1970.
    """

    minutes: Sequence[Minute] = ()
    dishes: Sequence[tuple[str, int]] = ()
    totals: Mapping[str, Any] = field(default_factory=dict)
    events: int = 0
    missing: int = 0
    read_at: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "totals": self.totals,
            "minutes": [
                {**asdict(each), "at": datetime.fromtimestamp(each.at, UTC).isoformat()} for each in self.minutes
            ],
            "dishes": [{"name": name, "quantity": quantity} for name, quantity in self.dishes],
            "events": self.events,
            "missing_messages": self.missing,
        }


def view_of(store: AnalyticsStore, minutes: int = SHOWN_MINUTES) -> View:
    """The latest minutes, and the totals."""
    progress, figures = store.progress(), store.figures(int(time.time() // 60) - minutes + 1)
    dishes: Counter[str] = Counter()
    for figure, amount in figures.items():
        if figure.name == DISHES:
            dishes[figure.key] += amount
    return View(
        minutes_of(figures), dishes.most_common(), totals_of(store), progress.events, progress.missing, time.time()
    )


def totals_of(store: AnalyticsStore) -> dict[str, Any]:
    """Each figure since the beginning: a number, or numbers by key."""
    totals: dict[str, Any] = {}
    for (name, key), amount in sorted(store.totals().items()):
        if key:
            totals.setdefault(name, {})[key] = amount
        else:
            totals[name] = amount
    return totals


class Analytics:
    """Follows the stream for as long as it runs. `view` is the latest; `trouble` says why there is no newer one."""

    def __init__(self, rabbitmq_url: str, store: AnalyticsStore) -> None:
        self.store, self._rabbitmq_url = store, rabbitmq_url
        self.view = View()
        self.trouble = ""
        self._is_stale = True

    async def run(self) -> None:
        """Follow until cancelled, from where the last run ended."""
        while True:
            try:
                await asyncio.to_thread(self.store.prepare)
                await self._follow(await asyncio.to_thread(self.store.progress))
            except StreamReplaced as error:
                logger.warning("analytics.stream_replaced", error=str(error))
                await self._begin_again()
            except AnalyticsUnavailable as error:
                self._report(str(error))
            except Exception:
                logger.exception("analytics.failed")
                self._report("it has failed; the log says why")
            await asyncio.sleep(RETRY_SECONDS)

    async def fresh_view(self, minutes: int) -> View:
        """As of now. Raises `AnalyticsUnavailable`."""
        return await asyncio.to_thread(view_of, self.store, minutes)

    async def forget(self, before: datetime) -> None:
        """Delete, little by little, what is known of orders from before that moment; totals stay."""
        try:
            while await _gently(self.store.forget, before):
                pass
        except AnalyticsUnavailable as error:
            self._report(str(error))

    async def _begin_again(self) -> None:
        try:
            await asyncio.to_thread(self.store.begin_again)
        except AnalyticsUnavailable as error:
            self._report(str(error))

    async def _follow(self, progress: Progress) -> None:
        reader = StreamReader(self._rabbitmq_url, "analytics", progress.position or "first")
        async with aclosing(reader.read()) as arrivals:
            async for arrival in arrivals:
                self._report(f"the stream of events can't be read: {reader.problem}" if reader.problem else "")
                if arrival.entries:
                    await self._add(arrival)
                await self._look(is_quiet=not arrival.entries)

    async def _add(self, arrival: Arrival) -> None:
        if arrival.missing:
            logger.warning("analytics.messages_missing", count=arrival.missing, before=arrival.entries[0].offset)
        await _gently(add, self.store, arrival)
        self._is_stale = True

    async def _look(self, *, is_quiet: bool) -> None:
        if self._is_stale and (is_quiet or time.time() > self.view.read_at + VIEW_SECONDS):
            self._is_stale = False
            self.view = await self.fresh_view(SHOWN_MINUTES)

    def _report(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            logger.warning("analytics.not_followed", why=trouble)
        self.trouble = trouble


async def _gently(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call it on a thread, and pause for so long that it takes a small share of a processor."""
    began = time.monotonic()
    result = await asyncio.to_thread(function, *arguments)
    took = time.monotonic() - began
    await asyncio.sleep(min(LONGEST_PAUSE_SECONDS, took * (1 / SHARE_OF_A_PROCESSOR - 1)))
    return result


def add(store: AnalyticsStore, arrival: Arrival, since: float = 0.0) -> int:
    """Count the events of an arrival, but those before `since`; how many they are."""
    events = [event for entry in arrival.entries for event in _readable(entry) if _is_from(event, since)]
    store.add(events, arrival.entries[-1].position, arrival.missing)
    return len(events)


def _is_from(event: JsonEvent, since: float) -> bool:
    try:
        return not since or time_of(event) >= since
    except (TypeError, ValueError):
        return True  # counted as unreadable


def _readable(entry: Entry) -> list[JsonEvent]:
    try:
        return events_in(entry.body)
    except UnreadableBatch as error:
        logger.warning("analytics.unreadable", offset=entry.offset, error=str(error))
        return []


class ReplayFailed(Exception):
    """The stream could not be read to its end; the message says why."""


@dataclass(frozen=True)
class Replayed:
    """What was read. `first_offset`: None if nothing was. `missing`: messages that were asked for and are gone.

    `first_at`: the time of the newest event in the first message, in seconds since 1970; None without an event.
    """

    events: int
    messages: int
    seconds: float
    first_offset: int | None
    last_offset: int | None
    missing: int
    first_at: float | None = None


ReportProgress = Callable[[int, int, int], None]
"""Takes the number of events so far, the offset that was read, and the last one to read."""


async def replay(rabbitmq_url: str, store: AnalyticsStore, start: Start, report: ReportProgress) -> Replayed:
    """Read the stream into the store, from `start` to the message that was its newest at the beginning.

    Raises `BrokerUnavailable`, `NotFound` if there is no stream, `AnalyticsUnavailable`, `ReplayFailed`.
    """
    began, end = time.monotonic(), await end_of(rabbitmq_url, "replay")
    if isinstance(start, int) and start > (-1 if end is None else end):
        newest = "it is empty" if end is None else f"its last is {end}"
        raise ReplayFailed(f"the stream has no offset {start}: {newest}")
    events = messages = missing = 0
    first = last = first_at = None
    if end is not None:
        try:
            async for arrival, added in _read(rabbitmq_url, store, start, end):
                events, messages = events + added, messages + len(arrival.entries)
                missing += arrival.missing
                if first is None:
                    first, first_at = arrival.entries[0].offset, _newest(arrival.entries[0])
                last = arrival.entries[-1].offset
                report(events, last, end)
        except StreamReplaced as error:
            raise ReplayFailed(str(error)) from None
    return Replayed(events, messages, time.monotonic() - began, first, last, missing, first_at)


def _newest(entry: Entry) -> float | None:
    try:
        return max(map(time_of, _readable(entry)), default=None)
    except (TypeError, ValueError):
        return None


async def _read(rabbitmq_url: str, store: AnalyticsStore, start: Start, end: int) -> AsyncIterator[tuple[Arrival, int]]:
    """Each arrival that is in the store, with the number of its events."""
    since = start.timestamp() if isinstance(start, datetime) else 0.0
    reader = StreamReader(rabbitmq_url, "replay", start, prefetch=REPLAY_PREFETCH)
    heard_at, has_read = time.monotonic(), False
    async with aclosing(reader.read()) as arrivals:
        async for arrival in arrivals:
            if arrival.entries:
                added = await asyncio.to_thread(add, store, arrival, since)
                heard_at, has_read = time.monotonic(), True
                yield arrival, added
                if arrival.entries[-1].offset >= end:
                    return
            elif since and not has_read and time.monotonic() > heard_at + NONE_SINCE_SECONDS and not reader.problem:
                return
            elif time.monotonic() > heard_at + QUIET_SECONDS:
                why = f"nothing came for {QUIET_SECONDS:g} s, and offset {end} is not read"
                raise ReplayFailed(reader.problem or why)
