"""The shop page in a browser, on the whole system."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, Route, expect

from control_room.launcher.system import System
from order_service.orders import OrderStatus
from tests.browser.conftest import OpenPage, Watch, assert_accessible, assert_fits
from tests.support import eventually

ENVIRONMENT = {"GATEWAY_LATENCY_SECONDS": "0.02"}
CUT = "net::ERR_|Failed to load resource"
CARDS = {"tok_visa": "It pays", "tok_declined": "It is declined", "tok_broken": "It never works"}
TIMES = "\N{MULTIPLICATION SIGN}"


class Shop:
    """What a customer does on the page, and what the service has in its books."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.rail = page.locator("#rail")
        self.headline = page.get_by_role("heading", level=1)
        self.trouble = page.get_by_role("alert")

    async def open(self, path: str = "/") -> None:
        await self.page.goto(self.url + path)
        await expect(self.page.get_by_role("button", name="One more Pizza Margherita")).to_be_visible()

    async def add(self, dish: str, times: int = 1) -> None:
        for _ in range(times):
            await self.page.get_by_role("button", name=f"One more {dish}").click()

    async def pay_with(self, token: str) -> None:
        await self.page.get_by_role("radio", name=CARDS[token], exact=True).check()

    @property
    def place_button(self) -> Any:
        return self.page.get_by_role("button", name=re.compile("^Place order"))

    async def order(self, token: str = "tok_visa") -> None:
        """A margherita, paid with this card; does not wait for anything."""
        await self.add("Pizza Margherita")
        await self.pay_with(token)
        await self.place_button.click()

    async def until(self, status: str) -> None:
        await expect(self.rail).to_have_attribute("data-status", status)

    async def until_over(self) -> None:
        """Nothing more will happen to the order on the rail."""
        await expect(self.rail).to_have_attribute("data-link", "over")

    async def station_states(self) -> list[str | None]:
        stations = await self.page.locator("#stations li").all()
        return [await station.get_attribute("data-state") for station in stations]

    async def order_on_the_rail(self) -> dict[str, Any]:
        order_id = await self.rail.get_attribute("data-order")
        return await self._ask(f"/orders/{order_id}")

    async def orders(self) -> list[str]:
        """The ids of all orders, newest first."""
        return [order["order_id"] for order in (await self._ask("/orders?limit=100"))["orders"]]

    async def _ask(self, path: str) -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False) as http:
            return (await http.get(self.url + path)).raise_for_status().json()  # type: ignore[no-any-return]


@pytest.fixture
def shop(page: Page, system: System) -> Shop:
    return Shop(page, system.url("order_service"))


async def test_an_order_moves_along_the_rail_until_it_is_confirmed(shop: Shop) -> None:
    await shop.open()
    await shop.add("Pizza Margherita", 2)
    await shop.add("Cola 0.33 l")
    await expect(shop.place_button).to_have_text("Place order for €22.00")
    await shop.place_button.click()

    await shop.until_over()

    await expect(shop.headline).to_have_text("Confirmed. The kitchen knows, and so do you.")
    assert await shop.station_states() == ["done"] * 4
    for words in (r"Placedin \d+ ms from your click", r"Email after \d+ ms", r"text message after \d+ ms"):
        await expect(shop.page.locator("#stations")).to_contain_text(re.compile(words, re.IGNORECASE))
    await expect(shop.page.get_by_role("article")).to_contain_text(f"2 {TIMES} Pizza Margherita€19.00")
    order = await shop.order_on_the_rail()
    assert (order["status"], order["total"]["amount_minor"]) == ("confirmed", 2200)
    await expect(shop.page.locator(f'.slip[href$="{order["order_id"]}"]')).to_contain_text("confirmed")
    await expect(shop.page.locator("#cart-empty")).to_be_visible()


