"""Whether another system works on a broker already: services of a second one would take the messages of the first."""

import asyncio
from collections import Counter
from collections.abc import Callable

from shared.management import Management
from shared.settings import BrokerSettings
from shared.topology.definition import SUBSCRIPTIONS

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
    """Return once no queue of ours has a consumer. BrokerInUse after 10 s with some; TopologyError."""
    deadline = asyncio.get_running_loop().time() + GRACE_SECONDS
    was_said = False
    async with Management(settings) as management:
        while consumers := await _consumers(management):
            where = f"{management.url}, virtual host {management.vhost}"
            if asyncio.get_running_loop().time() >= deadline:
                raise BrokerInUse(where, consumers)
            if not was_said:
                progress(f"Waiting up to {GRACE_SECONDS:g} s for the consumers of another system to go from {where}")
                was_said = True
            await asyncio.sleep(POLL_SECONDS)


async def _consumers(management: Management) -> dict[str, int]:
    """How many each queue of ours has, where it has any; those who only look at dead letters don't count."""
    found = await management.find("consumers", management.vhost) or []
    names = (consumer["queue"]["name"] for consumer in found)
    return dict(sorted(Counter(name for name in names if name in SUBSCRIPTIONS).items()))
