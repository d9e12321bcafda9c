"""The shop page in a browser: an order is cancelled."""

import re
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from playwright.async_api import expect

from control_room.launcher.system import System
from shared.testing.faults import frozen
from tests.browser.conftest import OpenPage, Watch, assert_accessible, assert_fits
from tests.browser.shop import CUT, Shop
from tests.rail import Rail

ENVIRONMENT = {"GATEWAY_LATENCY_SECONDS": "0.02"}


async def refunds(rail: Rail, order_id: str) -> list[dict[str, Any]]:
    """The amounts that the gateway has paid back for an order."""
    rows = [row for row in await rail.audit("payment_service") if row["kind"] == "charge"]
    return [row["amount"] for row in rows if (row["order_id"], row["type"]) == (order_id, "refund")]


def make_older(order_id: str, system: System) -> None:
    """As if the order had been placed an hour earlier."""
    with closing(sqlite3.connect(system.run.path / "order_service.db")) as database, database:
        older = "UPDATE orders SET placed_at = datetime(placed_at, '-1 hour') WHERE order_id = ?"
        assert database.execute(older, [order_id]).rowcount == 1


@pytest.mark.parametrize("width", [360, 1440])
async def test_a_charged_order_is_cancelled_once_and_paid_back(
    open_page: OpenPage, system: System, rail: Rail, width: int
) -> None:
    shop = Shop(await open_page(viewport={"width": width, "height": 800}), system)
    other = Shop(await shop.page.context.new_page(), system)
    await shop.open()
    await shop.order()
    await shop.until_link("over")
    await other.page.goto(shop.page.url)
    await other.until_link("over")

    await expect(shop.ticket).to_contain_text("It can be cancelled until ")
    await shop.button("Cancel the order").dblclick()
    await expect(shop.dialog).to_contain_text(
        "€9.50 was charged, and goes back to the card. The kitchen is told to stop."
    )
    await expect(shop.dialog.get_by_role("button", name="Keep it")).to_be_focused()
    await assert_accessible(shop.page)
    await assert_fits(shop.page)
    await shop.page.keyboard.press("Escape")
    await expect(shop.button("Cancel the order")).to_be_focused()
    await shop.page.keyboard.press("Enter")
    await shop.dialog.get_by_role("button", name="Cancel the order").dblclick()
    for tab in (shop, other):
        await tab.until("refunded")
        await expect(tab.headline).to_have_text("Cancelled. The money is back on the card.")
        await expect(tab.stations).to_contain_text("Money back")
        await expect(tab.button("Cancel the order")).to_have_count(0)
    await expect(shop.dialog).to_be_hidden()
    await expect(shop.headline).to_be_focused()
    await expect(shop.slips.first).to_contain_text("refunded")
    order = await shop.order_on_the_rail()
    assert order["status"] == "refunded"
    assert await refunds(rail, order["order_id"]) == [order["total"]]


async def test_an_order_that_was_not_charged_is_cancelled_and_never_will_be(
    shop: Shop, rail: Rail, watch: Watch
) -> None:
    watch.expect_complaint(CUT)
    await shop.order("tok_broken")
    await shop.until("stalled")
    await shop.button("Cancel the order").click()
    await expect(shop.dialog).to_contain_text("It could not be charged, and never will be.")
    yes = shop.dialog.get_by_role("button", name="Cancel the order")
    await shop.page.context.set_offline(True)
    await yes.click()
    await expect(shop.dialog.get_by_role("alert")).to_contain_text(
        "Your browser is offline. It may be cancelled all the same"
    )
    await shop.page.context.set_offline(False)
    await yes.click()
    await expect(shop.dialog).to_be_hidden()
    await shop.until("cancelled")
    await expect(shop.headline).to_have_text("Cancelled. Nothing was charged.")
    await expect(shop.stations).to_contain_text("Nothing charged")
    assert await refunds(rail, (await shop.order_on_the_rail())["order_id"]) == []


async def test_an_order_that_waits_is_called_off_at_once_and_settled_later(shop: Shop, system: System) -> None:
    with frozen(system, "payment_service"):
        await shop.order()
        await shop.until_link("live")
        await shop.button("Cancel the order").click()
        await expect(shop.dialog).to_contain_text("Nothing has been charged yet, and nothing will be.")
        await shop.dialog.get_by_role("button", name="Cancel the order").click()
        await shop.until("cancelling")
        await expect(shop.headline).to_have_text("Called off. The money is being settled.")
        await shop.until_stations("done", "done", "waiting", "later")
        await shop.page.reload()
        await shop.until("cancelling")
    await expect(shop.rail).to_have_attribute("data-status", re.compile("cancelled|refunded"))


async def test_a_confirmed_order_past_its_time_says_why_it_is_not_cancelled(
    shop: Shop, system: System, watch: Watch
) -> None:
    watch.expect_complaint("409")
    await shop.order()
    await shop.until_link("over")
    await shop.button("Cancel the order").click()
    make_older((await shop.order_on_the_rail())["order_id"], system)
    yes = shop.dialog.get_by_role("button", name="Cancel the order")
    await yes.click()
    await expect(shop.dialog).to_contain_text("It can't be cancelled any more: that was possible until ")
    await expect(yes).to_be_hidden()
    await shop.dialog.get_by_role("button", name="Close").click()
    await expect(shop.ticket).to_contain_text("It can't be cancelled any more")
    await expect(shop.button("Cancel the order")).to_have_count(0)
    assert (await shop.order_on_the_rail())["status"] == "confirmed"


async def test_a_refund_that_fails_leaves_the_order_visibly_unsettled(shop: Shop) -> None:
    await shop.order("tok_refund_fails")
    await shop.until_link("over")
    await shop.button("Cancel the order").click()
    await shop.dialog.get_by_role("button", name="Cancel the order").click()
    await shop.until("cancelling")
    await expect(shop.rail).to_contain_text("If the bank refuses the refund for good, somebody has to look at it.")
    await shop.until_stations("done", "done", "waiting", "later")
    await expect(shop.slips.first).to_contain_text("cancelling")


async def test_where_the_browser_forbids_storage_an_order_is_placed_and_cancelled(closed_shop: Shop) -> None:
    shop = closed_shop
    await shop.page.add_init_script(
        """const refuse = () => { throw new DOMException("forbidden", "SecurityError"); };
        Object.defineProperty(window, "localStorage", { get: refuse });
        window.BroadcastChannel = refuse;"""
    )
    await shop.open()
    await shop.order()
    await shop.until_link("over")
    await expect(shop.slips).to_have_count(1)
    await shop.button("Cancel the order").click()
    await shop.dialog.get_by_role("button", name="Cancel the order").click()
    await shop.until("refunded")