async def test_a_declined_card_reads_as_a_person_would_say_it(shop: Shop) -> None:
    await shop.open()
    await shop.order("tok_declined")

    await shop.until_over()

    await expect(shop.headline).to_have_text("The card was declined.")
    await expect(shop.rail).to_contain_text("The bank said no to this card. Nothing was charged")
    assert await shop.station_states() == ["done", "failed", "skipped", "done"]


async def test_an_order_that_cannot_be_charged_reads_as_stuck(shop: Shop) -> None:
    await shop.open()
    await shop.order("tok_broken")

    await shop.until("stalled")

    await expect(shop.headline).to_have_text("This order is stuck: it could not be charged.")
    await expect(shop.rail).to_contain_text("given up after 3 attempts (the gateway answers 503 Service Unavailable)")
    assert await shop.station_states() == ["done", "stuck", "later", "later"]


async def test_every_status_has_words_of_its_own(shop: Shop) -> None:
    await shop.open()
    placed_at = "2026-01-01T12:00:00Z"
    orders = [{"status": status, "placed_at": placed_at, "timeline": []} for status in OrderStatus]

    headlines = await shop.page.evaluate(
        """async orders => {
            const { Story } = await import("/shop/story.js");
            return orders.map(order => new Story(order).headline);
        }""",
        orders,
    )

    assert len(set(headlines)) == len(OrderStatus)
    assert not [text for text in headlines if re.fullmatch(r"This order is \w+\.", text)]


async def test_an_order_has_an_address_that_can_be_opened_again_and_shared(shop: Shop, open_page: OpenPage) -> None:
    await shop.open()
    await shop.order()
    await shop.until_over()

    friend = Shop(await open_page(), shop.url)
    await friend.page.goto(shop.page.url)
    await friend.until_over()
    await shop.page.reload()
    await shop.until_over()

    number = await shop.page.locator("#ticket-number").text_content()
    assert number
    await expect(friend.page.locator("#ticket-number")).to_have_text(number)
    await expect(friend.page.locator("#stations")).not_to_contain_text("your click")  # it was not theirs
    await expect(shop.page.locator("#stations")).to_contain_text("your click")


async def test_an_unknown_order_is_said_to_be_unknown(shop: Shop, watch: Watch) -> None:
    watch.expect_complaint("404")

    await shop.open("/#/orders/019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55")

    await expect(shop.headline).to_have_text("There is no such order here.")


async def test_earlier_orders_can_be_paged_through_and_opened(shop: Shop) -> None:
    await shop.open()
    async with httpx.AsyncClient(trust_env=False) as http:
        for _ in range(12):
            body = {"customer_email": "ada@example.com", "items": [{"sku": "cola", "quantity": 1}]}
            (await http.post(f"{shop.url}/orders", json=body)).raise_for_status()
    await shop.page.reload()
    slips = shop.page.locator(".slip")
    await expect(slips).to_have_count(8)

    await shop.page.get_by_role("button", name="More", exact=True).click()
    await expect(slips).not_to_have_count(8)
    await expect(slips.nth(8)).to_be_focused()
    await shop.page.keyboard.press("Enter")

    await shop.until_over()
    assert (await shop.order_on_the_rail())["order_id"] == (await shop.orders())[8]
    await expect(shop.page.get_by_role("article")).to_contain_text(f"1 {TIMES} Cola 0.33 l")


async def test_a_double_click_places_one_order(shop: Shop) -> None:
    await shop.open()
    await shop.add("Tiramisù")
    before = await shop.orders()

    await shop.place_button.dblclick()

    await shop.until_over()
    assert len(await shop.orders()) == len(before) + 1
    await expect(shop.trouble).to_be_hidden()


async def test_a_reload_while_the_answer_is_on_its_way_places_one_order(shop: Shop) -> None:
    await shop.open()
    before = await shop.orders()

    arrived = asyncio.Event()

    async def lose_the_answer(route: Route) -> None:
        await route.fetch()  # the service has the order; the page will never hear of it
        arrived.set()

    await shop.page.route("**/orders", lose_the_answer, times=1)
    await shop.order()
    await arrived.wait()
    await shop.page.reload()

    await shop.until_over()
    assert len(await shop.orders()) == len(before) + 1
    await expect(shop.page.get_by_role("article")).to_contain_text("Duplicates suppressed: 1.")


