"""The control room in a browser, on the whole system."""

import json
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from control_room.launcher.command import page as control_room
from control_room.launcher.ports import CONTROL_ROOM
from control_room.launcher.system import System
from control_room.operations.addresses import DISCARDS
from shared.management import Management
from tests.browser.conftest import OpenPage, assert_accessible, assert_fits
from tests.rail import Rail
from tests.support import eventually

START_SECONDS = 60
NO_ORDER = "00000000-0000-7000-8000-000000000000"


@pytest_asyncio.fixture(scope="module")
async def address(system: System) -> AsyncIterator[str]:
    """Where the control room of `system` is."""
    async with control_room(system):
        yield system.url_of(system.ports[CONTROL_ROOM])


@pytest.fixture
def link(system: System, address: str) -> str:
    """What `order-rail up` prints: with it one may change something."""
    return f"{address}/?token={system.operator_token}"


@pytest_asyncio.fixture
async def operators_page(link: str, page: Page) -> Page:
    await page.goto(link)
    await expect(page.get_by_role("heading", name="The rail")).to_be_visible()
    return page


def group(page: Page, name: str) -> Locator:
    return page.get_by_role("group", name=name, exact=True)


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()


async def until_everything_runs(page: Page) -> None:
    await expect(page.get_by_text("Everything runs.")).to_be_visible()


async def test_the_token_leaves_the_address(operators_page: Page, address: str) -> None:
    await until_everything_runs(operators_page)
    assert operators_page.url == f"{address}/"


async def test_orders_wait_for_a_killed_service_and_go_on_when_it_is_back(operators_page: Page, rail: Rail) -> None:
    await press(operators_page, "Kill, keep down: payment service")
    service, queue = group(operators_page, "Payment service"), group(operators_page, "Queue: To be charged")
    await expect(service).to_contain_text("it does not run")
    await rail.place_many(["tok_visa"] * 30)
    await expect(queue.locator(".figure")).to_have_text("30")
    await expect(queue).to_contain_text("nobody takes from it")
    await press(operators_page, "Start: payment service")
    await expect(queue.locator(".figure")).to_have_text("0", timeout=START_SECONDS * 1000)
    await until_everything_runs(operators_page)
    await rail.all_final()
    await rail.reconcile()
    await press(operators_page, "Audit now")
    await expect(operators_page.locator(".verdict.fine").first).to_contain_text(
        re.compile("All services agree|nothing to judge yet"),
        timeout=START_SECONDS * 1000,  # audits have a low priority
    )


async def test_a_paused_service_is_shown_as_paused_until_it_is_resumed(operators_page: Page) -> None:
    await press(operators_page, "Pause: notification service")
    service = group(operators_page, "Notification service")
    await expect(service).to_contain_text("paused here")
    await expect(service).to_contain_text("does not answer")
    await press(operators_page, "Resume: notification service")
    await expect(service).not_to_contain_text("paused")
    await until_everything_runs(operators_page)


async def test_a_dead_letter_is_inspected_sent_back_and_discarded(
    operators_page: Page, system: System, rail: Rail
) -> None:
    order_id = await rail.place("tok_broken")
    row = operators_page.get_by_role("listitem").filter(has_text=order_id)
    await row.get_by_role("button", name="Send back").click()
    await expect(operators_page.get_by_text("Sent back 1.")).to_be_visible()
    # Its gateway is still broken: it comes again.
    await expect(row).to_contain_text("after it was sent back 1 times")
    await row.get_by_role("button", name="Inspect").click()
    await expect(operators_page.get_by_label("The message")).to_contain_text('"redrives": 1')
    await press(operators_page, "Close")
    await row.get_by_role("button", name="Discard").click()
    await press(operators_page, "Discard it")
    await expect(operators_page.get_by_text("Say why it is right to remove it.")).to_be_visible()
    await operators_page.get_by_label("Reason").fill("the card does not exist")
    await press(operators_page, "Discard it")
    await expect(row).to_have_count(0)
    journal = (system.run.path / DISCARDS).read_text().splitlines()
    assert "the card does not exist" in [json.loads(line)["because"] for line in journal]


