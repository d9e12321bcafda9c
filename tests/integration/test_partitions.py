"""A queue in partitions on a real broker: in sequence within a key, in parallel across keys, whatever fails."""

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest
import pytest_asyncio

from control_room.launcher.broker import PrivateBroker
from shared.assemble import by_partition
from shared.events import OrderPlaced
from shared.ids import new_id
from shared.management import Management, ManagementError
from shared.messaging.consumer import Consumer
from shared.messaging.message import Message
from shared.messaging.processor import Subscription
from shared.messaging.publisher import Publisher
from shared.messaging.retry import DONE, DUPLICATE, Ack, NotReady, PermanentError, TransientError
from shared.settings import BrokerSettings
from shared.topology import dead_queue, provision
from tests.amqp import arrivals
from tests.conftest import Broker, virtual_host
from tests.partitioned import CONTRACT, PARTITIONS, QUEUE, place, registered
from tests.support import eventually, ready

CUSTOMERS = [f"customer-{number}@example.com" for number in range(20)]
ANN, *OTHERS = CUSTOMERS
LONG = (0.2,) * 100
"""Retry delays that no test lives to see the end of."""


class Counter:
    """A handler that notes which order was handled, each once, as a table with the order's id as primary key.

    Each call waits for `gate`. `error_of` says what it raises.
    """

    def __init__(self, error_of: Callable[[OrderPlaced, int], Exception | None] = lambda event, attempt: None) -> None:
        self.error_of = error_of
        self.gate = asyncio.Event()
        self.gate.set()
        self.in_progress: list[str] = []
        self.handled: dict[str, list[str]] = defaultdict(list)
        self.most_of_a_customer = 0

    async def __call__(self, event: OrderPlaced, attempt: int) -> Ack:
        customer = event.data.order.customer_email
        self.in_progress.append(customer)
        self.most_of_a_customer = max(self.most_of_a_customer, self.in_progress.count(customer))
        try:
            await self.gate.wait()
            if error := self.error_of(event, attempt):
                raise error
        finally:
            self.in_progress.remove(customer)
        if event.subject in self.handled[customer]:
            return DUPLICATE
        self.handled[customer].append(event.subject)
        return DONE

    @property
    def count(self) -> int:
        return sum(map(len, self.handled.values()))


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    with registered():
        yield


@pytest_asyncio.fixture(autouse=True)
async def _topology(settings: BrokerSettings, _registered: None) -> None:
    await provision.apply(settings)


@pytest_asyncio.fixture(autouse=True)
async def _nothing_is_left(settings: BrokerSettings, _topology: None) -> AsyncIterator[None]:
    yield
    async with Management(settings) as management:
        for name in (*PARTITIONS, *map(dead_queue, PARTITIONS)):
            await management.delete("queues", management.vhost, name, "contents")


@pytest.fixture
def restartable(request: pytest.FixtureRequest) -> tuple[Broker, Callable[[], Awaitable[None]]]:
    """A broker, and what starts it again: the session's if RESTART_BROKER has a command for it, else a private one."""
    if command := os.environ.get("RESTART_BROKER"):

        async def run() -> None:
            await (await asyncio.create_subprocess_shell(command)).wait()

        return request.getfixturevalue("broker"), run
    node: PrivateBroker = request.getfixturevalue("breakable_broker")

    async def restart() -> None:
        await node.stop()
        await node.start()

    return Broker(node.amqp_url(), node.management_url), restart


def replica(
    settings: BrokerSettings,
    publisher: Publisher,
    count: Counter,
    delays: tuple[float, ...] = (0.1,),
    concurrency: int = 50,
) -> AbstractAsyncContextManager[Consumer]:
    """A process of the service, as far as it consumes."""
    subscription = Subscription(QUEUE, {OrderPlaced: count}, concurrency)
    partitions = by_partition(CONTRACT, subscription)
    return ready(Consumer(settings.rabbitmq_url, f"test {new_id()}", partitions, publisher, lambda _queue: delays))


async def consumes(consumer: Consumer) -> None:
    await eventually(lambda: consumer.problem() is None, expecting="a consumer")


