"""The shop page in a browser: its form, its words, its layout, and the keyboard."""

import re
from datetime import datetime
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
from tests.browser.conftest import OpenPage, Watch, assert_accessible, assert_fits, assert_focus_is_in_sight
from tests.browser.shop import EMAIL, Shop
from tests.rail import Rail
from tests.support import eventually

CONTROL_ROOM = "http://127.0.0.1:8080"
ENVIRONMENT = {"GATEWAY_LATENCY_SECONDS": "0.02", "CONTROL_ROOM_URL": CONTROL_ROOM}


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
