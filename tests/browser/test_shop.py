"""The shop page in a browser, on the whole system: an order is placed and followed."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import Page, Route, expect

from control_room.launcher.system import System
from control_room.operations.addresses import DISCARDS
from control_room.operations.dead_letters import NotDone
from control_room.operations.dead_letters.discard import discard
from control_room.operations.dead_letters.parked import connected
from control_room.operations.dead_letters.redrive import redrive
from control_room.operations.dead_letters.selection import Selection
from order_service.orders import OrderStatus
from tests.browser.conftest import OpenPage, Watch, assert_accessible, assert_fits, assert_focus_is_in_sight
from tests.browser.shop import CUT, Shop
from tests.order_rail import frozen
from tests.rail import Rail
from tests.support import eventually

CONTROL_ROOM = "http://127.0.0.1:8080"
ENVIRONMENT = {"GATEWAY_LATENCY_SECONDS": "0.02", "CONTROL_ROOM_URL": CONTROL_ROOM}
TIMES = "\N{MULTIPLICATION SIGN}"
EMAIL = "Email, for the receipt"
NO_ORDER = "019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"


class DeadLetters:
    """What an operator does with the dead letter of an order's charge; False while there is none."""

    def __init__(self, system: System) -> None:
        self._url, self._journal = system.broker_settings.rabbitmq_url, system.run.path / DISCARDS

    async def redrive(self, order_id: str) -> bool:
        async with connected(self._url) as connection:
            return bool(await redrive(self._url, connection, Selection(id=order_id), 50))

    async def discard(self, order_id: str) -> bool:
        async with connected(self._url) as connection:
            try:
                return bool(await discard(connection, Selection(id=order_id), "a test", self._journal))
            except NotDone:
                return False


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


async def broken_words(page: Page) -> list[str]:
    """The words of the page that do not stand on one line."""
    return await page.evaluate(  # type: ignore[no-any-return]
        """() => {
            const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
            const broken = [];
            while (texts.nextNode()) {
                const range = document.createRange();
                for (const { 0: word, index } of texts.currentNode.data.matchAll(/[\\p{L}\\p{N}]+/gu)) {
                    range.setStart(texts.currentNode, index);
                    range.setEnd(texts.currentNode, index + word.length);
                    const lines = new Set([...range.getClientRects()].map(({ top }) => Math.round(top)));
                    if (lines.size > 1) broken.push(word);
                }
            }
            return broken;
        }"""
    )


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


async def test_an_error_is_shown_at_its_field(shop: Shop, watch: Watch) -> None:
    watch.expect_complaint("422")
    email = shop.page.get_by_label(EMAIL)
    async with shop.placing(0):
        await email.fill("nobody")
        await shop.order()
        await expect(email).to_have_attribute("aria-invalid", "true")
        await expect(email).to_be_focused()
        await expect(email).to_have_accessible_description("Expected an email address such as ada@example.com.")
        await expect(shop.trouble).to_contain_text("Please look at what is marked.")
    await email.fill("ada@example.com")
    await shop.place_button.click()
    await shop.until_link("over")


async def test_numbers_may_be_written_as_people_do_and_a_hint_says_what_is_not_supported(
    shop: Shop, watch: Watch
) -> None:
    watch.expect_complaint("422")
    email, phone = shop.page.get_by_label(EMAIL), shop.page.get_by_label("Mobile number")
    await expect(phone).to_have_accessible_description("With country code, such as +49 151 12345678.")
    await phone.fill("+49 (0)151 123-45678")
    await email.fill("jürgen@example.com")
    await shop.order()
    await expect(email).to_have_accessible_description(re.compile("'ü' is not supported in an email address"))
    await expect(phone).not_to_have_attribute("aria-invalid", "true")
    await email.fill(f"{'j' * 250}@example.com")
    await shop.place_button.click()
    await expect(email).to_have_accessible_description("Expected an email address with at most 254 characters.")
    await email.fill("juergen@example.com")
    await shop.place_button.click()
    await shop.until_link("over")
    await expect(shop.stations).to_contain_text("text message")


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