async def test_a_reload_afterwards_places_nothing(shop: Shop) -> None:
    await shop.open()
    await shop.order()
    await shop.until_over()
    placed = await shop.orders()

    await shop.page.reload()
    await shop.until_over()

    assert await shop.orders() == placed


async def test_an_answer_that_never_came_is_asked_for_with_the_same_key(shop: Shop, watch: Watch) -> None:
    watch.expect_complaint(CUT)
    await shop.open()
    before = await shop.orders()

    async def cut_the_answer(route: Route) -> None:
        await route.fetch()
        await route.abort()

    await shop.page.route("**/orders", cut_the_answer)
    await shop.order()
    await expect(shop.trouble).to_contain_text("The order service does not answer. Your order is kept")
    await shop.page.get_by_role("button", name="Stop trying").click()
    await expect(shop.trouble).to_contain_text("sent again as it is, it stays one order")
    await shop.page.unroute("**/orders")
    await shop.place_button.click()

    await shop.until_over()
    assert len(await shop.orders()) == len(before) + 1


async def test_a_changed_cart_is_a_new_order(shop: Shop, watch: Watch) -> None:
    watch.expect_complaint(CUT)
    await shop.open()
    before = await shop.orders()
    await shop.page.route("**/orders", lambda route: route.abort())
    await shop.order()
    await shop.page.get_by_role("button", name="Stop trying").click()
    await shop.page.unroute("**/orders")
    await shop.place_button.click()
    await shop.until_over()

    await shop.page.get_by_role("button", name="The same again").click()
    await shop.place_button.click()

    await eventually(lambda: has_more(shop, before, 2), expecting="two orders")


async def test_a_dead_service_takes_the_order_by_itself_once_it_is_back(
    shop: Shop, system: System, watch: Watch
) -> None:
    watch.expect_complaint(CUT)
    await shop.open()
    before = await shop.orders()
    async with down(system, "order_service"):
        await shop.order()
        await expect(shop.trouble).to_contain_text("It cannot be placed twice.")

    await shop.until_over()
    await expect(shop.trouble).to_be_hidden()
    assert len(await shop.orders()) == len(before) + 1


async def test_a_stream_that_was_cut_goes_on(shop: Shop, system: System, watch: Watch) -> None:
    watch.expect_complaint(CUT)
    await shop.open()
    with frozen(system, "payment_service"):
        await shop.order()
        await expect(shop.rail).to_have_attribute("data-link", "live")
        async with down(system, "order_service"):
            await expect(shop.rail).to_have_attribute("data-link", "away")
            await expect(shop.rail).to_contain_text("The order service does not answer. The order is safe")
        await expect(shop.rail).to_have_attribute("data-link", "live")

    await shop.until_over()
    await expect(shop.headline).to_contain_text("Confirmed.")


@pytest.mark.parametrize("kind", ["no EventSource", "no stream comes through"])
async def test_without_the_live_stream_the_page_looks_again_and_again(
    shop: Shop, system: System, watch: Watch, kind: str
) -> None:
    watch.expect_complaint(CUT)
    if kind == "no EventSource":
        await shop.page.add_init_script("delete window.EventSource")
    else:
        await shop.page.route("**/events", lambda route: route.abort())
    await shop.open()
    with frozen(system, "payment_service"):
        await shop.order()
        await expect(shop.rail).to_contain_text("Looking every second or so: there is no live stream.")

    await shop.until_over()
    await expect(shop.headline).to_contain_text("Confirmed.")


