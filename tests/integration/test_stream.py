"""The stream of events on a real broker: written, read from any point on, and read on after whatever happens."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio

from control_room.experiments.chaos.proxy import proxy_to
from control_room.launcher.broker import PrivateBroker
from shared.contract import EVENTS
from shared.ids import new_id
from shared.management import Management
from shared.messaging.channel import NotFound
from shared.messaging.message import Message
from shared.messaging.publisher import CONFIRM_TIMEOUT_SECONDS, Publisher, Unroutable
from shared.messaging.stream import (
    Arrival,
    Entry,
    Start,
    StreamReader,
    StreamReplaced,
    StreamWriter,
    batches,
    end_of,
)
from shared.settings import BrokerSettings
from shared.topology.provision import apply, difference
from tests.amqp import close_connection
from tests.conftest import Broker, virtual_host
from tests.support import eventually, ready

SMALL_SEGMENTS = {"x-stream-max-segment-size-bytes": 50_000, "x-max-length-bytes": 150_000}


@pytest_asyncio.fixture(scope="module")
async def module_broker_settings(broker: Broker) -> AsyncIterator[BrokerSettings]:
    """A virtual host with a stream of events."""
    async with virtual_host(broker, events_kept_hours=1) as settings:
        yield settings


class Reading:
    """What a reader has handed out so far, one arrival at a time."""

    def __init__(self, settings: BrokerSettings, stream: str, start: Start, name: str = "test") -> None:
        self.reader = StreamReader(settings.rabbitmq_url, name, start, stream=stream, prefetch=3)
        self.entries: list[Entry] = []
        self.missing = 0

    @asynccontextmanager
    async def to(self, count: int) -> AsyncIterator[list[Entry]]:
        """The entries, once there are so many; the reader stays open until the block ends."""
        async with aclosing(self.reader.read()) as arrivals:
            await self.more(arrivals, count)
            yield self.entries

    async def more(self, arrivals: AsyncIterator[Arrival], count: int, seconds: float = 20) -> None:
        """Read on until there are so many entries."""
        async with asyncio.timeout(seconds):
            while len(self.entries) < count:
                arrival = await anext(arrivals)
                self.entries += arrival.entries
                self.missing += arrival.missing

    @property
    def bodies(self) -> list[bytes]:
        return [entry.body for entry in self.entries]


async def read(settings: BrokerSettings, stream: str, start: Start, count: int) -> Reading:
    reading = Reading(settings, stream, start)
    async with reading.to(count):
        return reading


@asynccontextmanager
async def stream_of(settings: BrokerSettings, arguments: Mapping[str, object] | None = None) -> AsyncIterator[str]:
    """A stream, until the block ends; its name."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    await declare(settings, name, arguments)
    yield name
    async with Management(settings) as management:
        await management.delete("queues", management.vhost, name)


async def declare(settings: BrokerSettings, name: str, arguments: Mapping[str, object] | None = None) -> None:
    body: dict[str, Any] = {"durable": True, "arguments": {"x-queue-type": "stream", **(arguments or {})}}
    async with Management(settings) as management:
        await management.put("queues", management.vhost, name, body=body)


def numbered(stream: str, first: int, last: int, size: int = 0) -> list[Message]:
    bodies = [str(number).encode().ljust(size) for number in range(first, last + 1)]
    return [Message("", stream, body, message_id=new_id()) for body in bodies]


async def write(publisher: Publisher, stream: str, first: int, last: int, size: int = 0) -> None:
    errors = await publisher.publish_all(numbered(stream, first, last, size))
    assert not any(errors)


def numbers(reading: Reading) -> list[int]:
    return [int(body) for body in reading.bodies]


@pytest_asyncio.fixture
async def stream(settings: BrokerSettings) -> AsyncIterator[str]:
    async with stream_of(settings) as name:
        yield name


async def test_a_stream_is_read_again_and_again_from_wherever_one_likes(
    stream: str, settings: BrokerSettings, publisher: Publisher
) -> None:
    await write(publisher, stream, 0, 49)

    assert numbers(await read(settings, stream, "first", 50)) == list(range(50))
    assert numbers(await read(settings, stream, 30, 20)) == list(range(30, 50))
    whole = await read(settings, stream, "first", 50)
    assert [entry.offset for entry in whole.entries] == list(range(50))
    assert numbers(await read(settings, stream, whole.entries[41].position, 8)) == list(range(42, 50))
    assert await end_of(settings.rabbitmq_url, "test", stream) == 49


