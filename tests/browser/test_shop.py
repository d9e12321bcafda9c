"""The shop page in a browser, on the whole system: an order is placed and followed."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from control_room.launcher.system import System
from order_service.orders import OrderStatus
from shared.testing.faults import frozen
from tests.browser.conftest import OpenPage, Watch
from tests.browser.shop import CUT, EMAIL, Shop
from tests.rail import Rail

CONTROL_ROOM = "http://127.0.0.1:8080"
ENVIRONMENT = {"GATEWAY_LATENCY_SECONDS": "0.02", "CONTROL_ROOM_URL": CONTROL_ROOM}
TIMES = "\N{MULTIPLICATION SIGN}"
NO_ORDER = "019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"


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


async def remember(page: Page, orders: list[dict[str, Any]]) -> None:
    """As if they had been placed in this browser; the page must be opened again."""
    await page.evaluate("orders => localStorage.setItem('order-rail.mine', JSON.stringify(orders))", orders)


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
    ("token", "status", "headline", "words", "states", "cancellation"),
    [
        ("tok_declined", "declined", "The card was declined.",
         "The bank said no to this card. Nothing was charged", ["done", "failed", "skipped", "done"],
         "It can't be cancelled: its payment was declined"),
        ("tok_broken", "stalled", "This order is stuck: it could not be charged.",
         "given up after 6 attempts (the gateway answers 503 Service Unavailable)",
         ["done", "stuck", "later", "later"], "Cancel the order"),
    ],
)  # fmt: skip
async def test_an_order_that_is_not_paid_says_why(
    shop: Shop, token: str, status: str, headline: str, words: str, states: list[str], cancellation: str
) -> None:
    await shop.order(token)
    await shop.until(status)
    await expect(shop.headline).to_have_text(headline)
    await expect(shop.rail).to_contain_text(words)
    await shop.until_stations(*states)
    await expect(shop.ticket).to_contain_text(cancellation)
    await expect(shop.button("Cancel the order")).to_have_count(int(status == "stalled"))


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


async def test_an_order_has_an_address_that_can_be_opened_again_and_shared(
    shop: Shop, system: System, open_page: OpenPage
) -> None:
    await shop.order()
    await shop.until_link("over")

    friend = Shop(await open_page(), system)
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
    await closed_shop.open(f"/#/orders/{NO_ORDER}")
    await expect(closed_shop.headline).to_have_text("There is no such order here.")


async def test_earlier_orders_are_those_of_this_browser_until_it_forgets_them(
    shop: Shop, system: System, rail: Rail, open_page: OpenPage
) -> None:
    stranger = Shop(await open_page(), system)
    asked: list[str] = []
    shop.page.on("request", lambda request: asked.append(request.url))
    await rail.place_many(["tok_visa"] * 9)  # nobody's here
    await remember(shop.page, [await shop.order_of(order_id) for order_id in rail.accepted])
    await shop.open()
    await shop.order()
    await shop.until_link("over")

    await expect(shop.slips).to_have_count(8)
    await expect(shop.slips.first).to_contain_text("confirmed")
    await shop.button("More").click()
    await expect(shop.slips).to_have_count(10)
    await expect(shop.slips.nth(8)).to_be_focused()
    await shop.page.keyboard.press("Enter")
    await expect(shop.ticket).to_contain_text(f"2 {TIMES} Cola 0.33 l")
    assert not [
        url for url in asked if re.search(r"/orders(\?|$)", url.removesuffix("#")) and url != f"{shop.url}/orders"
    ]
    await stranger.open()
    await expect(stranger.slips).to_have_count(0)
    await expect(stranger.page.locator("#earlier")).to_contain_text("None yet.")

    await shop.button("Forget them").click()
    dialog = shop.page.get_by_role("dialog", name="Forget these orders?")
    await expect(dialog).to_contain_text("They stay placed.")
    await dialog.get_by_role("button", name="Forget them").click()
    await expect(dialog).to_be_hidden()
    await expect(shop.slips).to_have_count(0)
    await shop.page.reload()
    await expect(shop.page.locator("#earlier")).to_contain_text("None yet.")


async def test_an_order_that_the_service_does_not_know_any_more_is_listed_as_such(
    closed_shop: Shop, rail: Rail, watch: Watch
) -> None:
    watch.expect_complaint("404")
    shop = closed_shop
    await shop.open()
    order = await shop.order_of(await rail.place())
    await remember(shop.page, [{**order, "order_id": NO_ORDER}])
    await shop.open()
    await expect(shop.slips).to_contain_text("not known here")


@pytest.mark.parametrize(
    ("cart", "mine"),
    [
        ({"items": None, "email": 5, "sentAt": "x"}, {"0": "x"}),
        ({"items": {"margherita": "2"}, "key": 7}, [None, {"order_id": NO_ORDER, "total": 5}]),
        ([], "x"),
    ],
)
async def test_what_another_version_has_stored_does_no_harm(shop: Shop, cart: object, mine: object) -> None:
    await shop.page.evaluate(
        "stored => { for (const name in stored) localStorage.setItem(name, JSON.stringify(stored[name])); }",
        {"order-rail.cart": cart, "order-rail.mine": mine},
    )
    await shop.open()
    await expect(shop.page.get_by_label(EMAIL)).to_have_value("ada@example.com")
    await expect(shop.slips).to_have_count(0)
    await shop.order()
    await shop.until_link("over")
    await expect(shop.slips).to_have_count(1)


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
        await expect(shop.trouble).to_contain_text(re.compile("The order service .* Your order is kept"))
        await shop.button("Stop trying").click()
        await expect(shop.trouble).to_contain_text("sent again as it is, it stays one order")
        await shop.page.unroute("**/orders")
        await shop.place_button.click()
        await shop.until_link("over")


async def test_an_order_that_was_called_off_is_sent_by_nothing_but_the_button(
    shop: Shop, system: System, watch: Watch
) -> None:
    watch.expect_complaint(CUT)
    context = shop.page.context
    other, later = [Shop(await context.new_page(), system) for _ in range(2)]
    sent: list[str] = []
    context.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    await context.route("**/orders", abort)
    async with shop.placing():
        await shop.order()
        await other.open()  # it goes on with what the first one has begun
        for tab in (shop, other):
            await expect(tab.trouble).to_contain_text("It cannot be placed twice.")
        await context.set_offline(True)
        await shop.button("Try now").click()
        await expect(shop.trouble).to_contain_text("Your browser ")
        await shop.button("Stop trying").click()
        for tab in (shop, other):
            await expect(tab.trouble).to_contain_text("Stopped. Your order is kept here.")
        await context.set_offline(False)
        await context.unroute("**/orders")
        sent.clear()
        await other.page.reload()
        await later.open()
        for tab in (other, later):
            await expect(tab.trouble).to_contain_text("This order was sent before, and its answer never came.")
        assert not sent
        await later.place_button.click()
        await later.until_link("over")


async def test_an_answer_that_does_not_come_can_be_waited_for_no_longer(shop: Shop) -> None:
    async def never(route: Route) -> None: ...

    async with shop.placing():
        await shop.page.route("**/orders", never, times=1)
        await shop.order()
        await expect(shop.trouble).to_contain_text("There is no answer yet.")
        await shop.button("Stop trying").click()
        await expect(shop.trouble).to_contain_text("Stopped.")
        await shop.place_button.click()
        await shop.until_link("over")


async def test_nothing_is_sent_or_lost_before_the_menu_has_arrived(closed_shop: Shop, watch: Watch) -> None:
    watch.expect_complaint(CUT)
    page, gates = closed_shop.page, {"script": asyncio.Event(), "menu": asyncio.Event()}
    email, place = page.get_by_label(EMAIL), page.locator("#place")

    async def script(route: Route) -> None:
        await gates["script"].wait()
        await route.continue_()

    async def menu(route: Route) -> None:
        await (route.continue_() if gates["menu"].is_set() else route.abort())

    await page.route("**/shop/shop.js", script)
    await page.route("**/menu", menu)
    await page.goto(closed_shop.url, wait_until="commit")
    await email.press_sequentially("bob@example")
    await email.press("Enter")
    await expect(place).to_have_js_property("disabled", True)
    await expect(page.get_by_text("Loading the menu")).to_be_visible()
    gates["script"].set()
    await expect(page.get_by_text("what you type is kept")).to_be_visible()
    await email.press_sequentially(".com")
    await email.press("Enter")
    await expect(place).to_have_js_property("disabled", True)
    gates["menu"].set()
    await expect(closed_shop.button("One more Pizza Margherita")).to_be_visible()
    await expect(email).to_have_value("bob@example.com")
    await expect(place).to_have_js_property("disabled", False)
    assert page.url == f"{closed_shop.url}/"


async def test_enter_in_a_quantity_commits_the_number_and_the_limit_is_said(shop: Shop) -> None:
    quantity = shop.page.get_by_label("How many Pizza Margherita")
    async with shop.placing(0):
        await quantity.fill("101")
        await quantity.press("Enter")
        await expect(quantity).to_have_value("100")
        await expect(quantity).to_have_accessible_description("100 of one dish are the most that an order can have.")
        await expect(shop.place_button).to_have_text("Place order for €950.00")
        await quantity.fill("2")
        await quantity.press("Enter")
        await expect(shop.place_button).to_have_text("Place order for €19.00")
        await expect(quantity).to_have_accessible_description("")
    await expect(shop.rail).to_have_attribute("data-status", "none")


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
            await expect(shop.rail).to_contain_text(re.compile(r"The order service .*\. The order is safe"))
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
        await expect(shop.rail).to_contain_text("There is no live connection")
    await shop.until_link("over")
    await expect(shop.headline).to_contain_text("Confirmed.")