async def test_what_is_wrong_is_said_at_its_field(shop: Shop, watch: Watch) -> None:
    watch.expect_complaint("422")
    await shop.open()
    before = await shop.orders()
    email = shop.page.get_by_label("Email, for the receipt")
    await email.fill("nobody")

    await shop.order()

    await expect(email).to_have_attribute("aria-invalid", "true")
    await expect(email).to_be_focused()
    await expect(email).to_have_accessible_description("Expected an email address such as ada@example.com.")
    await expect(shop.trouble).to_contain_text("Please look at what is marked above.")
    assert await shop.orders() == before
    await email.fill("ada@example.com")
    await shop.place_button.click()
    await shop.until_over()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (413, "This order is too large to be taken at once. Please make two of it."),
        (409, "That is not possible any more: no such luck."),
        (429, "Too many orders arrive at the moment. Your order is kept, and is sent again in 7 seconds."),
        (503, "The shop cannot take orders for a moment. Nothing was ordered."),
    ],
)
async def test_a_refusal_reads_well(shop: Shop, watch: Watch, status: int, words: str) -> None:
    watch.expect_complaint(str(status))
    await shop.open()

    async def refuse(route: Route) -> None:
        problem = {"title": "No", "status": status, "detail": "no such luck"}
        await route.fulfill(status=status, json=problem, headers={"Retry-After": "7"})

    await shop.page.route("**/orders", refuse)
    await shop.order()
    await expect(shop.trouble).to_contain_text(words)


async def test_everything_can_be_done_with_the_keyboard(shop: Shop) -> None:
    await shop.open()
    await tab_to(shop.page, "One more Lasagne al forno")
    await shop.page.keyboard.press("Enter")
    await tab_to(shop.page, "It pays")
    await shop.page.keyboard.press("ArrowDown")
    await expect(shop.page.get_by_role("radio", name="It is declined")).to_be_checked()
    await shop.page.keyboard.press("Tab")
    await expect(shop.place_button).to_be_focused()
    await shop.page.keyboard.press("Enter")

    await shop.until_over()
    await expect(shop.headline).to_be_focused()
    await expect(shop.headline).to_have_text("The card was declined.")
    await tab_to(shop.page, "The same again")
    await shop.page.keyboard.press("Enter")
    await expect(shop.place_button).to_have_text("Place order for €12.00")


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1600)])
async def test_it_fits_the_window_and_axe_finds_nothing(
    open_page: OpenPage, system: System, watch: Watch, scheme: str, width: int
) -> None:
    watch.expect_complaint("422")
    page = await open_page(viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
    shop = Shop(page, system.url("order_service"))

    await shop.open()
    await assert_fits(page)
    await page.get_by_label("Email, for the receipt").fill("nobody")
    await shop.order("tok_broken")
    await expect(shop.trouble).to_be_visible()
    await assert_fits(page)
    await assert_accessible(page)
    await page.get_by_label("Email, for the receipt").fill("ada@example.com")
    await shop.place_button.click()
    await shop.until("stalled")
    await page.get_by_text("What was reported").click()
    await shop.add("Pizza Margherita")
    await assert_fits(page)
    await assert_accessible(page)


@contextmanager
def frozen(system: System, service: str) -> Iterator[None]:
    """The service holds still, so that orders stay where they are."""
    os.kill(system.processes[service].pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(system.processes[service].pid, signal.SIGCONT)


async def has_more(shop: Shop, before: list[str], more: int = 1) -> bool:
    return len(await shop.orders()) == len(before) + more


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has the focus is called so."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        focused = await page.evaluate(
            "[document.activeElement.ariaLabel, document.activeElement.textContent, document.activeElement.labels?.[0]"
            "?.textContent].map(name => name?.trim())"
        )
        if name in focused:
            return
    pytest.fail(f"Tab never came to {name!r}")


@asynccontextmanager
async def down(system: System, service: str) -> AsyncIterator[None]:
    """The service was killed, and is not started again meanwhile."""
    await system.processes[service].kill(hold_down=True)
    try:
        yield
    finally:
        system.processes[service].release()
