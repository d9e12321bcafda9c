"""An order: its whole history across the services, by its id or the number of its ticket."""

import re
from datetime import datetime
from typing import Any

import httpx
from nicegui import ui

from control_room.dashboard.page.panel import Panel
from control_room.dashboard.page.parts import LocalTimes, Page, button, card, link, text
from control_room.dashboard.words import capital, phrase, plainly, stamp, title, without_class
from control_room.operations.causal_order import Entry
from control_room.operations.order_history import NoSuchOrder, OrderHistory, check, order_history
from control_room.operations.roles import ORDERS
from shared.messaging.channel import BrokerUnavailable

HINT = "Every publish, attempt, duplicate, retry and dead letter of one order, from all services, in one line of time."
QUERY = "order"
LATEST = 8
SEARCHED, PAGE_LENGTH = 1000, 100
TICKET = re.compile("[0-9a-f]{6}")
"""The number on a ticket of the shop: the end of an order's id."""


class OrderStory:
    """Ask for an order by its id or ticket, or pick one of the latest. Only operators see the ids of others' orders."""

    def __init__(self, page: Page) -> None:
        self._page, self._room = page, page.room
        asked = page.asked.get(QUERY, "")
        with card("An order", HINT, "order"):
            with ui.element("div").classes("ask"):
                self._id = ui.input("Order id or ticket number", value=asked).props("dense outlined")
                self._id.on("keydown.enter", self._show_history)
                button("Show its history", self._show_history)
                page.button("Latest orders", self._list, kind="plain")
            self._latest = ui.element("div").classes("latest")
            self._answer = ui.element("div").props("role=status")
        if asked:
            ui.timer(0.1, self._show_asked, once=True)

    async def _show_asked(self) -> None:
        """The order that the address names, once the page is there."""
        await self._show_history()
        self._page.open_panel("order")

    async def _show_history(self) -> None:
        asked = (self._id.value or "").strip().lower().removeprefix("no.").strip()
        if not asked:
            self._say("Which order? Enter its id or the number of its ticket, or pick one of the latest.")
            return
        try:
            order_id = await self._order_id(asked)
            letters = await self._room.dead_letters.about(order_id)
            history = await order_history(self._room.addresses, order_id, letters, self._discards(order_id))
        except NoSuchOrder as error:
            self._say(str(error))
        except BrokerUnavailable:
            self._say("RabbitMQ is down, so the order's dead letters can't be read. Ask again once it is back.")
        except httpx.HTTPError:
            self._say(f"{capital(phrase(ORDERS.name))} does not answer. Ask again once it runs.")
        else:
            self._answer.clear()
            with self._answer:
                _draw(history, self._room.page_url(ORDERS))

    def _discards(self, order_id: str) -> list[dict[str, Any]]:
        """Without an operator's reasons for viewers who are none: a customer knows the id of an order, too."""
        found = self._room.dead_letters.discarded(order_id)
        return found if self._page.may_act else [{**line, "because": ""} for line in found]

    async def _order_id(self, asked: str) -> str:
        """The id of the order that was asked for. Raises NoSuchOrder, httpx.HTTPError."""
        if not TICKET.fullmatch(asked):
            check(asked)
            return asked
        if not self._page.may_act:
            raise NoSuchOrder("Only operators can look an order up by its ticket number: enter its whole id.")
        found, after = [], ""
        for _ in range(0, SEARCHED, PAGE_LENGTH):
            answer = await self._orders({"limit": PAGE_LENGTH} | ({"after": after} if after else {}))
            found += [order["order_id"] for order in answer["orders"] if order["order_id"].endswith(asked)]
            if found or not (after := answer.get("next") or ""):
                break
        if not found:
            raise NoSuchOrder(f"None of the latest {SEARCHED:,} orders has the ticket number {asked.upper()}.")
        return str(found[0])

    async def _orders(self, query: dict[str, Any]) -> dict[str, Any]:
        """A page of all orders, which only operators may list. Raises httpx.HTTPError."""
        addresses = self._room.addresses
        async with httpx.AsyncClient(trust_env=False, headers=addresses.operator_headers) as http:
            answer = await http.get(f"{addresses.services[ORDERS.name]}/orders", params=query)
        orders: dict[str, Any] = answer.raise_for_status().json()
        return orders

    async def _list(self) -> None:
        try:
            orders = (await self._orders({"limit": LATEST}))["orders"]
        except httpx.HTTPError:
            self._say(f"{capital(phrase(ORDERS.name))} does not answer. Ask again once it runs.")
            return
        self._latest.clear()
        with self._latest:
            for order in orders:
                self._draw_choice(order)
        if not orders:
            self._say("There are no orders yet.")

    def _draw_choice(self, order: dict[str, Any]) -> None:
        async def choose() -> None:
            self._id.set_value(order["order_id"])
            await self._show_history()

        with button("", choose, kind="plain", name=f"Order {order['order_id']}"):
            LocalTimes(f"{order['placed_at']} {order['status']}", tag="span")

    def _say(self, sentence: str) -> None:
        self._answer.clear()
        with self._answer:
            text(sentence, "note", tag="p")


def _draw(history: OrderHistory, shop_url: str) -> None:
    text(f"{capital(history.status)}, {history.total}", "name", tag="h3")
    text(history.order_id, "code")
    link("Its ticket in the shop", f"{shop_url}/#/orders/{history.order_id}")
    if history.entries:
        LocalTimes(f"Placed {stamp(history.entries[0].at)}", "hint")
    for gap in history.gaps:
        LocalTimes(capital(plainly(gap)), "note", tag="p")
    with ui.element("ol").classes("history"):
        for entry in history.entries:
            _draw_entry(entry, history.entries[0].at)


def _draw_entry(entry: Entry, began: datetime) -> None:
    with ui.element("li").classes(entry.state):
        LocalTimes(stamp(entry.at), "at", label=f"+{(entry.at - began).total_seconds():.3f} s")
        with ui.element("div"):
            text(without_class(entry.what), "what")
            text(title(entry.source), "hint")


PANEL = Panel("order", "An order", OrderStory, query=QUERY)