async def test_all_customers_at_once_and_the_orders_of_each_in_sequence(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    count = Counter()
    count.gate.clear()
    placed = await place(publisher, CUSTOMERS * 10)

    async with replica(settings, publisher, count):
        await eventually(lambda: len(count.in_progress) == len(CUSTOMERS), expecting="every customer in progress")
        count.gate.set()
        await eventually(lambda: count.count == len(placed), expecting="every order")

    assert count.most_of_a_customer == 1
    assert count.handled == {customer: placed[n :: len(CUSTOMERS)] for n, customer in enumerate(CUSTOMERS)}


async def test_several_partitions_have_work(settings: BrokerSettings, publisher: Publisher) -> None:
    await place(publisher, CUSTOMERS)

    async def filled() -> bool:
        async with Management(settings) as management:
            queues = await management.find("queues", management.vhost)
        counts = {queue["name"]: queue.get("messages", 0) for queue in queues if queue["name"] in PARTITIONS}
        assert sum(counts.values()) == len(CUSTOMERS)
        return len([count for count in counts.values() if count]) >= 3

    await eventually(filled, 15, "orders in several partitions")


async def test_a_failing_order_holds_up_its_customer_alone(settings: BrokerSettings, publisher: Publisher) -> None:
    placed = await place(publisher, CUSTOMERS * 3)
    fails, attempts = True, [1]

    def error_of(event: OrderPlaced, attempt: int) -> Exception | None:
        if not (fails and event.subject == placed[0]):
            return None
        attempts.append(attempt)
        return TransientError("away")

    count = Counter(error_of)

    async with replica(settings, publisher, count, LONG):
        await eventually(lambda: count.count == 3 * len(OTHERS), expecting="the orders of the others")
        await eventually(lambda: attempts[-1] > 2, expecting="further attempts")
        assert ANN not in count.handled
        fails = False
        await eventually(lambda: count.count == len(placed), expecting="the orders of the one too")

    assert count.handled[ANN] == placed[:: len(CUSTOMERS)]


async def test_what_the_service_itself_needs_is_waited_for_in_sequence(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    away, attempts = True, []

    def error_of(_event: OrderPlaced, attempt: int) -> Exception | None:
        attempts.append(attempt)
        return NotReady("the database is away") if away else None

    count = Counter(error_of)
    placed = await place(publisher, [ANN] * 3)

    async with replica(settings, publisher, count):
        await eventually(lambda: len(attempts) > 2, expecting="further tries")
        away = False
        await eventually(lambda: count.count == 3, expecting="every order")

    assert count.handled[ANN] == placed
    assert set(attempts) == {1}


@pytest.mark.parametrize(
    ("error", "reason", "attempts"),
    [(TransientError("away"), "attempts-exhausted", 4), (PermanentError("never", "it can't work"), "never", 1)],
)
async def test_an_order_that_is_given_up_leaves_its_sequence_and_keeps_its_key(
    error: Exception, reason: str, attempts: int, settings: BrokerSettings, publisher: Publisher
) -> None:
    first: list[str] = []
    count = Counter(lambda event, _attempt: error if event.subject == first[0] else None)
    first += await place(publisher, [ANN])
    later = await place(publisher, [ANN, ANN])

    async with replica(settings, publisher, count):
        await eventually(lambda: count.handled[ANN] == later, expecting="those behind it")

    dead = []
    for name in PARTITIONS:
        async with arrivals(settings, dead_queue(name)) as messages:
            await publisher.publish(Message("", dead_queue(name), b"marker"))
            await eventually(lambda: messages and messages[-1].body == b"marker", expecting="the marker")
        dead += messages[:-1]
    (letter,) = dead
    assert letter.headers["dead-letter-reason"] == reason
    assert letter.headers["attempt"] == attempts
    assert letter.headers["key.data.order.customer_email"] == ANN


async def test_a_consumer_that_stops_finishes_its_order_before_the_next_consumer_begins_one(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    old, new = Counter(), Counter()
    new.handled = old.handled
    old.gate.clear()
    placed = await place(publisher, [ANN] * 5)

    # One delivery at a time: the others are in the queue, ready for another consumer.
    async with replica(settings, publisher, old, concurrency=1) as first:
        await eventually(lambda: old.in_progress, expecting="an order in progress")
        async with replica(settings, publisher, new, concurrency=1) as second:
            await consumes(second)
            stopping = asyncio.create_task(first.stop())
            await first.backlog()  # an answer of the broker, after all that the stop has asked it until now
            await second.backlog()
            assert not [*new.in_progress, *old.handled]
            assert not stopping.done()
            old.gate.set()
            await eventually(lambda: old.count == len(placed), expecting="the others at the next consumer")
            await stopping

    assert old.handled[ANN] == placed


async def test_a_paused_consumer_leaves_the_sequence_to_the_next_one(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    old, new = Counter(), Counter()
    new.handled = old.handled
    old.gate.clear()
    async with replica(settings, publisher, old) as first:
        await consumes(first)
        async with replica(settings, publisher, new) as second:
            await consumes(second)
            placed = await place(publisher, CUSTOMERS * 3)
            await eventually(lambda: len(old.in_progress) == len(CUSTOMERS), expecting="orders in progress")
            pausing = asyncio.create_task(first.pause())
            await first.backlog()  # the pause has begun
            old.gate.set()
            await eventually(lambda: old.count == len(placed), expecting="every order")
            await pausing
            assert new.most_of_a_customer == 1
            await first.resume()
            await eventually(lambda: first.problem() is None, expecting="the first to consume again")

    assert old.handled == {customer: placed[n :: len(CUSTOMERS)] for n, customer in enumerate(CUSTOMERS)}


async def test_a_key_keeps_its_partition_and_its_sequence_when_the_broker_starts_again(
    restartable: tuple[Broker, Callable[[], Awaitable[None]]],
) -> None:
    restartable_broker, restart = restartable
    async with virtual_host(restartable_broker) as settings:
        async with ready(Publisher(settings.rabbitmq_url, f"test {new_id()}", exchanges=["orders"])) as publisher:
            first = await place(publisher, CUSTOMERS)
            lost = asyncio.create_task(eventually(lambda: not publisher.is_connected, 60, "the connection to be lost"))
            await restart()
            await lost
            await eventually(lambda: publisher.is_connected, 60, "the publisher to be connected again")
            second = await place(publisher, CUSTOMERS)
        found = defaultdict(list)
        for name in PARTITIONS:
            async with arrivals(settings, name) as messages, ready(Publisher(settings.rabbitmq_url, "test")) as marking:
                await marking.publish(Message("", name, b"marker"))
                await eventually(lambda: messages and messages[-1].body == b"marker", expecting="the marker")
            for message in messages[:-1]:
                found[json.loads(message.body)["data"]["order"]["customer_email"]].append(
                    (name, json.loads(message.body)["subject"])
                )

    assert {customer: [order for _, order in orders] for customer, orders in found.items()} == {
        customer: [first[number], second[number]] for number, customer in enumerate(CUSTOMERS)
    }
    assert all(len({name for name, _ in orders}) == 1 for orders in found.values())


async def test_it_is_put_in_place_once(settings: BrokerSettings) -> None:
    assert await provision.apply(settings) == ()


@pytest.mark.parametrize(
    ("source", "target"),
    [pytest.param(QUEUE, f"{QUEUE}.4", id="fewer partitions"), pytest.param("orders", QUEUE, id="none before")],
)
async def test_a_queue_from_before_that_still_gets_messages_is_told(
    source: str, target: str, settings: BrokerSettings
) -> None:
    async with Management(settings) as management:
        await management.put("queues", management.vhost, target, body={"durable": True})
        await management.post("bindings", management.vhost, "e", source, "q", target, body={"routing_key": "1"})

        with pytest.raises(
            provision.TopologyDiffers, match=f"binding {source} --1--> {target}: exists should be False"
        ):
            await provision.apply(settings)

        await management.delete("queues", management.vhost, target)


async def test_a_broker_without_the_plugin_is_told_how_to_get_it(
    settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Management.find

    async def without_plugin(self: Management, *path: str, **query: str) -> object:
        found = await find(self, *path, **query)
        if path == ("overview",):
            found["exchange_types"] = [each for each in found["exchange_types"] if each["name"] != "x-consistent-hash"]
        return found

    monkeypatch.setattr(Management, "find", without_plugin)

    with pytest.raises(ManagementError, match=f"{QUEUE}.*rabbitmq-plugins enable rabbitmq_consistent_hash_exchange"):
        await provision.apply(settings)
