"""The system that faults are injected into: what a fault can act on, and ways to wait for its effects."""

import asyncio
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

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
SAFE_QUEUE_AGE_SECONDS = 10.0
DISCONNECT = "[erlang:disconnect_node(N) || N <- nodes()]"


class NoEvidence(Exception):
    """The fault can't be shown to have happened; the message says what was expected to be seen."""


class Node(Protocol):
    """A node of RabbitMQ, and what is done to it. `start` returns once it is ready."""

    name: str

    @property
    def pid(self) -> int: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def kill(self) -> None: ...

    def suspend(self) -> Awaitable[None] | None: ...

    def resume(self) -> Awaitable[None] | None: ...


Action = Callable[[], Awaitable[None]]


@dataclass
class RunningSystem(ABC):
    """A running system as any fault can look at it, and the nodes of its broker."""

    client: Client
    orders: OpenOrders
    newest_queue_at: float = field(default=float("-inf"), kw_only=True)
    """When a queue was last created, on the clock of `time.monotonic`."""

    @property
    @abstractmethod
    def nodes(self) -> Sequence[Node]: ...

    @abstractmethod
    def cutting(self, node: Node) -> AbstractAsyncContextManager[tuple[Action, Action]]:
        """What cuts a node off from the others and its clients, and what heals that. They may be used in the block."""

    def pid(self, service: str) -> int | None:
        """The id of a service's process; None where it is none of this machine's."""
        return None

    async def until_node_may_be_killed(self) -> None:
        """RabbitMQ 3.10 may lose a quorum queue that was created only seconds before its node is killed."""
        await asyncio.sleep(max(0.0, self.newest_queue_at + SAFE_QUEUE_AGE_SECONDS - time.monotonic()))

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


@dataclass
class SystemUnderTest(RunningSystem):
    """A system of processes with all that a fault can act on; `proxy` is between the services and the broker."""

    system: System
    broker: Broker
    proxy: Proxy

    @property
    def nodes(self) -> Sequence[Node]:
        return self.broker.nodes

    def pid(self, service: str) -> int:
        return self.process(service).pid

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

    @asynccontextmanager
    async def cutting(self, node: Node) -> AsyncIterator[tuple[Action, Action]]:
        """With a cookie of its own the node is refused by the others; its clients lose it at the proxy."""
        own = next(each for each in self.broker.nodes if each.name == node.name)
        others = [each.name for each in self.broker.nodes if each is not own]

        async def cut() -> None:
            await own.control("eval", f"{_handling('pause_minority')}, {_set_cookies(others, 'cut')}, {DISCONNECT}.")
            self.proxy.lost_port = own.amqp_port

        async def heal() -> None:
            self.proxy.heal()
            await own.control("eval", f"{_set_cookies(others, 'erlang:get_cookie()')}.")

        yield cut, heal
        await own.control("eval", f"{_handling('autoheal')}.")


def _handling(strategy: str) -> str:
    """Erlang: what every node that this one sees does from now on when it loses sight of others."""
    return f"rpc:multicall(application, set_env, [rabbit, cluster_partition_handling, {strategy}])"


def _set_cookies(others: Sequence[str], cookie: str) -> str:
    """Erlang: refuse these nodes, and be refused by them, unless this is their cookie."""
    names = ", ".join(f"'{name}'" for name in others)
    return f"[erlang:set_cookie(N, {cookie}) || N <- [{names}]]"


async def awaited(value: Any) -> Any:
    """The result of a function that may be a coroutine function or not."""
    return await value if inspect.isawaitable(value) else value
