"""A running Order Rail seen from outside: its HTTP calls, and its broker's management API."""

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import Field

from control_room.background import running
from shared.management import Management
from shared.settings import BrokerSettings
from shared.topology import dead_queue, retry_queue

POLL_SECONDS = 1.0
CALL_TIMEOUT_SECONDS = 10.0
TAP_EXPIRES_MILLISECONDS = 120_000
MANY = 10_000
CHARGE_QUEUE = "payment_service.charge"
DUPLICATES = "order_rail_duplicate_deliveries_total"


class NotRunning(Exception):
    """There is no system to visit, or it isn't ready; the message says which part and why."""


class Unexpected(Exception):
    """A call was answered in a way that the contract doesn't allow."""


class SystemAddresses(BrokerSettings):
    """Where everything is; the variables of `.run/environment`."""

    order_service_url: str = Field(min_length=1)
    payment_service_url: str = Field(min_length=1)
    notification_service_url: str = Field(min_length=1)
    operator_token: str = ""

    @property
    def services(self) -> dict[str, str]:
        """Base URL by service."""
        return {
            "order_service": self.order_service_url.rstrip("/"),
            "payment_service": self.payment_service_url.rstrip("/"),
            "notification_service": self.notification_service_url.rstrip("/"),
        }


class System:
    """Use it as `async with visit(addresses) as system`. Calls raise httpx.HTTPError, Unexpected or TopologyError."""

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

    async def _listen(self, order_id: str, on_event: Callable[[], None]) -> None:
        url = f"{self._urls['order_service']}/orders/{order_id}/events"
        with suppress(httpx.HTTPError):
            async with self._http.stream("GET", url, timeout=None) as stream:
                async for line in stream.aiter_lines():
                    if line.startswith("data:"):
                        on_event()

    async def audit(self, service: str) -> AsyncIterator[dict[str, Any]]:
        """Every row of the service's books, oldest first."""
        headers = {"Authorization": f"Bearer {self.addresses.operator_token}"}
        async with self._http.stream("GET", f"{self._urls[service]}/audit", headers=headers) as stream:
            if not stream.is_success:
                await stream.aread()
                raise Unexpected(f"{service} refused GET /audit: {stream.text}. Is OPERATOR_TOKEN right?")
            async for line in stream.aiter_lines():
                if line:
                    yield json.loads(line)

    async def duplicates(self) -> float:
        """How many deliveries of `payment_service.charge` found their work done: the sum over all replicas."""
        url = urlsplit(self._urls["payment_service"])
        port = url.port or (443 if url.scheme == "https" else 80)
        known = await asyncio.get_running_loop().getaddrinfo(
            url.hostname, port, family=socket.AF_INET, type=socket.SOCK_STREAM
        )
        replicas = sorted({address[0] for *_, address in known})
        pages = [await self._http.get(f"{url.scheme}://{ip}:{port}{url.path}/metrics") for ip in replicas]
        return sum(_sample(page.text, DUPLICATES, f'queue="{CHARGE_QUEUE}"') for page in pages)

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


def _sample(page: str, name: str, label: str) -> float:
    """A sample of a page in Prometheus' text format; 0 where it was never counted."""
    lines = (line for line in page.splitlines() if line.startswith(name) and label in line)
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