async def test_from_a_time_on_nothing_is_left_out(stream: str, settings: BrokerSettings, publisher: Publisher) -> None:
    await write(publisher, stream, 0, 9)
    now = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)  # RabbitMQ takes whole seconds
    await eventually(lambda: datetime.now(UTC) >= now, 5, "the next second to begin")
    await write(publisher, stream, 10, 19)

    from_now = await read(settings, stream, now, 10)
    assert numbers(from_now)[-10:] == list(range(10, 20))
    from_earlier = await read(settings, stream, now - timedelta(hours=1), 20)
    assert numbers(from_earlier) == list(range(20))


async def test_a_reader_goes_on_behind_what_it_handed_out_after_its_connection_was_closed(
    stream: str, settings: BrokerSettings, publisher: Publisher
) -> None:
    name = f"test {new_id()}"
    reading = Reading(settings, stream, "first", name)
    await write(publisher, stream, 0, 9)
    async with aclosing(reading.reader.read()) as arrivals:
        await reading.more(arrivals, 10)
        await close_connection(settings, f"{name} reader")
        await write(publisher, stream, 10, 19)
        await reading.more(arrivals, 20)

    assert numbers(reading) == list(range(20))
    assert reading.missing == 0


async def test_a_stream_that_is_missing_is_waited_for(settings: BrokerSettings, publisher: Publisher) -> None:
    name = f"test-{uuid.uuid4().hex[:8]}"
    reading = Reading(settings, name, "first")
    with pytest.raises(NotFound):
        await end_of(settings.rabbitmq_url, "test", name)
    async with aclosing(reading.reader.read()) as arrivals:
        await anext(arrivals)
        assert "no queue" in (reading.reader.problem or "")
        await declare(settings, name)
        await write(publisher, name, 0, 4)
        await reading.more(arrivals, 5)
        assert reading.reader.problem is None
    async with Management(settings) as management:
        await management.delete("queues", management.vhost, name)


async def test_an_empty_stream_has_no_end(stream: str, settings: BrokerSettings) -> None:
    assert await end_of(settings.rabbitmq_url, "test", stream) is None


async def test_what_is_gone_from_a_stream_is_counted(settings: BrokerSettings, publisher: Publisher) -> None:
    async with stream_of(settings, SMALL_SEGMENTS) as stream:
        await write(publisher, stream, 0, 4, size=5000)
        begun = await read(settings, stream, "first", 5)
        for first in range(5, 125, 5):  # a chunk each: only whole ones go
            await write(publisher, stream, first, first + 4, size=5000)

        async def truncated() -> int:
            return (await read(settings, stream, "first", 1)).entries[0].offset

        oldest = await eventually(truncated, 20, "the oldest to be gone")

        behind = await read(settings, stream, begun.entries[1].position, 1)
        assert (behind.entries[0].offset, behind.missing) == (oldest, oldest - 2)
        from_offset = await read(settings, stream, 1, 1)
        assert (from_offset.entries[0].offset, from_offset.missing) == (oldest, oldest - 1)


async def test_what_goes_while_a_reader_is_slow_is_counted(settings: BrokerSettings, publisher: Publisher) -> None:
    """The broker goes on with the oldest message that is left, on the same connection and without a word."""
    async with stream_of(settings, SMALL_SEGMENTS) as stream:
        await write(publisher, stream, 0, 4, size=5000)
        slow = Reading(settings, stream, "first")
        async with aclosing(slow.reader.read()) as arrivals:
            await slow.more(arrivals, 1)
            for first in range(5, 125, 5):
                await write(publisher, stream, first, first + 4, size=5000)
            newest = await end_of(settings.rabbitmq_url, "test", stream)
            assert newest

            async def is_truncated() -> bool:
                return (await read(settings, stream, "first", 1)).entries[0].offset > 60

            await eventually(is_truncated, 20, "the oldest to be gone")
            while slow.entries[-1].offset < newest:
                await slow.more(arrivals, len(slow.entries) + 1)

    jumps = [after - before - 1 for before, after in pairwise(entry.offset for entry in slow.entries)]
    assert sum(jump for jump in jumps if jump > 1) == slow.missing > 30


