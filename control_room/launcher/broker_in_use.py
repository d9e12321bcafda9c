"""Whether another system works on a broker already: services of a second one would take the messages of the first."""

from collections.abc import Callable
from contextlib import suppress

from control_room.launcher import LaunchError
from control_room.operations.dead_letters.parked import inspect
from shared import contract
from shared.http.address import in_url
from shared.messaging.channel import BrokerUnavailable, NotFound
from shared.messaging.connection import connected
from shared.settings import BrokerSettings
from shared.waiting import poll

GRACE_SECONDS = 10.0
"""How long the consumers of a process that has died may remain; mostly the broker removes them at once."""

POLL_SECONDS = 0.2


async def until_nobody_consumes(settings: BrokerSettings, progress: Callable[[str], None]) -> None:
    """Return once no queue of a registered service has a consumer. LaunchError after 10 s with some."""
    nodes = ", ".join(f"{in_url(node.host)}:{node.port}" for node in settings.amqp)
    where = f"{nodes}, virtual host {settings.vhost}"
    if not await _consumers(settings.rabbitmq_url):
        return
    progress(f"Waiting up to {GRACE_SECONDS:g} s for the consumers of another system to go from {where}")
    consumers = await poll(
        lambda: _consumers(settings.rabbitmq_url),
        until=lambda consumers: not consumers,
        within_seconds=GRACE_SECONDS,
        every_seconds=POLL_SECONDS,
    )
    if consumers:
        counts = ", ".join(f"{queue} ({count})" for queue, count in consumers.items())
        raise LaunchError(
            f"A system runs already at {where}: these queues have consumers: {counts}. A second one would take its "
            "messages. Stop that one first; or use it (`order-rail tour`, `audit`, `flash-sale --running`); or start "
            "this one in a virtual host of its own, which RABBITMQ_URL names behind its last /."
        )


async def _consumers(url: str) -> dict[str, int]:
    """How many consumers each queue of a registered service has, without the queues that have none.

    AMQP knows a new consumer at once, the management API up to five seconds late. If no connection can be opened,
    because the virtual host does not exist yet for example, none is counted: the services will report that error.
    """
    counts = {}
    with suppress(BrokerUnavailable):
        async with connected(url, "order-rail up") as connection:
            for queue in contract.queues():
                with suppress(NotFound):
                    counts[queue] = (await inspect(connection, queue)).consumers
    return {queue: count for queue, count in counts.items() if count}
