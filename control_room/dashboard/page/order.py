"""An order: its whole history across the services, by its id."""

from datetime import datetime
from typing import Any

import httpx
from nicegui import ui

from control_room.dashboard.page.parts import button, card, text, title
from control_room.dashboard.page.room import Room
from control_room.operations.causal_order import Entry
from control_room.operations.order_history import NoSuchOrder, OrderHistory, check, order_history
from control_room.operations.roles import ORDERS
from shared.messaging.channel import BrokerUnavailable

HINT = "Every publish, attempt, duplicate, retry and dead letter of one order, from all services, in one line of time."
LATEST = 8
FAILURES = (NoSuchOrder, BrokerUnavailable, httpx.HTTPError)


class OrderStory:
    """Ask for an order by its id, or pick one of the latest."""

    def __init__(self, room: Room, order_id: str) -> None:
        self._room = room
        with card("An order", HINT, "order"):
            with ui.element("div").classes("ask"):
                self._id = (
                    ui.input("Order id", value=order_id).props("dense outlined").on("keydown.enter", self._show_history)
                )
                button("Show its history", self._show_history)
                button("Latest orders", self._list, kind="plain")
            self._latest = ui.element("div").classes("latest")
            self._answer = ui.element("div").props("role=status")
        if order_id:
            ui.timer(0.1, self._show_history, once=True)

    async def _show_history(self) -> None:
        order_id = (self._id.value or "").strip().lower()
        if not order_id:
            self._say("Which order? Enter its id, or pick one of the latest.")
            return
        try:
            check(order_id)
            letters = await self._room.dead_letters.about(order_id)
            history = await order_history(self._room.addresses, order_id, letters)
        except FAILURES as error:
            self._say(str(error) or type(error).__name__)
            return
        self._answer.clear()
        with self._answer:
            _draw(history)

    async def _list(self) -> None:
        addresses = self._room.addresses
        url = f"{addresses.services[ORDERS.name]}/orders"
        headers = {"Authorization": f"Bearer {addresses.operator_token}"}
        try:
            async with httpx.AsyncClient(trust_env=False, headers=headers) as http:
                answer = await http.get(url, params={"limit": LATEST})
            orders = answer.raise_for_status().json()["orders"]
        except httpx.HTTPError as error:
            self._say(f"The {ORDERS.title.lower()} does not answer ({type(error).__name__}).")
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

        at = datetime.fromisoformat(order["placed_at"])
        button(f"{at:%H:%M:%S} {order['status']}", choose, kind="plain", name=f"Order {order['order_id']}")

    def _say(self, sentence: str) -> None:
        self._answer.clear()
        with self._answer:
            text(sentence, "note", tag="p")


def _draw(history: OrderHistory) -> None:
    text(f"{history.status}, {history.total}", "name", tag="h3")
    text(history.order_id, "code")
    for gap in history.gaps:
        text(gap, "note", tag="p")
    with ui.element("ol").classes("history"):
        for entry in history.entries:
            _draw_entry(entry, history.entries[0].at)


def _draw_entry(entry: Entry, began: datetime) -> None:
    with ui.element("li").classes(entry.state):
        text(f"+{(entry.at - began).total_seconds():.3f} s", "at")
        with ui.element("div"):
            text(entry.what, "what")
            text(title(entry.source), "hint")
