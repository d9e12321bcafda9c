"""What outboxes and queues still hold.

The broker's counts are some seconds old: so a look lasts until all are empty, or patience ends.
"""

import asyncio
from dataclasses import dataclass

import httpx

from control_room.operations.addresses import SystemAddresses
from control_room.operations.audit.reading import unreadable
from control_room.operations.audit.report import AuditImpossible
from control_room.operations.replicas import samples
from shared import contract
from shared.management import Management, ManagementError
from shared.topology import dead_queue

OUTBOX_PENDING = "order_rail_outbox_pending"
PATIENCE_SECONDS = 11.0
"""RabbitMQ counts a queue's messages every five seconds, and the management API may be one count behind."""
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Leftovers:
    """Messages by queue, its retry queues included, and events by service; None for a queue that is missing."""

    queues: dict[str, int | None]
    outboxes: dict[str, int]

    @property
    def is_empty(self) -> bool:
        return not any(self.outboxes.values()) and all(count == 0 for count in self.queues.values())


async def settled_leftovers(system: SystemAddresses, http: httpx.AsyncClient, management: Management) -> Leftovers:
    """What is left once nothing more goes away by itself. Raises AuditImpossible."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while not (found := await leftovers(system, http, management)).is_empty:
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(POLL_SECONDS)
    return found


async def leftovers(system: SystemAddresses, http: httpx.AsyncClient, management: Management) -> Leftovers:
    """What is left as last counted. Raises AuditImpossible."""
    try:
        queues = await _queues(management)
    except ManagementError as error:
        raise AuditImpossible("RabbitMQ", str(error)) from error
    return Leftovers(queues, await outboxes(system, http))


async def outboxes(system: SystemAddresses, http: httpx.AsyncClient) -> dict[str, int]:
    """Events by service that wait to be published, counted at most some seconds ago. Raises AuditImpossible."""
    return {service: await _outbox(http, service, url) for service, url in system.services.items()}


async def _queues(management: Management) -> dict[str, int | None]:
    """All queues that a message passes on its way; not those where dead letters stay, unless one is missing."""
    found = {
        queue["name"]: queue.get("messages", 0) for queue in await management.find("queues", management.vhost) or []
    }
    dead = {dead_queue(queue) for queue in contract.queues()}
    missing: dict[str, int | None] = dict.fromkeys({*contract.queues(), *dead} - set(found))
    ours = {
        name: count for name, count in found.items() if name.startswith(tuple(contract.queues())) and name not in dead
    }
    return {**missing, **ours}


async def _outbox(http: httpx.AsyncClient, service: str, url: str) -> int:
    """Replicas share one outbox, and each counts all of it."""
    with unreadable(service, url, http.timeout.read):
        try:
            return int(max(await samples(http, url, OUTBOX_PENDING)))
        except (OSError, ValueError) as error:
            raise AuditImpossible(service, f"its metrics can't be read: {error}") from error
