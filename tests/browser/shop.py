"""The shop page, as tests use it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from playwright.async_api import Locator, Page, expect

from control_room.launcher.system import System
from tests.support import eventually

EMAIL = "Email, for the receipt"
CUT = "net::ERR_|Failed to load resource"
"""What a browser logs where a connection is cut."""

CARDS = {
    "tok_visa": "It pays",
    "tok_declined": "It is declined",
    "tok_broken": "It never works",
    "tok_refund_fails": "It pays, and a refund fails",
    "tok_flaky": "It pays at the third attempt",
    "tok_timeout": "It pays, but the answer is lost",
}


class Shop:
    """What a customer does on the page, and what the service has recorded."""

    def __init__(self, page: Page, system: System) -> None:
        self.page, self.url = page, system.url("order_service")
        self._operator = {"Authorization": f"Bearer {system.operator_token}"}
        self.rail = page.locator("#rail")
        self.stations = page.locator("#stations")
        self.headline = page.get_by_role("heading", level=1)
        self.ticket = page.get_by_role("article")
        self.trouble = page.get_by_role("alert")
        self.place_button = page.get_by_role("button", name=re.compile("^Place order"))
        self.dialog = page.get_by_role("dialog")
        self.slips = page.locator(".slip")

    async def open(self, path: str = "/") -> None:
        await self.page.goto(self.url + path)
        await expect(self.button("One more Pizza Margherita")).to_be_visible()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    async def order(self, token: str = "tok_visa", dish: str = "Pizza Margherita") -> None:
        """One dish, paid with this card; does not wait for the answer."""
        await self.button(f"One more {dish}").click()
        await self.page.get_by_role("radio", name=CARDS[token], exact=True).check()
        await self.place_button.click()

    async def until(self, status: str) -> None:
        await expect(self.rail).to_have_attribute("data-status", status)

    async def until_link(self, link: str) -> None:
        """How the page follows the order: `live`, `away`, or `over` once nothing more will happen to it."""
        await expect(self.rail).to_have_attribute("data-link", link)

    async def until_stations(self, *states: str) -> None:
        for station, state in enumerate(states):
            await expect(self.stations.locator("li").nth(station)).to_have_attribute("data-state", state)

    async def order_on_the_rail(self) -> dict[str, Any]:
        return await self.order_of((await self.rail.get_attribute("data-order")) or "")

    async def order_of(self, order_id: str) -> dict[str, Any]:
        return await self._get(f"/orders/{order_id}")

    async def orders(self) -> list[str]:
        """The ids of all orders, newest first."""
        return [order["order_id"] for order in (await self._get("/orders?limit=100"))["orders"]]

    @asynccontextmanager
    async def placing(self, count: int = 1) -> AsyncIterator[None]:
        """In this block exactly so many orders are placed."""
        before = len(await self.orders())
        yield

        async def are_placed() -> bool:
            return len(await self.orders()) >= before + count

        await eventually(are_placed, expecting=f"{count} more orders")
        assert len(await self.orders()) == before + count

    async def _get(self, path: str) -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False) as http:
            return (await http.get(self.url + path, headers=self._operator)).raise_for_status().json()  # type: ignore[no-any-return]
