"""The system that faults are injected into: what a fault can act on, and ways to wait for its effects."""

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from control_room.experiments.chaos.proxy import Proxy
from control_room.experiments.chaos.watch import OpenOrders
from control_room.experiments.client import UNREACHABLE, Client
from control_room.launcher.processes import SupervisedProcess
from control_room.launcher.system import Broker, System
from control_room.operations.replicas import NO_LABELS
from shared.contract import services
from shared.waiting import poll

SERVICES = tuple(contract.name for contract in services())
HEARTBEAT_SECONDS = 3
"""Of the services' connections in a chaos run. RabbitMQ closes a connection that is silent for two of them."""
EVIDENCE_TIMEOUT_SECONDS = 20.0
RESTART_TIMEOUT_SECONDS = 40.0
"""The launcher waits a little longer each time before it starts a service that ends again and again."""
POLL_SECONDS = 0.1


class NoEvidence(Exception):
    """The fault can't be shown to have happened; the message says what was expected to be seen."""


@dataclass
class SystemUnderTest:
    """A running system with all that a fault can act on; `proxy` is between the services and the broker."""

    system: System
    broker: Broker
    proxy: Proxy
    client: Client
    orders: OpenOrders
    newest_queue_at: float
    """When a queue was last created, on the clock of `time.monotonic`: a broker killed soon after may lose it."""

    def process(self, service: str) -> SupervisedProcess:
        return self.system.processes[service]

    async def restart(self, service: str) -> None:
        """SIGTERM; returns once the launcher has started it again. TimeoutError after 40 s."""
        async with asyncio.timeout(RESTART_TIMEOUT_SECONDS):
            await self.process(service).restart()

    @contextmanager
    def frozen(self, service: str) -> Iterator[None]:
        """SIGSTOP to a service, and SIGCONT after the block."""
        process = self.process(service)
        process.freeze()
        try:
            yield
        finally:
            process.thaw()

    async def until(
        self,
        look: Callable[[], Any],
        expecting: str,
        timeout_seconds: float = EVIDENCE_TIMEOUT_SECONDS,
        is_seen: Callable[[Any], object] = bool,
    ) -> Any:
        """What `look` returns, once `is_seen` of it; a call that fails counts as "not yet". Raises NoEvidence."""

        async def probe() -> Any:
            return await awaited(look())

        with suppress(*UNREACHABLE):
            last = await poll(
                probe, within_seconds=timeout_seconds, every_seconds=POLL_SECONDS, until=is_seen, not_yet=UNREACHABLE
            )
            if is_seen(last):
                return last
        raise NoEvidence(f"{expecting}: not seen within {timeout_seconds:g} s")

    async def orders_in_flight(self) -> str:
        """A sentence about the orders in flight now; waits until there are some."""
        return f"{await self.until(lambda: len(self.orders), 'orders in flight')} orders in flight"

    async def counter(
        self,
        service: str,
        metric: str,
        labels: Mapping[str, str] = NO_LABELS,
        at_least: float = 0.0,
        timeout_seconds: float = EVIDENCE_TIMEOUT_SECONDS,
    ) -> float:
        """A counter of a service, as soon as the service answers and the counter has come to `at_least`."""
        value: float = await self.until(
            lambda: self.client.metric(service, metric, labels),
            f"{metric}{labels} of {service} at {at_least:g}",
            timeout_seconds,
            is_seen=lambda value: value >= at_least,
        )
        return value

    async def problem(self, service: str) -> str:
        """What keeps a service from being ready; empty if nothing does."""
        return (await self.client.unready()).get(service, "")

    async def until_unready(self, *problems: str) -> str:
        """Wait until every service says that it is not ready for one of these problems; a sentence about it."""
        await self.until(
            self.client.unready,
            f"every service to say {' or '.join(problems)} in /readyz",
            is_seen=lambda unready: all(any(each in unready.get(name, "") for each in problems) for name in SERVICES),
        )
        return "every service said in /readyz that it was not ready"

    async def connections(self, service: str) -> set[str]:
        """The AMQP connections of a service, by the broker's names for them."""
        return {
            each["name"]
            for each in await self.client.management.find("connections") or []
            if str(each.get("client_properties", {}).get("connection_name", "")).startswith(service)
        }

    async def queue(self, queue: str) -> dict[str, Any] | None:
        """What the management API says of a queue; None if it does not exist."""
        found: dict[str, Any] | None = await self.client.management.find("queues", self.client.management.vhost, queue)
        return found

    async def delete_queue(self, queue: str) -> None:
        await self.client.management.delete("queues", self.client.management.vhost, queue)


async def awaited(value: Any) -> Any:
    """The result of a function that may be a coroutine function or not."""
    return await value if inspect.isawaitable(value) else value