@pytest.mark.parametrize(("width", "height"), [(360, 640), (1440, 700)])
async def test_what_has_the_focus_is_never_under_the_button_that_sticks(
    open_page: OpenPage, system: System, width: int, height: int
) -> None:
    shop = Shop(await open_page(viewport={"width": width, "height": height}), system)
    await shop.open()
    await shop.button("One more Pizza Margherita").click()
    await assert_focus_is_in_sight(shop.page, "Tab", 45)


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1600)])
async def test_it_fits_the_window_and_axe_finds_nothing(
    open_page: OpenPage, system: System, watch: Watch, scheme: str, width: int
) -> None:
    watch.expect_complaint("422")
    page = await open_page(viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
    shop = Shop(page, system)
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


async def test_times_are_those_of_the_viewers_zone_and_whole_in_a_tooltip(
    open_page: OpenPage, system: System, rail: Rail
) -> None:
    shop = Shop(await open_page(timezone_id="Pacific/Kiritimati", locale="en-US"), system)
    await shop.open()
    await shop.order()
    await shop.until_link("over")
    await shop.page.get_by_text("What was reported").click()

    placed_at = datetime.fromisoformat((await shop.order_on_the_rail())["placed_at"]).astimezone(ZoneInfo("Etc/GMT-14"))
    times = shop.page.locator("main time")
    titles = [await each.get_attribute("title") for each in await times.all()]
    assert len(titles) >= 8
    assert all(title and title.endswith("GMT+14") for title in titles)
    assert placed_at.strftime("%A, %B ") in (titles[0] or "")
    narrow_space = "\N{NARROW NO-BREAK SPACE}"
    clock = placed_at.strftime(f"%-I:%M:%S{narrow_space}%p")
    await expect(shop.ticket.locator("time").first).to_contain_text(clock)
    await expect(shop.slips.first).to_contain_text(clock)
    assert not re.search(r"\bUTC\b|\dZ\b", await shop.page.locator("main").inner_text())


async def test_the_address_of_the_list_shows_the_whole_page_and_goes_to_the_list(closed_shop: Shop) -> None:
    await closed_shop.page.set_viewport_size({"width": 800, "height": 500})
    await closed_shop.open("/#earlier")
    await expect(closed_shop.stations.locator("li")).to_have_count(4)
    await expect(closed_shop.rail).to_contain_text("Pick dishes")
    await expect(closed_shop.page.locator("#earlier-heading")).to_be_in_viewport()


async def test_an_order_may_be_named_in_capitals_and_leads_to_its_story(shop: Shop, rail: Rail) -> None:
    order_id = await rail.place()
    await shop.page.goto(f"{shop.url}/#/orders/{order_id.upper()}")
    await shop.until("confirmed")
    await expect(shop.ticket.get_by_role("link")).to_have_attribute("href", f"{CONTROL_ROOM}/?order={order_id}")
    await expect(shop.page.get_by_role("link", name="Control room", exact=True)).to_have_attribute("href", CONTROL_ROOM)


async def test_a_stuck_order_says_that_it_was_tried_again_and_promises_nothing(shop: Shop, system: System) -> None:
    """It is sent back while its card still never works; then its dead letter is discarded."""
    dead_letters = DeadLetters(system)
    await shop.order("tok_broken")
    await shop.until("stalled")
    await expect(shop.rail).not_to_contain_text("tried again")
    order_id = (await shop.order_on_the_rail())["order_id"]

    await eventually(lambda: dead_letters.redrive(order_id), 20, "its dead letter")
    await expect(shop.rail).to_contain_text(
        re.compile(r"It was tried again, and given up again \d.* s after it was placed\.")
    )
    await expect(shop.ticket).to_contain_text("What was reported (3)")
    await eventually(lambda: dead_letters.discard(order_id), 20, "its dead letter")
    await shop.page.reload()
    await shop.until("stalled")
    await expect(shop.rail).to_contain_text("It goes on only if somebody mends the cause")
    await expect(shop.rail).to_contain_text("once it has been discarded, it never does")


@pytest.mark.parametrize(
    ("token", "words", "attempts"),
    [("tok_flaky", "It pays at the third attempt", 3), ("tok_timeout", "Asked again at the second attempt", 2)],
)
async def test_the_attempts_of_a_card_are_those_of_the_ticket(
    shop: Shop, token: str, words: str, attempts: int
) -> None:
    await shop.order(token)
    await shop.until_link("over")
    await expect(shop.page.locator(".card", has=shop.page.locator(f"#{token}"))).to_contain_text(words)
    paid = next(each for each in (await shop.order_on_the_rail())["timeline"] if each["type"] == "payment.succeeded.v1")
    assert paid["attempts"] == attempts
    await expect(shop.stations.get_by_text(f"at the {('2nd', '3rd')[attempts - 2]} attempt")).to_have_count(1)


async def test_the_menu_stays_in_place_beside_a_ticket(shop: Shop) -> None:
    await shop.page.set_viewport_size({"width": 1440, "height": 900})
    menu = shop.page.get_by_role("heading", name="Menu")
    before = await menu.bounding_box()
    await shop.order()
    await shop.until_link("over")
    after = await menu.bounding_box()
    assert before
    assert after
    assert after["y"] - before["y"] < 60
    await expect(shop.ticket).to_be_in_viewport(ratio=1)
    await expect(shop.place_button).to_be_in_viewport(ratio=1)


async def test_on_a_phone_the_button_is_in_reach_and_no_word_is_broken(open_page: OpenPage, system: System) -> None:
    shop = Shop(await open_page(viewport={"width": 320, "height": 640}, forced_colors="active"), system)
    await shop.open()
    await shop.button("One more Pizza Margherita").click()
    await expect(shop.place_button).to_be_in_viewport(ratio=1)
    assert await broken_words(shop.page) == []
    await assert_fits(shop.page)
    await expect(shop.page.get_by_text("Demo data is filled in.")).to_be_visible()
    border = await shop.place_button.evaluate("button => getComputedStyle(button).borderTopWidth")
    assert border != "0px"  # the shape of a button where colours are the viewer's own
