"""The quests of the control room, each played by a viewer in a browser; the audit decides."""

import re

from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import assert_accessible, assert_fits
from tests.browser.control_room import group, open_panel, press

END_MILLISECONDS = 60_000


async def begin(page: Page, title: str) -> Locator:
    """The card of a quest that has begun."""
    await open_panel(page, "Quests")
    await press(page, f"Begin: {title}")
    return group(page, f"Quest: {title}")


async def is_at(card: Locator, task: int) -> None:
    await expect(card.locator(".verdict")).to_contain_text(f"task {task} of", timeout=END_MILLISECONDS)


async def is_judged(card: Locator, *seen: str) -> None:
    await expect(card.locator(".verdict")).to_contain_text(re.compile("^As expected"), timeout=END_MILLISECONDS)
    for words in seen:
        await expect(card).to_contain_text(re.compile(words))


async def control(page: Page, action: str, service: str = "payment service") -> None:
    """Do something to a service, and go back to the quests."""
    await open_panel(page, "Process control")
    await press(page, f"{action}: {service}")
    await open_panel(page, "Quests")


async def test_no_order_is_lost_whatever_is_stopped(operators_page: Page) -> None:
    title = "Lose an order if you can"
    card = await begin(operators_page, title)
    await is_at(card, 1)
    await expect(operators_page.get_by_role("button", name="Begin: Charge somebody twice")).to_be_disabled()
    await control(operators_page, "Pause")
    await press(operators_page, f"Place 20 orders: {title}")
    await is_at(card, 3)
    await assert_accessible(operators_page)
    for width in (390, 1280):
        await operators_page.set_viewport_size({"width": width, "height": 900})
        await assert_fits(operators_page)
    await control(operators_page, "Kill, keep down", "order service")
    await control(operators_page, "Resume")
    await control(operators_page, "Start", "order service")
    await is_judged(
        card,
        "20 orders outlived a stop of the order service, the payment service",
        "None is lost",
        "Charged 20 of 20, nobody",
    )


async def test_nobody_is_charged_twice(operators_page: Page) -> None:
    title = "Charge somebody twice"
    card = await begin(operators_page, title)
    await control(operators_page, "Pause")
    await press(operators_page, f"Place 20 orders: {title}")
    await is_at(card, 3)
    await control(operators_page, "Resume")
    await control(operators_page, "Kill")
    await is_judged(card, "Each of 20 orders was charged at most once", "Charged 20 of 20, nobody twice")


async def test_a_full_rail_drains(operators_page: Page) -> None:
    title = "Fill the rail, and let it drain within a minute"
    card = await begin(operators_page, title)
    await control(operators_page, "Pause")
    await press(operators_page, f"Place 200 orders: {title}")
    await is_at(card, 2)
    await control(operators_page, "Resume")
    await is_judged(card, r"200 orders waited, and were gone [\d.]+ m?s after", "Charged 200 of 200")


async def test_a_poisoned_refund_is_mended(operators_page: Page) -> None:
    title = "Make a poison message, and mend it"
    card = await begin(operators_page, title)
    await press(operators_page, f"Place 1 order: {title}")
    await is_at(card, 2)
    await press(operators_page, f"Cancel the latest order: {title}")
    await is_at(card, 3)
    await press(operators_page, f"Mend the bank: {title}")
    await open_panel(operators_page, "Dead letters")
    await operators_page.get_by_role("button", name=re.compile("^Send back")).first.click()
    await open_panel(operators_page, "Quests")
    await is_judged(card, "its order was refunded", "Charged 1 and refunded 1 of 1")


async def test_a_quest_can_be_given_up(operators_page: Page) -> None:
    title = "Lose an order if you can"
    card = await begin(operators_page, title)
    await is_at(card, 1)
    await press(operators_page, f"Give up: {title}")
    await expect(card).to_contain_text("It was stopped")
    await expect(operators_page.get_by_role("button", name=f"Begin: {title}")).to_be_enabled()
