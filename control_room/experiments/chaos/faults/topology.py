"""Faults of the topology: queues deleted, unbound and filled, under their consumers and publishers."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from control_room.experiments.chaos.faults.fault import Injection, fault
from control_room.experiments.chaos.faults.wire import PUBLISHED
from control_room.experiments.chaos.system import NoEvidence, SystemUnderTest
from control_room.experiments.chaos.watch import SWEPT
from control_room.operations.roles import CHARGE, EMAIL, ORDERS, PAYMENTS
from shared.contract import patterns, queues, service_of
from shared.topology import retry_queue

MOST_TRIES = 4
"""The topology keeper may put things back before anything has gone wrong without them."""
SWEEP_TIMEOUT_SECONDS = 12.0
"""Longer than an order of a chaos run is left alone before the sweep re-emits its event."""
RETURN_TRIES, RETURN_TIMEOUT_SECONDS = 12, 1.5
"""The keeper puts it back within a second, and about one message a second is published that needs it."""
FULL_MESSAGES = 100
FIRST_DELAY_SECONDS = 0.5
"""Of the retries in a chaos run."""


@fault("queue-deleted", tuple(queues()), allowance_seconds=18)
async def queue_deleted(system: SystemUnderTest, injection: Injection) -> None:
    """A queue deleted under its consumer, with messages in it; the topology keeper puts it back empty."""
    before = await system.counter(ORDERS.name, SWEPT)
    for _ in range(MOST_TRIES):
        with injection.active():
            async with _consumer_frozen(system, injection.target) as waiting:
                deleted_at = time.monotonic()
                await _delete_until_put_back(system, injection.target)
        gone_seconds = system.newest_queue_at - deleted_at
        injection.saw(f"it was deleted with {waiting} messages waiting in it, and put back after {gone_seconds:.1f} s")
        with suppress(NoEvidence):  # the keeper was so quick that nothing was lost: try again
            after = await system.counter(ORDERS.name, SWEPT, {}, before + 1, SWEEP_TIMEOUT_SECONDS)
            injection.saw(f"{after - before:g} orders had their event re-emitted")
            return
    raise NoEvidence(f"{injection.target} was deleted {MOST_TRIES} times, and nothing was lost with it")


async def _delete_until_put_back(system: SystemUnderTest, queue: str) -> None:
    await system.delete_queue(queue)
    await system.until(lambda: system.queue(queue), f"{queue} to be put back")
    system.newest_queue_at = time.monotonic()


@asynccontextmanager
async def _consumer_frozen(system: SystemUnderTest, queue: str) -> AsyncIterator[int]:
    """The consumer is frozen until more messages wait than it can hold, and while the block runs; how many wait.

    The order service is not frozen, for no order moves without it: what is published while its queue is away is lost.
    """
    service = service_of(queue)
    if service is ORDERS:
        yield 0
        return
    with system.frozen(service.name):
        async with system.client.channel() as channel:
            state = await system.until(
                lambda: channel.inspect(queue), f"messages waiting in {queue}", is_seen=lambda state: state.messages
            )
        yield state.messages


@fault("retry-queue-deleted", (CHARGE,), allowance_seconds=18)
async def retry_queue_deleted(system: SystemUnderTest, injection: Injection) -> None:
    """A retry queue deleted under the consumer that publishes to it, with messages in it."""
    service, queue = service_of(injection.target).name, retry_queue(injection.target, FIRST_DELAY_SECONDS)

    with injection.active():
        try:
            returned = await _until_returned(system, service, "", lambda: system.delete_queue(queue))
            await system.until(lambda: system.queue(queue), f"{queue} to be put back")
        finally:
            system.newest_queue_at = time.monotonic()
    injection.saw(f"{returned:g} messages for {queue} came back as unroutable; the topology keeper put it back")


@fault("unbound", (CHARGE,), allowance_seconds=10)
async def unbound(system: SystemUnderTest, injection: Injection) -> None:
    """A queue unbound under its publisher: events come back, until the topology keeper binds it again."""
    binding = next(each for each in patterns(queues()[injection.target]) if each.exchange == ORDERS.exchange)
    management = system.client.management
    path = ("bindings", management.vhost, "e", binding.exchange, "q", injection.target)
    with injection.active():
        returned = await _until_returned(
            system, ORDERS.name, binding.exchange, lambda: management.delete(*path, binding.key)
        )
        await system.until(lambda: management.find(*path), "the keeper to bind it again")
    injection.saw(f"{returned:g} events came back as unroutable; the topology keeper bound the queue again")


async def _until_returned(
    system: SystemUnderTest, service: str, exchange: str, take: Callable[[], Awaitable[None]]
) -> float:
    """How many messages came back to the service; the keeper may be so quick that none does: then take it again."""
    labels = {"exchange": exchange, "result": "unroutable"}
    before = await system.counter(service, PUBLISHED, labels)
    for _ in range(RETURN_TRIES):
        await take()
        with suppress(NoEvidence):
            return await system.counter(service, PUBLISHED, labels, before + 1, RETURN_TIMEOUT_SECONDS) - before
    raise NoEvidence(f"nothing came back to {service}, though it was taken {RETURN_TRIES} times")


@fault("queue-full", (EMAIL,), allowance_seconds=12)
async def queue_full(system: SystemUnderTest, injection: Injection) -> None:
    """A queue that is full refuses what is published, while its consumer is frozen.

    Not the queue of charges: RabbitMQ 3.10 brings no retries back to a queue that was full once.
    """
    service, labels = PAYMENTS.name, {"result": "refused"}
    before = await system.counter(service, PUBLISHED, labels)
    management = system.client.management
    policy = ("policies", management.vhost, "chaos-full")
    body = {"pattern": f"^{injection.target}$", "definition": {"max-length": FULL_MESSAGES}, "apply-to": "queues"}

    def has_room(queue: Mapping[str, Any] | None) -> bool:
        return queue is not None and queue.get("messages", FULL_MESSAGES) < FULL_MESSAGES // 2

    async with injection.applied(lambda: management.put(*policy, body=body), lambda: management.delete(*policy)):
        async with _consumer_frozen(system, injection.target):
            after = await system.counter(service, PUBLISHED, labels, before + 1)
        # RabbitMQ 3.10 tells a publisher of the refusal only when messages leave the queue.
        expecting = f"{injection.target} to have room again"
        await system.until(lambda: system.queue(injection.target), expecting, is_seen=has_room)
    injection.saw(f"{after - before:g} events were refused by the full queue")
