"""Whether another system works on a broker already: services of a second one would take the messages of the first."""

import asyncio
from collections.abc import Callable

from control_room.operations.dead_letters.parked import inspect
from shared import contract
from shared.http.address import in_url
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.connection import Connection
from shared.settings import BrokerSettings

GRACE_SECONDS = 10.0
"""How long the consumers of a process that has died may still be there; the broker hears of a death at once, mostly."""

POLL_SECONDS = 0.2


class BrokerInUse(Exception):
    """Queues of ours have consumers already: `consumers` says how many each."""

    def __init__(self, where: str, consumers: dict[str, int]) -> None:
        counts = ", ".join(f"{queue} ({count})" for queue, count in consumers.items())
        super().__init__(
            f"A system runs already at {where}: these queues have consumers: {counts}. A second one would take its "
            "messages. Stop that one first; or use it (`order-rail tour`, `audit`, `flash-sale --running`); or start "
            "this one in a virtual host of its own, which RABBITMQ_URL names behind its last /."
        )
        self.consumers = consumers


async def until_nobody_consumes(settings: BrokerSettings, progress: Callable[[str], None]) -> None:
    """Return once no queue of ours has a consumer. BrokerInUse after 10 s with some."""
    broker = settings.amqp
    where = f"{in_url(broker.host)}:{broker.port}, virtual host {broker.vhost}"
    deadline = asyncio.get_running_loop().time() + GRACE_SECONDS
    was_said = False
    while consumers := await _consumers(settings.rabbitmq_url):
        if asyncio.get_running_loop().time() >= deadline:
            raise BrokerInUse(where, consumers)
        if not was_said:
            progress(f"Waiting up to {GRACE_SECONDS:g} s for the consumers of another system to go from {where}")
            was_said = True
        await asyncio.sleep(POLL_SECONDS)


async def _consumers(url: str) -> dict[str, int]:
    """How many each queue of ours has, where it has any; those who look at dead letters are at other queues.

    Asked over AMQP: the management API hears of a new consumer up to five seconds late. Where AMQP does not let us in
    (the virtual host is not there yet, say) nobody is counted: services of ours would not get in either, and say why.
    """
    try:
        connection = await Connection.open(url, "order-rail up")
    except BrokerUnavailable:
        return {}
    try:
        counts = {queue: await _consumers_of(connection, queue) for queue in contract.queues()}
    finally:
        await connection.close()
    return {queue: count for queue, count in counts.items() if count}


async def _consumers_of(connection: Connection, queue: str) -> int:
    try:
        return (await inspect(connection, queue)).consumers
    except BrokerUnavailable:
        return 0
