"""A client of a running system: HTTP calls, metrics, audits, its broker, and messages published past the services."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import httpx
from prometheus_client.samples import Sample

from control_room.experiments.traffic import Unexpected
from control_room.operations.addresses import NotRunning, SystemAddresses
from control_room.operations.audit import AuditReport, audit
from control_room.operations.dead_letters import parked
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.replicas import NO_LABELS, parsed, replicas, sum_of
from control_room.operations.roles import CHARGE, FINAL, ORDERS, PAYMENTS
from shared.management import Management, ManagementError
from shared.messaging.channel import Channel
from shared.messaging.connection import connected as broker_connected
from shared.messaging.message import Message
from shared.messaging.publisher import publishing
from shared.topology import retry_queue
from shared.waiting import poll

POLL_SECONDS = 0.2
AUDIT_AGAIN_SECONDS = 1.0
ORDERS_AT_ONCE = 20
CALL_TIMEOUT_SECONDS = 10.0
NAME = "order-rail experiment"
"""Of connections to the broker."""
DUPLICATES = "order_rail_duplicate_deliveries_total"
UNREACHABLE = (httpx.HTTPError, ManagementError, OSError, ValueError, KeyError)
"""What reading a system may raise while a service or the broker does not answer."""


class Client:
    """Use it as `async with connected(addresses)`. Calls raise httpx.HTTPError, Unexpected or ManagementError."""

    def __init__(self, addresses: SystemAddresses, http: httpx.AsyncClient, management: Management) -> None:
        self.addresses, self.http, self.management = addresses, http, management
        self._orders = f"{addresses.services[ORDERS.name]}/orders"

    async def unready(self) -> dict[str, str]:
        """What keeps each service from being ready, by its name; empty if all are."""
        return await unready(self.http, self.addresses.services)

    async def wait_until_ready(self, wait_seconds: float) -> None:
        """Return once every service is ready. After `wait_seconds` NotRunning, which says which is not and why."""
        problems = await poll(
            self.unready,
            within_seconds=wait_seconds,
            every_seconds=POLL_SECONDS,
            until=lambda problems: not problems,
        )
        if problems:
            raise NotRunning(next(iter(problems.values())))

    async def place(self, order: Mapping[str, Any], idempotency_key: str | None = None) -> httpx.Response:
        """POST /orders, whatever the answer."""
        headers = {"Idempotency-Key": f'"{idempotency_key}"'} if idempotency_key else {}
        return await self.http.post(self._orders, json=order, headers=headers)

    async def cancel(self, order_id: str) -> str:
        """POST /orders/{id}/cancel; the order's status. Raises Unexpected for any answer but 202."""
        answer = await self.http.post(f"{self._orders}/{order_id}/cancel")
        if answer.status_code != httpx.codes.ACCEPTED:
            raise Unexpected(f"the cancellation was answered {answer.status_code}: {answer.text}")
        status: str = answer.json()["status"]
        return status

    async def gateway_outage(self, seconds: int) -> bool:
        """Take the simulated gateway down for so long from now on; 0 ends it. Raises httpx.HTTPError."""
        url = f"{self.addresses.services[PAYMENTS.name]}/simulated-gateway/outage"
        return (await self.http.put(url, params={"seconds": seconds})).raise_for_status().is_success

    async def repair_refund(self, order_id: str) -> None:
        """Let the simulated gateway refund an order that was paid with `tok_refund_fails`. Raises Unexpected."""
        url = f"{self.addresses.services[PAYMENTS.name]}/simulated-gateway/failing-refunds/{order_id}"
        answer = await self.http.delete(url)
        if not answer.is_success:
            raise Unexpected(f"the repair was answered {answer.status_code}: {answer.text}")

    async def order(self, order_id: str) -> dict[str, Any]:
        """GET /orders/{id}."""
        answer = await self.http.get(f"{self._orders}/{order_id}")
        if not answer.is_success:
            raise Unexpected(f"GET {answer.request.url} was answered {answer.status_code}: {answer.text}")
        order: dict[str, Any] = answer.json()
        return order

    async def newest_orders(self, limit: int, after: str = "") -> dict[str, Any]:
        """GET /orders: a page of `limit` orders before the cursor `after`, newest first; raises httpx.HTTPError."""
        query = {"limit": limit} | ({"after": after} if after else {})
        page: dict[str, Any] = (await self.http.get(self._orders, params=query)).raise_for_status().json()
        return page

    async def orders(
        self,
        order_ids: Collection[str],
        is_done: Callable[[dict[str, Any]], bool],
        within_seconds: float,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> dict[str, dict[str, Any]]:
        """The orders by id, once all are done; `on_progress` is called with how many are. Raises Unexpected if late."""
        done: dict[str, dict[str, Any]] = {}

        async def look() -> bool:
            open_ids = [order_id for order_id in order_ids if order_id not in done]
            for first in range(0, len(open_ids), ORDERS_AT_ONCE):
                batch = open_ids[first : first + ORDERS_AT_ONCE]
                orders = await asyncio.gather(*(self.order(order_id) for order_id in batch))
                done.update({order["order_id"]: order for order in orders if is_done(order)})
            on_progress(len(done))
            return len(done) == len(order_ids)

        if not await poll(look, within_seconds=within_seconds, every_seconds=POLL_SECONDS):
            raise Unexpected(f"after {within_seconds:.0f} s only {len(done)} of {len(order_ids)} orders are done")
        return done

    async def event_types(self, order_id: str) -> list[str]:
        """The types of a final order's events, in the order in which they arrived."""
        async with self.http.stream("GET", f"{self._orders}/{order_id}/events") as stream:
            lines = [line.removeprefix("data:") async for line in stream.aiter_lines() if line.startswith("data:")]
        return [json.loads(line)["type"] for line in lines]

    async def samples(self, service: str) -> list[Sample]:
        """Everything that the replicas of a service count. Raises one of UNREACHABLE."""
        pages = [await self.http.get(f"{url}/metrics") for url in await replicas(self.addresses.services[service])]
        return [sample for page in pages for sample in parsed(page.raise_for_status().text)]

    async def metric(self, service: str, metric: str, labels: Mapping[str, str] = NO_LABELS) -> float:
        """The sum of a metric's samples with these labels, over all replicas. Raises one of UNREACHABLE."""
        return sum_of(await self.samples(service), metric, labels)

    async def audit_until_clean(
        self, within_seconds: float, settle_seconds: float = 0.0, **options: Any
    ) -> AuditReport:
        """The first audit that finds nothing wrong, or the last one before the deadline. Raises AuditImpossible.

        Without `settle_seconds` no order may be in flight any more. `options` are those of `audit`.
        """
        return await poll(
            lambda: audit(self.addresses, settle_seconds, **options),
            within_seconds=within_seconds,
            every_seconds=AUDIT_AGAIN_SECONDS,
            until=lambda report: report.is_clean if settle_seconds else report.is_final,
        )

    async def retry_delays_seconds(self) -> list[float]:
        """The delays that this broker has retry queues for."""
        prefix = retry_queue(CHARGE, 0).removesuffix("0s")
        queues = await self.management.find("queues", self.management.vhost, disable_stats="true") or []
        names = [queue["name"] for queue in queues if queue["name"].startswith(prefix)]
        return sorted(float(name.removeprefix(prefix).removesuffix("s")) for name in names)

    async def dead_letters(self) -> list[DeadLetter]:
        """The dead letters of the charge queue, left where they are. Raises BrokerUnavailable."""
        async with (
            parked.connected(self.addresses.rabbitmq_url) as connection,
            parked.dead_letters(connection, CHARGE) as found,
        ):
            return [held.dead_letter async for held in found]

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        """A channel on a connection of its own. Raises BrokerUnavailable."""
        async with broker_connected(self.addresses.rabbitmq_url, NAME) as connection:
            yield await connection.channel()

    @asynccontextmanager
    async def published(self, exchange: str, routing_key: str) -> AsyncIterator[list[Message]]:
        """The messages that the exchange gets while the block runs, a list that grows. Raises BrokerUnavailable."""
        messages: list[Message] = []
        async with self.channel() as channel:
            await channel.listen(exchange, routing_key, lambda delivery: messages.append(delivery.message))
            yield messages

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish over AMQP, each message confirmed. Raises BrokerUnavailable or PublishError."""
        async with publishing(self.addresses.rabbitmq_url, NAME) as publisher:
            errors = await publisher.publish_all(messages)
        if error := next(filter(None, errors), None):
            raise error


@asynccontextmanager
async def connected(addresses: SystemAddresses, timeout_seconds: float = CALL_TIMEOUT_SECONDS) -> AsyncIterator[Client]:
    """A client of the system, whose calls take at most so long."""
    async with (
        httpx.AsyncClient(timeout=timeout_seconds, trust_env=False, headers=addresses.operator_headers) as http,
        Management(addresses) as management,
    ):
        yield Client(addresses, http, management)


async def repeat(look: Callable[[], Awaitable[None]], every_seconds: float) -> None:
    """Look again and again, until cancelled; a look that raises one of UNREACHABLE changes nothing."""
    while True:
        with suppress(*UNREACHABLE):
            await look()
        await asyncio.sleep(every_seconds)


def is_final(order: Mapping[str, Any]) -> bool:
    """Whether an order has reached its end."""
    return order["status"] in FINAL


def notices(order: Mapping[str, Any]) -> set[tuple[str, str]]:
    """What was delivered of an order so far, as channel and notice."""
    delivered = (entry for entry in order["timeline"] if entry["type"] == "notification.delivered.v1")
    return {(entry["channel"], entry["notice"]) for entry in delivered}


def notified_after_seconds(order: Mapping[str, Any], channel: str) -> float:
    """How long after the order was placed its last notification went out on this channel; 0 if none did."""
    times = [
        datetime.fromisoformat(entry["at"])
        for entry in order["timeline"]
        if entry["type"] == "notification.delivered.v1" and entry["channel"] == channel
    ]
    placed_at = datetime.fromisoformat(order["placed_at"])
    return max(((at - placed_at).total_seconds() for at in times), default=0.0)


async def unready(http: httpx.AsyncClient, urls: Mapping[str, str]) -> dict[str, str]:
    """What keeps each service from being ready, by its name; empty if all are."""
    problems = await asyncio.gather(*(_problem_of(http, service, url) for service, url in urls.items()))
    return {service: problem for service, problem in zip(urls, problems, strict=True) if problem}


async def _problem_of(http: httpx.AsyncClient, service: str, url: str) -> str:
    try:
        answer = await http.get(f"{url}/readyz", timeout=2)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{service} does not answer at {url} ({str(error) or type(error).__name__})"
    return "" if answer.is_success else f"{service} at {url} is not ready: {answer.text}"
