"""What the scenarios do to a system in common: place orders, wait for them, publish what nobody should."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from control_room.experiments.load import Connections, at_their_times, post
from control_room.experiments.scenarios.scenario import NotSeen
from control_room.experiments.tour.system import System, Unexpected
from control_room.operations.addresses import SystemAddresses
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.message import Message
from shared.messaging.publisher import Publisher

POLL_SECONDS = 0.25
CONNECT_TIMEOUT_SECONDS = 10.0
AT_ONCE = 20
FINAL = ("confirmed", "declined", "cancelled", "refunded")


@dataclass(frozen=True)
class Placed:
    """An accepted order, and how long its customer waited for the answer."""

    order_id: str
    answered_seconds: float


class Customers:
    """They order over kept-alive connections: what they wait for is the service, not a client. Use `customers`."""

    def __init__(self, url: str) -> None:
        self._url, self._connections = f"{url}/orders", Connections(url)

    async def order(self, token: str = "tok_visa") -> Placed:  # noqa: S107 - no secret
        """Place one. Raises AnswerLost, or Unexpected where it is not answered with 202."""
        began = time.perf_counter()
        answer = await self._connections.ask(post(self._url, _body(token), {}))
        if answer.status != 202:
            raise Unexpected(f"an order was answered {answer.status}: {answer.body[:200].decode(errors='replace')}")
        return Placed(json.loads(answer.body)["order_id"], time.perf_counter() - began)

    async def order_at_once(self, tokens: Iterable[str]) -> list[Placed]:
        """Place one for each token, all at the same time. Raises what `order` raises."""
        return list(await asyncio.gather(*(self.order(token) for token in tokens)))

    async def order_at_a_rate(
        self, tokens: Sequence[str], per_second: float, on_order: Callable[[int], None] = lambda _: None
    ) -> list[Placed]:
        """Place one for each token, evenly in time. `on_order` is told how many were. Raises what `order` raises."""
        placed: list[Placed] = []

        async def start(index: int, _due: float) -> None:
            placed.append(await self.order(tokens[index]))
            on_order(len(placed))

        await at_their_times((index / per_second for index in range(len(tokens))), start)
        return placed

    def leave(self) -> None:
        """Close their connections."""
        self._connections.close()


@asynccontextmanager
async def customers(addresses: SystemAddresses) -> AsyncIterator[Customers]:
    """Some customers of the system."""
    some = Customers(addresses.services["order_service"])
    try:
        yield some
    finally:
        some.leave()


def _body(token: str) -> bytes:
    items = [{"sku": "margherita", "quantity": 1}, {"sku": "cola", "quantity": 1}]
    return json.dumps({"customer_email": "scenario@example.com", "items": items, "payment_token": token}).encode()


async def settled(
    system: System,
    order_ids: Collection[str],
    patience_seconds: float,
    on_change: Callable[[int], None] = lambda _: None,
) -> dict[str, dict[str, Any]]:
    """The orders, once each has reached its end; `on_change` is told how many have. Raises NotSeen."""

    def is_over(found: dict[str, Any]) -> bool:
        return found["status"] in FINAL

    return await until(system, order_ids, is_over, patience_seconds, "reached their end", on_change)


async def until(
    system: System,
    order_ids: Collection[str],
    look: Callable[[dict[str, Any]], bool],
    patience_seconds: float,
    what: str,
    on_change: Callable[[int], None] = lambda _: None,
) -> dict[str, dict[str, Any]]:
    """The orders, once `look` is true of each: they have `what`. Raises NotSeen."""
    deadline = time.monotonic() + patience_seconds
    found: dict[str, dict[str, Any]] = {}
    while len(found) < len(order_ids):
        if time.monotonic() > deadline:
            raise NotSeen(f"after {patience_seconds:.0f} s {len(found)} of {len(order_ids)} orders have {what}")
        waiting = [order_id for order_id in order_ids if order_id not in found]
        for some in _in_batches(waiting):
            orders = await asyncio.gather(*(system.order(order_id) for order_id in some))
            found |= {each["order_id"]: each for each in orders if look(each)}
        on_change(len(found))
        await asyncio.sleep(POLL_SECONDS)
    return found


def told_after_seconds(found: dict[str, Any], channel: str) -> float | None:
    """How long after it was placed the order's notification went out; None if it did not."""
    for entry in found["timeline"]:
        if entry["type"] == "notification.delivered.v1" and entry["channel"] == channel:
            return (_time(entry["at"]) - _time(found["placed_at"])).total_seconds()
    return None


async def publish(url: str, messages: Sequence[Message]) -> None:
    """Publish them over AMQP, each confirmed. Raises BrokerUnavailable or PublishError."""
    publisher = Publisher(url, "order-rail scenario")
    await publisher.start()
    try:
        try:
            await asyncio.wait_for(publisher.connected(), CONNECT_TIMEOUT_SECONDS)
        except TimeoutError:
            raise BrokerUnavailable(publisher.problem() or "no connection to publish on") from None
        for error in await publisher.publish_all(messages):
            if error is not None:
                raise error
    finally:
        await publisher.stop()


def _in_batches(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[at : at + AT_ONCE] for at in range(0, len(ids), AT_ONCE)]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