async def test_nothing_is_missing_between_the_segments_of_a_stream(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    """Each segment begins with an offset that no message has."""
    async with stream_of(settings, {"x-stream-max-segment-size-bytes": 50_000}) as stream:
        for first in range(0, 60, 5):
            await write(publisher, stream, first, first + 4, size=5000)
        whole = await read(settings, stream, "first", 60)
        behind = await read(settings, stream, whole.entries[0].position, 59)

    assert numbers(whole) == list(range(60))
    assert whole.entries[-1].offset > 59
    assert (whole.missing, behind.missing) == (0, 0)


@pytest.mark.parametrize("longer", [False, True])
async def test_a_stream_that_was_made_anew_is_told_from_the_one_before(
    longer: bool, stream: str, settings: BrokerSettings, publisher: Publisher
) -> None:
    await write(publisher, stream, 0, 9)
    last = (await read(settings, stream, "first", 10)).entries[-1].position
    async with Management(settings) as management:
        await management.delete("queues", management.vhost, stream)
    await declare(settings, stream)
    await write(publisher, stream, 0, 19 if longer else 4)

    reading = Reading(settings, stream, last)
    with pytest.raises(StreamReplaced, match="made anew"):
        async with aclosing(reading.reader.read()) as arrivals:
            await anext(arrivals)
            await write(publisher, stream, 20, 20)
            await reading.more(arrivals, 1)
    assert not reading.entries


async def test_a_stream_bound_to_an_exchange_would_hide_that_no_queue_takes_an_event(
    stream: str, settings: BrokerSettings, publisher: Publisher
) -> None:
    """Why the relays write copies: a message that a stream takes counts as taken."""
    event = Message("orders", "order.unheard_of.v1", b"{}", message_id=new_id())
    with pytest.raises(Unroutable):
        await publisher.publish(event)
    async with Management(settings) as management:
        await management.post("bindings", management.vhost, "e", "orders", "q", stream, body={"routing_key": "#"})

    await publisher.publish(event)


async def test_many_events_are_one_message_and_large_ones_are_several(settings: BrokerSettings) -> None:
    events = [Message("orders", "order.placed.v1", f'"{number}"'.encode()) for number in range(100)]
    before = await end_of(settings.rabbitmq_url, "test")
    async with ready(StreamWriter(settings.rabbitmq_url, "test")) as writer:
        assert await writer.write(events)
        assert await writer.write([])
    (entry,) = (await read(settings, EVENTS, 0 if before is None else before + 1, 1)).entries

    assert entry.body == b"[" + b",".join(event.body for event in events) + b"]"
    large = [Message("orders", "order.placed.v1", b"x" * 250_000) for _ in range(10)]
    assert [len(bodies) for bodies in batches(large)] == [4, 4, 2]


async def test_a_stream_that_does_not_confirm_holds_its_writer_up_for_a_moment_only(settings: BrokerSettings) -> None:
    events = [Message("orders", "order.placed.v1", b"{}")]
    async with proxy_to(settings.rabbitmq_url) as (proxy, url), ready(StreamWriter(url, "test")) as writer:
        assert await writer.write(events)
        proxy.hold_answers()
        began = time.monotonic()
        assert not await writer.write(events)  # still under way
        assert not await writer.write(events)
        assert time.monotonic() - began < CONFIRM_TIMEOUT_SECONDS / 2
        proxy.close()


async def test_how_long_events_are_kept_can_be_changed(settings: BrokerSettings) -> None:
    longer = settings.model_copy(update={"events_kept_hours": settings.events_kept_hours + 1})
    async with Management(settings) as management:
        before = await management.find("queues", settings.vhost, EVENTS)

        assert await apply(longer) == (f"policy {EVENTS}",)

        assert await apply(longer) == ()
        policy = await management.find("policies", settings.vhost, EVENTS)
        assert policy["definition"]["max-age"] == f"{longer.events_kept_hours}h"
        after = await management.find("queues", settings.vhost, EVENTS)
        assert after["arguments"] == before["arguments"]
    none = settings.model_copy(update={"events_kept_hours": 0})
    assert not [item for item in (await difference(none)).items if EVENTS in str(item)]


async def test_a_stream_goes_on_after_its_node_was_killed(breakable_broker: PrivateBroker) -> None:
    settings = BrokerSettings(
        rabbitmq_url=breakable_broker.amqp_url("killed"),
        rabbitmq_management_url=breakable_broker.management_url,
        events_kept_hours=1,
    )
    await apply(settings)
    await breakable_broker.stop()  # RabbitMQ 3.10 can lose a stream that was created in the last few seconds
    await breakable_broker.start()
    reading = Reading(settings, EVENTS, "first")
    async with (
        ready(StreamWriter(settings.rabbitmq_url, "test")) as writer,
        aclosing(reading.reader.read()) as arrivals,
    ):
        for number in range(3):
            await eventually(partial(writer.write, numbered(EVENTS, number, number)), 60, "the stream to take it")
        await reading.more(arrivals, 3)
        await breakable_broker.kill()
        assert not await writer.write(numbered(EVENTS, 3, 3))
        await breakable_broker.start()
        await eventually(lambda: writer.write(numbered(EVENTS, 3, 3)), 60, "the stream to take it")
        await reading.more(arrivals, 4, seconds=60)

    assert reading.bodies == [b"[0]", b"[1]", b"[2]", b"[3]"]
    assert reading.missing == 0
