"""The shop page in a browser, on the whole system."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, Route, expect

from control_room.launcher.system import System
from order_service.orders import OrderStatus
from tests.browser.conftest import OpenPage, Watch, assert_accessible, assert_fits
from tests.order_rail import frozen
from tests.rail import Rail
from tests.support import eventually

ENVIRONMENT = {"GATEWAY_LATENCY_SECONDS": "0.02"}
CUT = "net::ERR_|Failed to load resource"
CARDS = {"tok_visa": "It pays", "tok_declined": "It is declined", "tok_broken": "It never works"}
TIMES = "\N{MULTIPLICATION SIGN}"
EMAIL = "Email, for the receipt"


class Shop:
    """What a customer does on the page, and what the service has recorded."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.rail = page.locator("#rail")
        self.stations = page.locator("#stations")
        self.headline = page.get_by_role("heading", level=1)
        self.ticket = page.get_by_role("article")
        self.trouble = page.get_by_role("alert")
        self.place_button = page.get_by_role("button", name=re.compile("^Place order"))

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
        order_id = await self.rail.get_attribute("data-order")
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
            return (await http.get(self.url + path)).raise_for_status().json()  # type: ignore[no-any-return]


@pytest.fixture
def closed_shop(page: Page, system: System) -> Shop:
    """A shop whose page is not open yet."""
    return Shop(page, system.url("order_service"))


@pytest_asyncio.fixture
async def shop(closed_shop: Shop) -> Shop:
    await closed_shop.open()
    return closed_shop


@asynccontextmanager
async def down(system: System, service: str) -> AsyncIterator[None]:
    """The service is killed, and restarted after this block."""
    await system.processes[service].kill(hold_down=True)
    try:
        yield
    finally:
        system.processes[service].release()


async def lose_answer(route: Route) -> None:
    """The service gets the request, and its answer does not arrive."""
    await route.fetch()
    await route.abort()


async def abort(route: Route) -> None:
    await route.abort()


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element of this name has the focus."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        focused = await page.evaluate(
            "[document.activeElement.ariaLabel, document.activeElement.textContent, document.activeElement.labels?.[0]"
            "?.textContent].map(name => name?.trim())"
        )
        if name in focused:
            return
    pytest.fail(f"Tab never came to {name!r}")


async def test_an_order_moves_along_the_rail_until_it_is_confirmed(shop: Shop) -> None:
    for dish in ("Pizza Margherita", "Pizza Margherita", "Cola 0.33 l"):
        await shop.button(f"One more {dish}").click()
    await expect(shop.place_button).to_have_text("Place order for €22.00")
    await shop.place_button.click()

    await shop.until_link("over")

    await expect(shop.headline).to_have_text("Confirmed. The kitchen knows, and so do you.")
    await shop.until_stations("done", "done", "done", "done")
    for words in (r"Placedin \d+ ms from your click", r"Email after \d+ ms", r"text message after \d+ ms"):
        await expect(shop.stations).to_contain_text(re.compile(words, re.IGNORECASE))
    await expect(shop.ticket).to_contain_text(f"2 {TIMES} Pizza Margherita€19.00")
    order = await shop.order_on_the_rail()
    assert (order["status"], order["total"]["amount_minor"]) == ("confirmed", 2200)
    await expect(shop.page.locator(f'.slip[href$="{order["order_id"]}"]')).to_contain_text("confirmed")
    await expect(shop.page.locator("#cart-empty")).to_be_visible()


@pytest.mark.parametrize(
    ("token", "status", "headline", "words", "states"),
    [
        ("tok_declined", "declined", "The card was declined.",
         "The bank said no to this card. Nothing was charged", ["done", "failed", "skipped", "done"]),
        ("tok_broken", "stalled", "This order is stuck: it could not be charged.",
         "given up after 3 attempts (the gateway answers 503 Service Unavailable)",
         ["done", "stuck", "later", "later"]),
    ],
)  # fmt: skip
async def test_an_order_that_is_not_paid_says_why(
    shop: Shop, token: str, status: str, headline: str, words: str, states: list[str]
) -> None:
    await shop.order(token)
    await shop.until(status)
    await expect(shop.headline).to_have_text(headline)
    await expect(shop.rail).to_contain_text(words)
    await shop.until_stations(*states)


async def test_every_status_has_words_of_its_own(shop: Shop) -> None:
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
    await shop.order()
    await shop.until_link("over")

    friend = Shop(await open_page(), shop.url)
    await friend.page.goto(shop.page.url)
    await friend.until_link("over")
    async with shop.placing(0):
        await shop.page.reload()
        await shop.until_link("over")

    number = await shop.page.locator("#ticket-number").text_content()
    assert number
    await expect(friend.page.locator("#ticket-number")).to_have_text(number)
    await expect(friend.stations).not_to_contain_text("your click")  # it was not theirs
    await expect(shop.stations).to_contain_text("your click")


async def test_an_unknown_order_is_said_to_be_unknown(closed_shop: Shop, watch: Watch) -> None:
    watch.expect_complaint("404")
    await closed_shop.open("/#/orders/019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55")
    await expect(closed_shop.headline).to_have_text("There is no such order here.")


async def test_earlier_orders_can_be_paged_through_and_opened(shop: Shop, rail: Rail) -> None:
    await rail.place_many(["tok_visa"] * 12)
    await shop.page.reload()
    slips = shop.page.locator(".slip")
    await expect(slips).to_have_count(8)

    await shop.button("More").click()
    await expect(slips).not_to_have_count(8)
    await expect(slips.nth(8)).to_be_focused()
    await shop.page.keyboard.press("Enter")

    await shop.until_link("over")
    assert (await shop.order_on_the_rail())["order_id"] == (await shop.orders())[8]
    await expect(shop.ticket).to_contain_text(f"2 {TIMES} Cola 0.33 l")


