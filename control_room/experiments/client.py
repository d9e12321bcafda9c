"""A client of a running system: HTTP calls, its broker's management API, and messages published past the services."""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import httpx

from control_room.background import running
from control_room.experiments.traffic import Unexpected
from control_room.operations.addresses import NotRunning, SystemAddresses
from control_room.operations.replicas import samples
from control_room.operations.roles import CHARGE, FINAL, ORDERS, PAYMENTS
from shared.management import Management
from shared.messaging.message import Message
from shared.messaging.publisher import publishing
from shared.topology import dead_queue, retry_queue
from shared.waiting import poll

POLL_SECONDS = 0.2
ORDER_POLL_SECONDS = 1.0
ORDERS_AT_ONCE = 20
CALL_TIMEOUT_SECONDS = 10.0
TAP_EXPIRES_MILLISECONDS = 120_000
MANY = 10_000
DUPLICATES = "order_rail_duplicate_deliveries_total"


class Client:
    """Use it as `async with connected(addresses)`. Calls raise httpx.HTTPError, Unexpected or ManagementError."""

    def __init__(self, addresses: SystemAddresses, http: httpx.AsyncClient, management: Management) -> None:
        self.addresses = addresses
        self._urls = addresses.services
        self._orders = f"{self._urls[ORDERS.name]}/orders"
        self._http, self._management = http, management

    async def wait_until_ready(self, wait_seconds: float) -> None:
        """Return once every service is ready. After `wait_seconds` NotRunning, which says which is not and why."""
        problems = await poll(
            lambda: unready(self._http, self._urls),
            within_seconds=wait_seconds,
            every_seconds=POLL_SECONDS,
            until=lambda problems: not problems,
        )
        if problems:
            raise NotRunning(next(iter(problems.values())))

    async def place(self, order: Mapping[str, Any], idempotency_key: str | None = None) -> httpx.Response:
        """POST /orders, whatever the answer."""
        headers = {"Idempotency-Key": f'"{idempotency_key}"'} if idempotency_key else {}
        return await self._http.post(self._orders, json=order, headers=headers)

    async def order(self, order_id: str) -> dict[str, Any]:
        """GET /orders/{id}."""
        answer = await self._http.get(f"{self._orders}/{order_id}")
        if not answer.is_success:
            raise Unexpected(f"GET {answer.request.url} was answered {answer.status_code}: {answer.text}")
        order: dict[str, Any] = answer.json()
        return order

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

    async def changes(self, order_id: str) -> AsyncGenerator[dict[str, Any]]:
        """The order now, and again after each of its events, without end.

        Its event stream says when to look; where that breaks off, a look every second goes on.
        """
        changed = asyncio.Event()
        async with running(self._listen(order_id, changed.set), f"events of {order_id}"):
            while True:
                changed.clear()
                yield await self.order(order_id)
                with suppress(TimeoutError):
                    async with asyncio.timeout(ORDER_POLL_SECONDS):
                        await changed.wait()

    async def event_types(self, order_id: str) -> list[str]:
        """The types of a final order's events, in the order in which they arrived."""
        return [json.loads(data)["type"] async for data in self._events(order_id, CALL_TIMEOUT_SECONDS)]

    async def _listen(self, order_id: str, on_event: Callable[[], None]) -> None:
        with suppress(httpx.HTTPError):
            async for _ in self._events(order_id, None):
                on_event()

    async def _events(self, order_id: str, timeout_seconds: float | None) -> AsyncIterator[str]:
        async with self._http.stream("GET", f"{self._orders}/{order_id}/events", timeout=timeout_seconds) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    yield line.removeprefix("data:")

    async def duplicates(self) -> float:
        """How many deliveries of the charge queue found their work done: the sum over all replicas."""
        return sum(await samples(self._http, self._urls[PAYMENTS.name], DUPLICATES, {"queue": CHARGE}))

    async def retry_delays_seconds(self) -> list[float]:
        """The delays that this broker has retry queues for."""
        prefix = retry_queue(CHARGE, 0).removesuffix("0s")
        queues = await self._management.find("queues", self._management.vhost, disable_stats="true") or []
        names = [queue["name"] for queue in queues if queue["name"].startswith(prefix)]
        return sorted(float(name.removeprefix(prefix).removesuffix("s")) for name in names)

    async def dead_letter(self, order_id: str) -> dict[str, Any] | None:
        """The order's dead letter of the charge queue, left where it is; None if there is none."""
        return _of_order(order_id, await self._get(dead_queue(CHARGE), keep=True))

    @asynccontextmanager
    async def tap(self, exchange: str, routing_key: str) -> AsyncIterator[str]:
        """A queue that gets a copy of what the exchange gets; deleted after the block."""
        vhost, queue = self._management.vhost, f"tour.tap.{uuid.uuid4().hex[:12]}"
        # It expires, in case we are killed. Durable, since RabbitMQ 4.3 refuses queues that are neither durable nor
        # exclusive, and the management API cannot hold an exclusive one.
        body = {"durable": True, "arguments": {"x-expires": TAP_EXPIRES_MILLISECONDS}}
        await self._management.put("queues", vhost, queue, body=body)
        try:
            await self._management.post("bindings", vhost, "e", exchange, "q", queue, body={"routing_key": routing_key})
            yield queue
        finally:
            await self._management.delete("queues", vhost, queue)

    async def tapped(self, queue: str, order_id: str) -> dict[str, Any] | None:
        """The order's message, taken from a tap; None if it has not arrived yet."""
        return _of_order(order_id, await self._get(queue, keep=False))

    async def publish_again(self, message: Mapping[str, Any]) -> bool:
        """Publish a message that was read from a tap, as it was; whether a queue took it."""
        same = {name: message[name] for name in ("routing_key", "payload", "payload_encoding", "properties")}
        path = ("exchanges", self._management.vhost, message["exchange"], "publish")
        answer = await self._management.post(*path, body=same)
        return bool(answer["routed"])

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish over AMQP, each message confirmed. Raises BrokerUnavailable or PublishError."""
        async with publishing(self.addresses.rabbitmq_url, "order-rail experiment") as publisher:
            errors = await publisher.publish_all(messages)
        if error := next(filter(None, errors), None):
            raise error

    async def _get(self, queue: str, *, keep: bool) -> list[dict[str, Any]]:
        body = {"count": MANY, "ackmode": "ack_requeue_true" if keep else "ack_requeue_false", "encoding": "auto"}
        path = ("queues", self._management.vhost, queue, "get")
        messages: list[dict[str, Any]] = await self._management.post(*path, body=body)
        return messages


def is_final(order: Mapping[str, Any]) -> bool:
    """Whether an order has reached its end."""
    return order["status"] in FINAL


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


@asynccontextmanager
async def connected(addresses: SystemAddresses) -> AsyncIterator[Client]:
    """A client of the system."""
    async with (
        httpx.AsyncClient(timeout=CALL_TIMEOUT_SECONDS, trust_env=False) as http,
        Management(addresses) as management,
    ):
        yield Client(addresses, http, management)


def _of_order(order_id: str, messages: list[dict[str, Any]]) -> dict[str, Any] | None:
    return next((message for message in messages if f'"{order_id}"' in message["payload"]), None)
