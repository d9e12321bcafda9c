"""A running Order Rail seen from outside: its HTTP calls, and its broker's management API."""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx

from control_room.background import running
from control_room.operations.addresses import NotRunning, SystemAddresses
from control_room.operations.replicas import samples
from shared.management import Management
from shared.topology import dead_queue, retry_queue

POLL_SECONDS = 1.0
CALL_TIMEOUT_SECONDS = 10.0
TAP_EXPIRES_MILLISECONDS = 120_000
MANY = 10_000
CHARGE_QUEUE = "payment_service.charge"
DUPLICATES = "order_rail_duplicate_deliveries_total"


class Unexpected(Exception):
    """A call was answered in a way that the contract doesn't allow."""


class System:
    """Use it as `async with visit(addresses) as system`. Calls raise httpx.HTTPError, Unexpected or ManagementError."""

    def __init__(self, addresses: SystemAddresses, http: httpx.AsyncClient, management: Management) -> None:
        self.addresses = addresses
        self._urls = addresses.services
        self._http, self._management = http, management

    async def wait_until_ready(self, wait_seconds: float) -> None:
        """Return once every service is ready. NotRunning, saying which is not and why, after `wait_seconds`."""
        deadline = asyncio.get_running_loop().time() + wait_seconds
        for service, url in self._urls.items():
            while problem := await self._problem_of(service, url):
                if asyncio.get_running_loop().time() >= deadline:
                    raise NotRunning(problem)
                await asyncio.sleep(POLL_SECONDS / 10)

    async def _problem_of(self, service: str, url: str) -> str:
        try:
            answer = await self._http.get(f"{url}/readyz")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"{service} does not answer at {url} ({_text(error)})"
        return "" if answer.is_success else f"{service} at {url} is not ready: {answer.text}"

    async def place(self, order: Mapping[str, Any], idempotency_key: str | None = None) -> httpx.Response:
        """POST /orders, whatever the answer."""
        headers = {"Idempotency-Key": f'"{idempotency_key}"'} if idempotency_key else {}
        return await self._http.post(f"{self._urls['order_service']}/orders", json=order, headers=headers)

    async def order(self, order_id: str) -> dict[str, Any]:
        """GET /orders/{id}."""
        return _object(await self._http.get(f"{self._urls['order_service']}/orders/{order_id}"))

    async def changes(self, order_id: str) -> AsyncGenerator[dict[str, Any]]:
        """The order now, and again after each of its events, without end.

        Its event stream says when to look; where that breaks off, a look every second goes on.
        """
        news = asyncio.Event()
        async with running(self._listen(order_id, news.set), f"events of {order_id}"):
            while True:
                news.clear()
                yield await self.order(order_id)
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await news.wait()

    async def arrived(self, order_id: str) -> list[str]:
        """The types of a final order's events, in the order in which they arrived."""
        return [json.loads(data)["type"] async for data in self._events(order_id, CALL_TIMEOUT_SECONDS)]

    async def _listen(self, order_id: str, on_event: Callable[[], None]) -> None:
        with suppress(httpx.HTTPError):
            async for _ in self._events(order_id, None):
                on_event()

    async def _events(self, order_id: str, timeout_seconds: float | None) -> AsyncIterator[str]:
        url = f"{self._urls['order_service']}/orders/{order_id}/events"
        async with self._http.stream("GET", url, timeout=timeout_seconds) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    yield line.removeprefix("data:")

    async def duplicates(self) -> float:
        """How many deliveries of `payment_service.charge` found their work done: the sum over all replicas."""
        return sum(await samples(self._http, self._urls["payment_service"], DUPLICATES, {"queue": CHARGE_QUEUE}))

    async def retry_delays_seconds(self) -> list[float]:
        """The delays that this broker has retry queues for."""
        prefix = retry_queue(CHARGE_QUEUE, 0).removesuffix("0s")
        queues = await self._management.find("queues", self._management.vhost, disable_stats="true") or []
        names = [queue["name"] for queue in queues if queue["name"].startswith(prefix)]
        return sorted(float(name.removeprefix(prefix).removesuffix("s")) for name in names)

    async def dead_letter(self, order_id: str) -> dict[str, Any] | None:
        """The order's dead letter in `payment_service.charge.dead`, left where it is; None if there is none."""
        return _of_order(order_id, await self._get(dead_queue(CHARGE_QUEUE), keep=True))

    @asynccontextmanager
    async def tap(self, exchange: str, routing_key: str) -> AsyncIterator[str]:
        """A queue of our own that gets a copy of what the exchange gets; it's gone afterwards."""
        vhost, queue = self._management.vhost, f"tour.tap.{uuid.uuid4().hex[:12]}"
        # Should we be killed, the broker removes it. Durable, since RabbitMQ 4.3 refuses what is neither
        # durable nor exclusive, and the management API can't hold an exclusive one.
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
        """Publish a message that was read before, as it was; whether a queue took it."""
        same = {name: message[name] for name in ("routing_key", "payload", "payload_encoding", "properties")}
        path = ("exchanges", self._management.vhost, message["exchange"], "publish")
        answer = await self._management.post(*path, body=same)
        return bool(answer["routed"])

    async def _get(self, queue: str, *, keep: bool) -> list[dict[str, Any]]:
        body = {"count": MANY, "ackmode": "ack_requeue_true" if keep else "ack_requeue_false", "encoding": "auto"}
        found: list[dict[str, Any]] = await self._management.post(
            "queues", self._management.vhost, queue, "get", body=body
        )
        return found


@asynccontextmanager
async def visit(addresses: SystemAddresses) -> AsyncIterator[System]:
    """A visitor's connections to the system."""
    async with (
        httpx.AsyncClient(timeout=CALL_TIMEOUT_SECONDS, trust_env=False) as http,
        Management(addresses) as management,
    ):
        yield System(addresses, http, management)


def _object(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise Unexpected(
            f"{answer.request.method} {answer.request.url} was answered {answer.status_code}: {answer.text}"
        )
    body: dict[str, Any] = answer.json()
    return body


def _of_order(order_id: str, messages: list[dict[str, Any]]) -> dict[str, Any] | None:
    return next((message for message in messages if f'"{order_id}"' in message["payload"]), None)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