async def test_a_strangers_words_are_text_and_nothing_else(operators_page: Page, system: System) -> None:
    """In names for screen readers, too: an id that ends its attribute would bring others, of its own choice."""
    hostile = 'x" innerHTML="<img id=planted src=x>" onclick="planted" [bold] <b id=planted>y</b>'
    headers = dict.fromkeys(("dead-letter-reason", "dead-letter-error"), hostile)
    async with Management(system.broker_settings) as management:
        message = {"payload": hostile, "payload_encoding": "string", "routing_key": "order_service.track.dead",
                   "properties": {"message_id": hostile, "headers": headers}}  # fmt: skip
        await management.post("exchanges", management.vhost, "amq.default", "publish", body=message)
    row = operators_page.get_by_role("listitem").filter(has_text=hostile)
    await expect(row).to_be_visible()
    discard = row.get_by_role("button", name=f"Discard {hostile}")
    await expect(discard).to_be_visible()
    await expect(group(operators_page, f"Reports to the order service, {hostile}")).to_be_visible()
    await row.get_by_role("button", name=f"Inspect {hostile}").click()
    await expect(operators_page.get_by_label("The message")).to_contain_text("planted")
    await press(operators_page, "Close")
    assert await operators_page.locator("#planted").count() == 0
    await discard.click()
    await operators_page.get_by_label("Reason").fill(hostile)
    await press(operators_page, "Discard it")
    await expect(row).to_have_count(0)


async def test_an_orders_story_has_its_attempts(operators_page: Page, rail: Rail) -> None:
    order_id = await rail.place("tok_flaky")
    await operators_page.get_by_label("Order id").fill(order_id)
    history = operators_page.locator(".history")

    async def is_whole() -> bool:
        await press(operators_page, "Show its history")
        words = await history.inner_text(timeout=2000)
        assert re.search(r"Failed with order.placed.v1 from payment_service.charge, and tries again in 0.2 s", words)
        return "attempt 3" in words and "Paid: 15.50 EUR" in words and "Notified by email: receipt" in words

    await eventually(is_whole, 20, "the order's history with its three attempts")


async def test_of_an_unknown_order_it_says_so(operators_page: Page) -> None:
    for order_id, answer in ((NO_ORDER, f"There is no order {NO_ORDER}."), ("../audit", "is no order's id")):
        await operators_page.get_by_label("Order id").fill(order_id)
        await press(operators_page, "Show its history")
        await expect(operators_page.get_by_text(answer)).to_be_visible()


async def test_what_one_viewer_plays_all_viewers_see(address: str, operators_page: Page, open_page: OpenPage) -> None:
    other = await open_page()
    await other.goto(address)
    await press(operators_page, "Play: The same message again")
    for viewer in (operators_page, other):
        card = group(viewer, "Scenario: The same message again")
        await expect(card).to_contain_text("As expected")
        await expect(card).to_contain_text("3 more duplicates counted")


async def test_a_setting_out_of_its_limits_is_refused(operators_page: Page) -> None:
    card = group(operators_page, "Scenario: Flash sale")
    await card.get_by_label("orders").fill("5")
    await press(operators_page, "Play: Flash sale")
    await expect(operators_page.get_by_text("orders: expected a number from 10 to 100,000.")).to_be_visible()


async def test_without_the_token_one_can_look_and_not_act(system: System, address: str, page: Page) -> None:
    await page.goto(address)
    await expect(group(page, "Queue: To be charged")).to_contain_text("waiting")
    for name in ("Kill: order service", "Play: Flash sale"):
        await expect(page.get_by_role("button", name=name, exact=True)).to_be_disabled()
    await page.get_by_label("You can look at everything here").fill(system.operator_token)
    await press(page, "Enter")
    await expect(page.get_by_role("button", name="Kill: order service", exact=True)).to_be_enabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1600])
async def test_it_is_accessible_and_fits(link: str, open_page: OpenPage, width: int, scheme: str) -> None:
    page = await open_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    await page.goto(link)
    await expect(page.get_by_role("button", name="Kill: order service", exact=True)).to_be_enabled()
    await assert_fits(page)
    await assert_accessible(page)
