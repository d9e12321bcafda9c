"""What a chaos run sees of the system: orders in flight, counters across restarts, memory."""

from uuid import UUID

import httpx
import pytest

from control_room.experiments.chaos.watch import (
    MEMORY_WINDOW_SECONDS,
    WARM_AFTER_SECONDS,
    Memory,
    OpenOrders,
    look_at_orders,
)
from control_room.experiments.client import Client
from control_room.operations.addresses import SystemAddresses
from control_room.operations.replicas import Total
from shared.management import Management


def orders(*order_ids: str) -> OpenOrders:
    accepted = OpenOrders()
    for at, order_id in enumerate(order_ids):
        accepted.add(order_id, float(at))
    return accepted


@pytest.mark.parametrize("status", ["confirmed", "declined", "refunded", "cancelled", "stalled"])
def test_an_order_in_its_last_status_is_not_in_flight(status: str) -> None:
    accepted = orders("a", "b")

    accepted.see("a", status)

    assert accepted.ids == {"b"}
    assert accepted.closed == 1


@pytest.mark.parametrize("status", ["placed", "paid"])
def test_an_order_that_is_neither_final_nor_stalled_is_in_flight(status: str) -> None:
    accepted = orders("a")
    accepted.see("a", status)
    assert len(accepted) == 1


def test_an_order_is_closed_once_and_only_if_it_was_accepted() -> None:
    accepted = orders("a")
    for order_id in ("a", "a", "stranger"):
        accepted.see(order_id, "confirmed")
    assert accepted.closed == 1


def test_an_order_that_is_cancelled_is_open_until_it_is_taken_back() -> None:
    accepted = orders("early", "late")
    accepted.see("late", "confirmed")
    for order_id in ("early", "late"):
        accepted.call_off(order_id)
    assert (accepted.ids, accepted.closed) == ({"early", "late"}, 0)

    for status in ("confirmed", "cancelling"):  # a list that was read before the cancellation, and after it
        accepted.see("late", status)
    assert (accepted.ids, accepted.closed) == ({"early", "late"}, 0)

    accepted.see("early", "cancelled")
    accepted.see("late", "refunded")
    assert (accepted.ids, accepted.closed) == (set(), 2)


async def test_open_orders_are_looked_at_down_to_the_oldest_of_them() -> None:
    """The service lists `GET /orders` newest first, 100 a page; some are open, and just now confirmed."""
    listed = [str(UUID(int=number)) for number in range(1000, 0, -1)]
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        page = [order_id for order_id in listed if order_id < request.url.params["after"]][:100]
        shown = [{"order_id": order_id, "status": "confirmed"} for order_id in page]
        return httpx.Response(200, json={"orders": shown, "next": page[-1] if len(page) == 100 else None})

    accepted = orders(*(str(UUID(int=number)) for number in (600, 700, 850, 900)))
    addresses = SystemAddresses(services={"order_service": "http://orders"})
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        for _ in range(2):
            await look_at_orders(Client(addresses, http, Management(addresses)), accepted)

    assert (len(accepted), accepted.closed) == (0, 4)
    assert len(asked) == 4  # from 900 down to 501


def test_the_latest_confirmed_order_is_known_whatever_the_order_of_looks() -> None:
    accepted = orders("a", "b", "c")
    for order_id, status in (("b", "confirmed"), ("a", "confirmed"), ("c", "declined")):
        accepted.see(order_id, status)
    assert accepted.last_confirmed_at == 1.0


def test_a_counter_that_starts_again_with_its_process_is_summed_up() -> None:
    total = Total()
    for value in (3, 5, 5, 2, 4):
        total.see(value)
    assert total.total == 9


def test_memory_is_compared_with_what_it_was_after_warm_up() -> None:
    warm, end = WARM_AFTER_SECONDS, WARM_AFTER_SECONDS + 10 * MEMORY_WINDOW_SECONDS
    measured = [(0.0, 50), (warm, 80), (warm + 1, 70), (warm + 2 * MEMORY_WINDOW_SECONDS, 500), (end, 90)]
    memory = Memory(measured)
    assert (memory.warm, memory.last) == (80, 90)
    assert (Memory(measured[:1]).warm, Memory(measured[:1]).last) == (0, 50)


def test_what_a_service_takes_for_a_quarter_of_a_minute_is_no_growth() -> None:
    minute = [(float(second), 100) for second in range(60)]
    for_a_moment = [(at, 150 if 40 <= at < 55 else size) for at, size in minute]
    for_longer = [(at, 150 if 40 <= at < 56 else size) for at, size in minute]
    assert (Memory(for_a_moment).last, Memory(for_longer).last) == (100, 150)
