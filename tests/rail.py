"""A client of a running Order Rail: places orders, waits until they are final, compares what the services say."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, Self

import httpx

from control_room.experiments.client import unready
from control_room.operations.roles import FINAL
from tests.support import SERVICES, eventually, metric


class System(Protocol):
    """A system that runs, however it was started."""

    @property
    def operator_token(self) -> str: ...

    def url(self, service: str) -> str: ...


class Rail:
    """Talks to the three services of one system. `accepted` holds the id of every order that was answered with 202."""

    def __init__(self, system: System) -> None:
        self._urls = {name: system.url(name) for name in SERVICES}
        self._operator = {"Authorization": f"Bearer {system.operator_token}"}
        limits = httpx.Limits(max_connections=50, max_keepalive_connections=50)
        self.http = httpx.AsyncClient(timeout=10, limits=limits, trust_env=False)
        self.accepted: list[str] = []

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[Self]:
        """Wait until every service is ready; its connections are closed after the block."""
        async with self.http:
            await self.is_ready()
            yield self

    async def unready(self) -> dict[str, str]:
        """What keeps each service from being ready, by its name; empty if all are."""
        return await unready(self.http, self._urls)

    async def is_ready(self) -> None:
        """Wait until every service is ready."""

        async def all_are_ready() -> bool:
            problems = await self.unready()
            assert not problems, problems
            return True

        await eventually(all_are_ready, 60, "every service to be ready")

    async def place(self, token: str = "tok_visa") -> str:
        """The id of a new order. Raises `httpx.HTTPError` where there is no 202."""
        body = {
            "customer_email": "ada@example.com",
            "customer_phone": "+4915112345678",
            "items": [{"sku": "margherita", "quantity": 1}, {"sku": "cola", "quantity": 2}],
            "payment_token": token,
        }
        answer = await self.http.post(f"{self._urls['order_service']}/orders", json=body)
        answer.raise_for_status()
        assert answer.status_code == httpx.codes.ACCEPTED
        order_id: str = answer.json()["order_id"]
        self.accepted.append(order_id)
        return order_id

    async def cancel(self, order_id: str) -> str:
        """The status of an order that is cancelled now. Raises `httpx.HTTPError` where there is no 202."""
        answer = await self.http.post(f"{self._urls['order_service']}/orders/{order_id}/cancel")
        status: str = answer.raise_for_status().json()["status"]
        return status

    async def place_many(self, tokens: Iterable[str]) -> list[str]:
        """Place them at the same time; returns those that were accepted while a service may be dying."""
        answers = await asyncio.gather(*(self.place(token) for token in tokens), return_exceptions=True)
        return [answer for answer in answers if isinstance(answer, str)]

    @asynccontextmanager
    async def under_load(self, tokens: Sequence[str]) -> AsyncIterator[None]:
        """Orders are placed while the block runs; as it begins half are accepted, and some of those are not final."""
        placing = asyncio.create_task(self.place_many(tokens))
        await eventually(lambda: len(self.accepted) >= len(tokens) // 2, expecting="half of the orders to be accepted")
        assert await self.in_flight() > 0
        yield
        await placing

    async def order(self, order_id: str) -> dict[str, Any]:
        return (await self.http.get(f"{self._urls['order_service']}/orders/{order_id}")).raise_for_status().json()  # type: ignore[no-any-return]

    async def audit(self, service: str) -> list[dict[str, Any]]:
        """Every row of a service's audit stream."""
        answer = await self.http.get(f"{self._urls[service]}/audit", headers=self._operator)
        return [json.loads(line) for line in answer.raise_for_status().text.splitlines()]

    async def fail_gateway(self, seconds: float) -> None:
        """Let the simulated gateway fail for so many seconds from now on; 0 ends it."""
        url = f"{self._urls['payment_service']}/simulated-gateway/outage"
        (await self.http.put(url, params={"seconds": seconds}, headers=self._operator)).raise_for_status()

    async def metric(self, service: str, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        return metric((await self.http.get(f"{self._urls[service]}/metrics")).raise_for_status().text, name, **labels)

    async def statuses(self) -> dict[str, str]:
        """The status of every accepted order."""
        rows = {row["order_id"]: row["status"] for row in await self.audit("order_service")}
        return {order_id: rows.get(order_id, "lost") for order_id in self.accepted}

    async def have(self, expected: Mapping[str, str]) -> bool:
        """Whether the accepted orders have these statuses; for `eventually`."""
        statuses = await self.statuses()
        assert statuses == expected
        return True

    async def in_flight(self) -> int:
        """How many accepted orders are not final."""
        return sum(status not in FINAL for status in (await self.statuses()).values())

    async def until(self, order_ids: Iterable[str], status: str, timeout_seconds: float = 60) -> None:
        """Wait until each of these accepted orders has this status."""

        async def look() -> bool:
            statuses = await self.statuses()
            assert {statuses[order_id] for order_id in order_ids} == {status}
            return True

        await eventually(look, timeout_seconds, f"orders to be {status}")

    async def all_final(self, timeout_seconds: float = 60) -> None:
        """Wait until every accepted order is final."""

        async def look() -> bool:
            try:
                statuses = await self.statuses()
            except httpx.HTTPError as error:
                raise AssertionError(f"the order service does not answer: {error!r}") from error
            open_orders = {order_id: status for order_id, status in statuses.items() if status not in FINAL}
            assert not open_orders, f"{len(open_orders)} open: {dict(list(open_orders.items())[:3])}"
            return True

        await eventually(look, timeout_seconds, "every order to be final")

    async def reconcile(self) -> None:
        """Wait until every accepted order is final; the paid ones have one charge over their total, the others none."""
        await self.all_final()
        await self.is_ready()  # a service that died while it worked on the last order may be starting
        orders = {row["order_id"]: row for row in await self.audit("order_service")}
        payments = await self.audit("payment_service")
        charges = Counter(row["order_id"] for row in payments if row["kind"] == "charge")
        amounts = {row["order_id"]: row["amount"] for row in payments if row["kind"] == "charge"}
        for order_id in self.accepted:
            status = orders[order_id]["status"]
            assert status in FINAL, f"{order_id} is {status}"
            assert charges[order_id] == (1 if status == "confirmed" else 0), f"{order_id}: {charges[order_id]} charges"
            if status == "confirmed":
                assert amounts[order_id] == orders[order_id]["total"], order_id
        notified = Counter(
            (row["order_id"], row["channel"], row["notice"]) for row in await self.audit("notification_service")
        )
        assert set(notified.values()) <= {1}  # none yet where every answer was lost
