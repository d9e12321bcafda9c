"""The control room in a browser, on a system that `order-rail up` runs."""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from dotenv import dotenv_values
from playwright.async_api import Locator, Page, expect

from control_room.launcher.system import Ports
from control_room.operations.addresses import SystemAddresses
from control_room.operations.audit import audit
from shared.management import Management
from tests import order_rail
from tests.browser.conftest import OpenPage, assert_accessible, assert_fits
from tests.conftest import Broker
from tests.support import eventually

START_SECONDS = 60
PATIENCE_MILLISECONDS = 20_000
NO_ORDER = "00000000-0000-7000-8000-000000000000"


class ControlRoom:
    """A running system with its control room."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        variables = dotenv_values(directory / "environment")
        self.addresses = SystemAddresses.of(variables)
        self.url = str(variables["CONTROL_ROOM_URL"])
        self.link = f"{self.url}/?token={self.addresses.operator_token}"

    async def place(self, count: int, token: str = "tok_visa") -> list[str]:
        body = {"customer_email": "ada@example.com", "items": [{"sku": "cola", "quantity": 1}], "payment_token": token}
        url = f"{self.addresses.services['order_service']}/orders"
        async with httpx.AsyncClient(trust_env=False) as http:
            answers = await asyncio.gather(*(http.post(url, json=body) for _ in range(count)))
        return [answer.raise_for_status().json()["order_id"] for answer in answers]


@pytest_asyncio.fixture(scope="module")
async def room(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ControlRoom]:
    directory = tmp_path_factory.mktemp("room") / "run"
    rabbitmq = {"RABBITMQ_URL": broker.amqp_url(f"room-{uuid.uuid4().hex[:8]}"),
                "RABBITMQ_MANAGEMENT_URL": broker.management_url}  # fmt: skip
    ports = {name.upper(): str(port) for name, port in Ports.free().model_dump().items()}
    process = await order_rail.start(
        "up", "--run-directory", str(directory), **ports, **rabbitmq, RETRY_DELAYS_SECONDS="0.2,0.4"
    )
    try:
        await eventually(
            lambda: process.returncode is not None or (directory / "environment").exists(),
            START_SECONDS, "the system and its control room to be up",
        )  # fmt: skip
        if process.returncode is not None:
            pytest.fail(f"order-rail up ended: {await process.communicate()}")
        running = ControlRoom(directory)
        yield running
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
    async with Management(running.addresses) as management:
        await management.delete("vhosts", management.vhost)


@pytest_asyncio.fixture
async def operators_page(room: ControlRoom, page: Page) -> Page:
    page.set_default_timeout(PATIENCE_MILLISECONDS)
    await page.goto(room.link)
    await expect(page.get_by_role("heading", name="The rail")).to_be_visible()
    return page


def group(page: Page, name: str) -> Locator:
    return page.get_by_role("group", name=name, exact=True)


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()


async def test_all_is_said_to_run(operators_page: Page, room: ControlRoom) -> None:
    await expect(operators_page.get_by_text("Everything runs.")).to_be_visible(timeout=PATIENCE_MILLISECONDS)
    assert operators_page.url == f"{room.url}/", "the token stays in the address"


async def test_orders_wait_for_a_killed_service_and_go_on_when_it_is_back(
    operators_page: Page, room: ControlRoom
) -> None:
    await press(operators_page, "Kill, keep down: payment service")
    service, queue = group(operators_page, "Payment service"), group(operators_page, "Queue: To be charged")
    await expect(service).to_contain_text("it does not run", timeout=PATIENCE_MILLISECONDS)
    placed = await room.place(30)
    await expect(queue.locator(".figure")).to_have_text("30", timeout=PATIENCE_MILLISECONDS)
    await expect(queue).to_contain_text("nobody takes from it")
    await press(operators_page, "Start: payment service")
    await expect(queue.locator(".figure")).to_have_text("0", timeout=PATIENCE_MILLISECONDS)
    await expect(operators_page.get_by_text("Everything runs.")).to_be_visible(timeout=PATIENCE_MILLISECONDS)
    await eventually(lambda: books_agree(room, placed), 20, "the books of these orders to agree")
    await press(operators_page, "Audit now")
    await expect(operators_page.locator(".verdict.fine").first).to_contain_text(
        re.compile("The books agree|nothing to judge yet")
    )


async def books_agree(room: ControlRoom, order_ids: list[str]) -> bool:
    report = await audit(room.addresses, 0, only=order_ids)
    return report.is_clean and report.counts["charges"] == len(order_ids)


async def test_a_paused_service_is_shown_as_paused_until_it_is_resumed(operators_page: Page) -> None:
    await press(operators_page, "Pause: notification service")
    service = group(operators_page, "Notification service")
    await expect(service).to_contain_text("paused here", timeout=PATIENCE_MILLISECONDS)
    await expect(service).to_contain_text("does not answer", timeout=PATIENCE_MILLISECONDS)
    await press(operators_page, "Resume: notification service")
    await expect(service).not_to_contain_text("paused", timeout=PATIENCE_MILLISECONDS)
    await expect(operators_page.get_by_text("Everything runs.")).to_be_visible(timeout=PATIENCE_MILLISECONDS)


async def test_a_dead_letter_is_inspected_sent_back_and_discarded(operators_page: Page, room: ControlRoom) -> None:
    (order_id,) = await room.place(1, "tok_broken")
    row = operators_page.get_by_role("listitem").filter(has_text=order_id)
    await row.get_by_role("button", name="Send back").click()
    await expect(operators_page.get_by_text("Sent back 1.")).to_be_visible()
    # Its gateway is still broken: it comes again.
    await expect(row).to_contain_text("after it was sent back 1 times", timeout=PATIENCE_MILLISECONDS)
    await row.get_by_role("button", name="Inspect").click()
    await expect(operators_page.get_by_label("The message")).to_contain_text('"redrives": 1')
    await press(operators_page, "Close")
    await row.get_by_role("button", name="Discard").click()
    await press(operators_page, "Discard it")
    await expect(operators_page.get_by_text("Say why it is right to remove it.")).to_be_visible()
    await operators_page.get_by_label("Reason").fill("the card does not exist")
    await press(operators_page, "Discard it")
    await expect(row).to_have_count(0)
    journal = (room.directory / "discarded-dead-letters.ndjson").read_text().splitlines()
    assert "the card does not exist" in [json.loads(line)["because"] for line in journal]


async def test_a_strangers_words_are_text_and_nothing_else(operators_page: Page, room: ControlRoom) -> None:
    """In names for screen readers, too: an id that ends its attribute would bring others, of its own choice."""
    hostile = 'x" innerHTML="<img id=planted src=x>" onclick="planted" [bold] <b id=planted>y</b>'
    headers = dict.fromkeys(("dead-letter-reason", "dead-letter-error"), hostile)
    async with Management(room.addresses) as management:
        message = {"payload": hostile, "payload_encoding": "string", "routing_key": "order_service.track.dead",
                   "properties": {"message_id": hostile, "headers": headers}}  # fmt: skip
        await management.post("exchanges", management.vhost, "amq.default", "publish", body=message)
    row = operators_page.get_by_role("listitem").filter(has_text=hostile)
    await expect(row).to_be_visible(timeout=PATIENCE_MILLISECONDS)
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


async def test_an_order_is_told_with_its_attempts(operators_page: Page, room: ControlRoom) -> None:
    (order_id,) = await room.place(1, "tok_flaky")
    await operators_page.get_by_label("Order id").fill(order_id)
    story = operators_page.locator(".story")

    async def is_whole() -> bool:
        await press(operators_page, "Tell its story")
        told = await story.inner_text(timeout=2000)
        assert re.search(r"Failed with order.placed.v1 from payment_service.charge, and tries again in 0.2 s", told)
        return "attempt 2" in told and "Paid: 3.00 EUR" in told and "Notified by email: receipt" in told

    await eventually(is_whole, 20, "the order's story with its second attempt")


async def test_of_an_unknown_order_it_says_so(operators_page: Page) -> None:
    for order_id, answer in ((NO_ORDER, f"There is no order {NO_ORDER}."), ("../audit", "is no order's id")):
        await operators_page.get_by_label("Order id").fill(order_id)
        await press(operators_page, "Tell its story")
        await expect(operators_page.get_by_text(answer)).to_be_visible()


async def test_what_one_viewer_plays_all_viewers_see(
    room: ControlRoom, operators_page: Page, open_page: OpenPage
) -> None:
    other = await open_page()
    await other.goto(room.url)
    await press(operators_page, "Play: The same message again")
    for viewer in (operators_page, other):
        card = group(viewer, "Scenario: The same message again")
        await expect(card).to_contain_text("As expected", timeout=PATIENCE_MILLISECONDS)
        await expect(card).to_contain_text("3 more duplicates counted")


async def test_a_setting_out_of_its_limits_is_refused(operators_page: Page) -> None:
    card = group(operators_page, "Scenario: Flash sale")
    await card.get_by_label("orders").fill("5")
    await press(operators_page, "Play: Flash sale")
    await expect(operators_page.get_by_text("orders: expected a number from 10 to 100,000.")).to_be_visible()


async def test_without_the_token_one_can_look_and_not_act(room: ControlRoom, page: Page) -> None:
    await page.goto(room.url)
    await expect(group(page, "Queue: To be charged")).to_contain_text("waiting")
    for name in ("Kill: order service", "Play: Flash sale"):
        await expect(page.get_by_role("button", name=name, exact=True)).to_be_disabled()
    await page.get_by_label("You can look at everything here").fill(room.addresses.operator_token)
    await press(page, "Enter")
    await expect(page.get_by_role("button", name="Kill: order service", exact=True)).to_be_enabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1600])
async def test_it_is_accessible_and_fits(room: ControlRoom, open_page: OpenPage, width: int, scheme: str) -> None:
    page = await open_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    await page.goto(room.link)
    await expect(page.get_by_role("button", name="Kill: order service", exact=True)).to_be_enabled()
    await assert_fits(page)
    await assert_accessible(page)