async def test_a_double_click_places_one_order(shop: Shop) -> None:
    await shop.button("One more Tiramisù").click()
    async with shop.placing():
        await shop.place_button.dblclick()
        await shop.until_link("over")
    await expect(shop.trouble).to_be_hidden()


async def test_a_reload_before_the_answer_places_one_order(shop: Shop) -> None:
    arrived = asyncio.Event()

    async def never_answer(route: Route) -> None:
        await route.fetch()
        arrived.set()

    async with shop.placing():
        await shop.page.route("**/orders", never_answer, times=1)
        await shop.order()
        await arrived.wait()
        await shop.page.reload()
        await shop.until_link("over")
    await expect(shop.ticket).to_contain_text("Duplicates suppressed: 1.")


async def test_a_lost_answer_is_asked_for_with_the_same_key(shop: Shop, watch: Watch) -> None:
    watch.expect_complaint(CUT)
    async with shop.placing():
        await shop.page.route("**/orders", lose_answer)
        await shop.order()
        await expect(shop.trouble).to_contain_text("The order service does not answer. Your order is kept")
        await shop.button("Stop trying").click()
        await expect(shop.trouble).to_contain_text("sent again as it is, it stays one order")
        await shop.page.unroute("**/orders")
        await shop.place_button.click()
        await shop.until_link("over")


async def test_a_changed_cart_is_a_new_order(shop: Shop, watch: Watch) -> None:
    watch.expect_complaint(CUT)
    async with shop.placing(2):
        await shop.page.route("**/orders", abort)
        await shop.order()
        await shop.button("Stop trying").click()
        await shop.page.unroute("**/orders")
        await shop.place_button.click()
        await shop.until_link("over")
        await shop.button("The same again").click()
        await shop.place_button.click()


async def test_a_dead_service_gets_the_order_once_it_is_back(shop: Shop, system: System, watch: Watch) -> None:
    watch.expect_complaint(CUT)
    async with shop.placing():
        async with down(system, "order_service"):
            await shop.order()
            await expect(shop.trouble).to_contain_text("It cannot be placed twice.")
        await shop.until_link("over")
    await expect(shop.trouble).to_be_hidden()


async def test_a_stream_that_was_cut_goes_on(shop: Shop, system: System, watch: Watch) -> None:
    watch.expect_complaint(CUT)
    with frozen(system, "payment_service"):
        await shop.order()
        await shop.until_link("live")
        async with down(system, "order_service"):
            await shop.until_link("away")
            await expect(shop.rail).to_contain_text("The order service does not answer. The order is safe")
        await shop.until_link("live")
    await shop.until_link("over")
    await expect(shop.headline).to_contain_text("Confirmed.")


@pytest.mark.parametrize("kind", ["no EventSource", "no stream comes through"])
async def test_without_a_live_stream_the_page_polls(closed_shop: Shop, system: System, watch: Watch, kind: str) -> None:
    watch.expect_complaint(CUT)
    shop = closed_shop
    if kind == "no EventSource":
        await shop.page.add_init_script("delete window.EventSource")
    else:
        await shop.page.route("**/events", abort)
    await shop.open()
    with frozen(system, "payment_service"):
        await shop.order()
        await expect(shop.rail).to_contain_text("Looking every second or so: there is no live stream.")
    await shop.until_link("over")
    await expect(shop.headline).to_contain_text("Confirmed.")


async def test_an_error_is_shown_at_its_field(shop: Shop, watch: Watch) -> None:
    watch.expect_complaint("422")
    email = shop.page.get_by_label(EMAIL)
    async with shop.placing(0):
        await email.fill("nobody")
        await shop.order()
        await expect(email).to_have_attribute("aria-invalid", "true")
        await expect(email).to_be_focused()
        await expect(email).to_have_accessible_description("Expected an email address such as ada@example.com.")
        await expect(shop.trouble).to_contain_text("Please look at what is marked above.")
    await email.fill("ada@example.com")
    await shop.place_button.click()
    await shop.until_link("over")


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

    async def refuse(route: Route) -> None:
        problem = {"title": "No", "status": status, "detail": "no such luck"}
        await route.fulfill(status=status, json=problem, headers={"Retry-After": "7"})

    await shop.page.route("**/orders", refuse)
    await shop.order()
    await expect(shop.trouble).to_contain_text(words)


async def test_everything_can_be_done_with_the_keyboard(shop: Shop) -> None:
    keyboard = shop.page.keyboard
    await tab_to(shop.page, "One more Lasagne al forno")
    await keyboard.press("Enter")
    await tab_to(shop.page, "It pays")
    await keyboard.press("ArrowDown")
    await expect(shop.page.get_by_role("radio", name="It is declined")).to_be_checked()
    await keyboard.press("Tab")
    await expect(shop.place_button).to_be_focused()
    await keyboard.press("Enter")

    await shop.until_link("over")
    await expect(shop.headline).to_be_focused()
    await expect(shop.headline).to_have_text("The card was declined.")
    await tab_to(shop.page, "The same again")
    await keyboard.press("Enter")
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
    await page.get_by_label(EMAIL).fill("nobody")
    await shop.order("tok_broken")
    await expect(shop.trouble).to_be_visible()
    await assert_fits(page)
    await assert_accessible(page)
    await page.get_by_label(EMAIL).fill("ada@example.com")
    await shop.place_button.click()
    await shop.until("stalled")
    await page.get_by_text("What was reported").click()
    await shop.button("One more Pizza Margherita").click()
    await assert_fits(page)
    await assert_accessible(page)
