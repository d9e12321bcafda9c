"""The control room in a browser, on the whole system."""

import json
import re

import pytest
from playwright.async_api import Page, WebSocketRoute, expect

from control_room.dashboard.snapshots import dead_letters
from control_room.launcher.system import System
from control_room.operations.addresses import DISCARDS
from shared.management import Management
from tests.browser.conftest import OpenPage, assert_accessible, assert_fits, assert_focus_is_in_sight
from tests.browser.control_room import group, open_panel, press
from tests.rail import Rail
from tests.support import eventually, of_the_shop_alone

START_SECONDS = 60
NO_ORDER = "00000000-0000-7000-8000-000000000000"

FOCUSED = "document.activeElement.ariaLabel ?? document.activeElement.innerText.trim()"
RING = "(style => [style.outlineStyle, style.outlineWidth])(getComputedStyle(document.activeElement))"
STORY = (
    "The order was placed.", "Published order.placed.v1 to orders", "tries again at once", "tries again in 0.2 s",
    "Paid: 9.50 EUR", "Published payment.succeeded.v1 to payments", "Notified by email: receipt",
)  # fmt: skip
"""What happens to an order whose gateway fails twice: each is the cause of the next."""
RECORD = """selectors => {
    window.seen = [];
    const look = () => window.seen.push(selectors.map(selector => document.querySelector(selector).innerText));
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""
"""Keeps the texts of these elements at every change of the page."""


@pytest.fixture(scope="module")
def system(watched: System) -> System:
    """The one whose control room is looked at; `rail` places its orders there."""
    return watched


async def tab_to(page: Page, name: str, *, backwards: bool = False) -> None:
    """Move the focus with the Tab key to the button or tab with this name."""
    for _ in range(80):
        await page.keyboard.press("Shift+Tab" if backwards else "Tab")
        if await page.evaluate(FOCUSED) == name:
            return
    raise AssertionError(f"the Tab key does not lead to {name!r}")


async def park(system: System, queue: str, headers: dict[str, str], message_id: str) -> None:
    """Put a message of a stranger among the dead letters; its body is its id."""
    message = {"payload": message_id, "payload_encoding": "string", "routing_key": queue,
               "properties": {"message_id": message_id, "headers": headers}}  # fmt: skip
    async with Management(system.broker_settings) as management:
        await management.post("exchanges", management.vhost, "amq.default", "publish", body=message)


async def discard(page: Page, number: str) -> None:
    """Discard the dead letter of this id; its id is the reason."""
    await page.get_by_role("button", name=f"Discard {number}", exact=True).click()
    await page.get_by_label("Reason").fill(number)
    await press(page, "Discard it")


async def until_everything_runs(page: Page) -> None:
    await expect(page.get_by_text("Everything runs.")).to_be_visible()


async def test_the_token_leaves_the_address(operators_page: Page, address: str) -> None:
    await until_everything_runs(operators_page)
    assert operators_page.url == f"{address}/"


async def test_orders_wait_for_a_killed_service_and_go_on_when_it_is_back(
    operators_page: Page, system: System, rail: Rail
) -> None:
    poison = {"dead-letter-reason": "not-json", "dead-letter-error": "of a test"}
    await park(system, "payment_service.charge.dead", poison, "poison")
    await open_panel(operators_page, "Process control")
    await press(operators_page, "Kill, keep down: payment service")
    service, queue = group(operators_page, "Payment service"), group(operators_page, "Queue: To be charged")
    await expect(service).to_contain_text("it does not run")
    heading = operators_page.get_by_role("region", name="At a glance")
    await expect(heading).to_contain_text(re.compile(r"The payment service does not run\. \(since \d\d:\d\d:\d\d "))
    await rail.place_many(["tok_visa"] * 30)
    await expect(queue.locator(".figure")).to_have_text("30")
    await expect(queue).to_contain_text("nobody takes from it")
    await expect(operators_page.locator(".levelling")).to_contain_text("not draining")
    await open_panel(operators_page, "Dead letters")
    await press(operators_page, "Send back poison")
    refusal = operators_page.get_by_role("alert").filter(has_text="Start it first")
    await expect(refusal).to_contain_text(
        "“To be charged” has no consumer now: the payment service does not run, or has lost its connection. "
        "Nothing was sent back. Start it first."
    )
    await assert_accessible(operators_page)
    await refusal.get_by_role("button", name="Close").click()
    await expect(refusal).to_have_count(0)
    await discard(operators_page, "poison")
    await open_panel(operators_page, "Audit")
    await press(operators_page, "Audit now")
    progress = operators_page.locator(".audit .progress")
    await expect(progress).to_contain_text(
        re.compile(r"Audit not possible: the payment service does not answer\.( The verdict above is .* old\.)?"),
        timeout=START_SECONDS * 1000,
    )
    await open_panel(operators_page, "Process control")
    await press(operators_page, "Start: payment service")
    await expect(queue.locator(".figure")).to_have_text("0", timeout=START_SECONDS * 1000)
    await until_everything_runs(operators_page)
    await rail.all_final()
    await rail.reconcile()
    # The audit is repeated by itself, and its trouble does not linger.
    await expect(heading.get_by_role("button", name="Audit clean", exact=True)).to_be_visible(
        timeout=START_SECONDS * 1000  # audits have a low priority
    )
    await open_panel(operators_page, "Audit")
    await expect(progress).not_to_contain_text("not possible")
    await expect(operators_page.locator(".verdict.fine").first).to_contain_text(
        re.compile("All services agree|nothing to judge yet")
    )


async def test_a_paused_service_is_shown_as_paused_until_it_is_resumed(operators_page: Page) -> None:
    await open_panel(operators_page, "Process control")
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
    await (
        operators_page.get_by_role("region", name="At a glance")
        .get_by_role("button", name=re.compile("1 dead letter$"))
        .click()
    )
    await expect(
        operators_page.get_by_role("heading", name="Failed 6 times (attempts-exhausted): 1 message")
    ).to_be_visible()
    row = operators_page.get_by_role("listitem").filter(has_text=order_id)
    await row.get_by_role("button", name="Send back").click()
    await expect(operators_page.get_by_text("Sent back 1.")).to_be_visible()
    # Its gateway is still broken: it comes again.
    await expect(row).to_contain_text("after it was sent back once")
    await row.get_by_role("button", name="Inspect").click()
    await expect(operators_page.get_by_role("dialog", name="Dead letter: attempts-exhausted")).to_be_visible()
    message = operators_page.get_by_label("The message")
    await expect(message).to_contain_text('"redrives": 1')
    await expect(message).to_contain_text(f'"subject": "{order_id}"')
    await assert_accessible(operators_page)
    await operators_page.keyboard.press("Escape")
    await expect(row.get_by_role("button", name="Inspect")).to_be_focused()
    await row.get_by_role("button", name="Discard").click()
    reason = operators_page.get_by_label("Reason")
    await reason.press("Enter")
    await expect(operators_page.get_by_text("Say why it is right to remove it.")).to_be_visible()
    await expect(operators_page.get_by_role("dialog", name="Discard this message?")).to_be_visible()
    await assert_accessible(operators_page)
    await reason.fill("the card does not exist")
    await reason.press("Enter")
    await expect(row).to_have_count(0)
    journal = (system.run.path / DISCARDS).read_text().splitlines()
    assert "the card does not exist" in [json.loads(line)["because"] for line in journal]
    await open_panel(operators_page, "An order")
    await operators_page.get_by_label("Order id").fill(order_id)
    await press(operators_page, "Show its history")
    await expect(operators_page.locator(".history")).to_contain_text(
        "Discarded from the dead letters of payment_service.charge by an operator: the card does not exist."
    )
    await expect(operators_page.locator(".history").get_by_text("The charge was given up")).to_have_count(2)


async def test_a_dead_letter_is_said_to_be_moot_once_its_order_is_cancelled(
    operators_page: Page, rail: Rail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MOOT_SECONDS", 0.5)
    order_id = await rail.place("tok_broken")
    await rail.until([order_id], "stalled")
    await open_panel(operators_page, "Dead letters")
    row = operators_page.get_by_role("listitem").filter(has_text=order_id)
    await expect(row).to_be_visible()
    await expect(row).not_to_contain_text("Moot")
    inspect = row.get_by_role("button", name="Inspect")
    await inspect.focus()
    await rail.cancel(order_id)
    await expect(row).to_contain_text("Moot: the order is cancelled, and a redrive charges nothing.")
    await expect(inspect).to_be_focused()  # though the list was drawn anew
    await expect(operators_page.get_by_role("button", name="1 moot dead letter")).to_be_visible()
    await row.get_by_role("button", name="Send back").click()
    await expect(row).to_have_count(0)


async def test_while_the_gateway_fails_the_page_says_what_waits_and_that_it_goes_on(
    operators_page: Page, rail: Rail
) -> None:
    await until_everything_runs(operators_page)
    await rail.fail_gateway(3600)
    await rail.place_many(["tok_visa"] * 5)
    state = operators_page.get_by_role("region", name="At a glance").get_by_role("status")
    await expect(state).to_contain_text(
        re.compile(
            r"The payment gateway has failed since \d\d:\d\d:\d\d .*\(the gateway answers 503 .*\): "
            r"what the payment service has for it waits, and goes on by itself\."
        )
    )
    await expect(state).to_have_class(re.compile("busy"))
    service = group(operators_page, "Payment service")
    await expect(service).to_contain_text("waits for the payment gateway")
    await expect(service).to_have_class(re.compile("busy"))
    await rail.fail_gateway(0)
    await until_everything_runs(operators_page)
    await rail.all_final()


async def test_a_strangers_words_are_text_and_nothing_else(operators_page: Page, system: System) -> None:
    """In names for screen readers, too: an id that ends its attribute would bring others, of its own choice."""
    hostile = 'x" innerHTML="<img id=planted src=x>" onclick="planted" [bold] <b id=planted>y</b>'
    headers = dict.fromkeys(("dead-letter-reason", "dead-letter-error"), hostile)
    await park(system, "order_service.track.dead", headers, hostile)
    await open_panel(operators_page, "Dead letters")
    row = operators_page.get_by_role("listitem").filter(has_text=hostile)
    await expect(row).to_be_visible()
    await expect(row.get_by_role("button", name=f"Discard {hostile}")).to_be_visible()
    await expect(group(operators_page, f"Reports to the order service, {hostile}")).to_be_visible()
    await row.get_by_role("button", name=f"Inspect {hostile}").click()
    await expect(operators_page.get_by_label("The message")).to_contain_text("planted")
    await press(operators_page, "Close")
    assert await operators_page.locator("#planted").count() == 0
    await discard(operators_page, hostile)
    await expect(row).to_have_count(0)


async def test_an_orders_story_has_every_try_and_every_request(
    operators_page: Page, system: System, rail: Rail
) -> None:
    """The gateway fails twice, and the customer's request comes twice."""
    order = {"customer_email": "ada@example.com", "items": [{"sku": "margherita", "quantity": 1}]}
    for _ in range(2):
        answer = await rail.http.post(
            f"{system.url('order_service')}/orders", json={**order, "payment_token": "tok_flaky"},
            headers={"Idempotency-Key": '"the story of an order"'},
        )  # fmt: skip
    order_id = answer.json()["order_id"]
    await open_panel(operators_page, "An order")
    await operators_page.get_by_label("Order id").fill(order_id)
    history = operators_page.locator(".history")

    async def is_whole() -> bool:
        await press(operators_page, "Show its history")
        words = await history.inner_text(timeout=2000)
        for when in ("at once", "in 0.2 s"):
            assert f"Failed with order.placed.v1 from payment_service.charge, and tries again {when}" in words
        assert "A duplicate of POST /orders" in words
        assert "attempt 3" in words
        places = [words.find(each) for each in STORY]
        assert -1 not in places
        assert places == sorted(places), words
        return True

    await eventually(is_whole, 20, "the order's whole history, with causes before effects")


async def test_of_an_unknown_order_it_says_so(operators_page: Page) -> None:
    await open_panel(operators_page, "An order")
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


async def test_a_field_says_what_it_takes_and_what_is_wrong_with_another_number(operators_page: Page) -> None:
    card = group(operators_page, "Scenario: Flash sale")
    await card.get_by_label("orders, 10 to 100,000").fill("5")
    await press(operators_page, "Play: Flash sale")
    await expect(card.get_by_text("Expected a number from 10 to 100,000.")).to_be_visible()
    await expect(operators_page.get_by_role("region", name="At a glance")).to_contain_text("No scenario")


async def test_without_the_token_one_can_look_and_not_act(system: System, address: str, page: Page, rail: Rail) -> None:
    order_id = await rail.place("tok_broken")
    await page.goto(address)
    await expect(group(page, "Queue: To be charged")).to_contain_text("waiting")
    await expect(page.get_by_role("button", name="Play: Flash sale", exact=True)).to_be_disabled()
    await open_panel(page, "Dead letters")
    letter = page.locator(".group li").first
    await expect(letter).to_contain_text(re.compile(r"tried \d times"))
    await expect(letter.get_by_role("button", name="Inspect")).to_be_disabled()
    assert order_id not in await page.inner_text("body")  # it would open the customer's page
    await open_panel(page, "An order")
    await expect(page.get_by_role("button", name="Latest orders")).to_be_disabled()
    field = page.get_by_label("You can look at everything here")
    await field.fill("a wrong one")
    await press(page, "Enter")
    await expect(page.get_by_role("alert").filter(has_text="not the operator token of this system")).to_be_visible()
    await field.fill(system.operator_token)
    await press(page, "Enter")
    play = page.get_by_role("button", name="Play: Flash sale", exact=True)
    await expect(play).to_be_enabled()
    await page.goto(f"{address}/?token=wrong")
    await expect(page.get_by_text("You keep the right that you had.")).to_be_visible()
    await expect(play).to_be_enabled()
    await open_panel(page, "Dead letters")
    await discard(page, order_id)


async def test_operators_list_the_latest_orders_and_find_their_way_to_the_shop(
    operators_page: Page, system: System, rail: Rail
) -> None:
    shop = system.url("order_service")
    await expect(operators_page.get_by_role("link", name="Shop", exact=True)).to_have_attribute("href", shop)
    order_id = await rail.place()
    await open_panel(operators_page, "An order")
    await press(operators_page, "Latest orders")
    await operators_page.get_by_role("button", name=f"Order {order_id}").click()
    await expect(operators_page.locator(".order")).to_contain_text("The order was placed.")
    ticket = operators_page.get_by_role("link", name="Its ticket in the shop")
    await expect(ticket).to_have_attribute("href", f"{shop}/#/orders/{order_id}")
    await expect(ticket).to_have_attribute("rel", "noreferrer")


@pytest.mark.parametrize(("width", "height", "key"), [(360, 640, "Shift+Tab"), (1440, 700, "Tab")])
async def test_what_has_the_focus_is_never_under_what_sticks(
    link: str, open_page: OpenPage, width: int, height: int, key: str
) -> None:
    page = await open_page(viewport={"width": width, "height": height})
    await page.goto(link)
    await until_everything_runs(page)
    await assert_focus_is_in_sight(page, key, 40)


async def test_an_address_with_an_order_shows_its_story_in_the_viewers_own_time(
    link: str, open_page: OpenPage, rail: Rail
) -> None:
    order_id = await rail.place()
    await rail.all_final()
    page = await open_page(viewport={"width": 360, "height": 740}, timezone_id="Asia/Kolkata")
    await page.goto(f"{link}&order={order_id.upper()}")
    placed = page.locator(".order time").first
    await expect(placed).to_be_in_viewport()
    await expect(placed).to_have_text(re.compile(r"\d\d:\d\d:\d\d (GMT\+5:30|IST)$"))
    await expect(placed).to_have_attribute("title", re.compile(r"20\d\d.*India Standard Time"))
    await page.get_by_label("Order id or ticket number").fill(order_id[-6:].upper())
    await press(page, "Show its history")
    await expect(page.locator(".order .code")).to_have_text(order_id)
    assert "UTC" not in await page.inner_text("body")


async def test_a_page_that_hears_nothing_says_so_and_takes_no_clicks_until_it_does(link: str, page: Page) -> None:
    is_cut = False

    def carry(browser: WebSocketRoute) -> None:
        server = browser.connect_to_server()
        browser.on_message(server.send)
        server.on_message(lambda message: None if is_cut else browser.send(message))

    await page.route_web_socket(re.compile("_nicegui_ws"), carry)
    await page.goto(link)
    await until_everything_runs(page)
    lost = page.get_by_role("alert").filter(has_text=re.compile(r"No connection .* since \d\d:\d\d:\d\d "))
    play = page.get_by_role("button", name="Play: Poison")
    await play.focus()
    is_cut = True
    await expect(lost).to_be_visible(timeout=8000)
    await page.wait_for_function("document.querySelector('.room').inert && !document.activeElement.closest('.room')")
    is_cut = False
    await expect(lost).to_have_count(0)
    await expect(play).to_be_focused()


async def test_while_the_heading_is_red_a_killed_service_does_not_read_ready(operators_page: Page) -> None:
    await until_everything_runs(operators_page)
    await open_panel(operators_page, "Process control")
    await operators_page.evaluate(RECORD, [".heading .state", "[aria-label='Payment service'] .state"])
    await press(operators_page, "Kill: payment service")
    await expect(group(operators_page, "Process control: Payment service")).to_contain_text(
        re.compile(r"restarted \d.* ago"), timeout=START_SECONDS * 1000
    )
    await until_everything_runs(operators_page)
    seen = await operators_page.evaluate("window.seen")
    assert [service for heading, service in seen if heading != "Everything runs."], seen
    assert not [service for heading, service in seen if "ayment" in heading and service.startswith("ready")], seen


async def test_with_the_keyboard_alone_a_scenario_is_played_and_a_dead_letter_sent_back(
    operators_page: Page, rail: Rail
) -> None:
    order_id = await rail.place("tok_broken")
    await tab_to(operators_page, "Play: The same message again")
    assert await operators_page.evaluate(RING) == ["solid", "3px"]
    await operators_page.keyboard.press("Enter")
    await expect(group(operators_page, "Scenario: The same message again")).to_contain_text(
        "As expected", timeout=40_000
    )
    await tab_to(operators_page, "Scenarios", backwards=True)
    for _ in range(3):
        await operators_page.keyboard.press("ArrowRight")
    await operators_page.keyboard.press("Enter")
    row = operators_page.get_by_role("listitem").filter(has_text=order_id)
    await expect(row).to_be_visible()
    name = await row.get_by_role("button", name="Send back").get_attribute("aria-label")
    await tab_to(operators_page, str(name))
    await operators_page.keyboard.press("Enter")
    await expect(operators_page.get_by_text("Sent back 1.")).to_be_visible()
    await expect(row).to_contain_text("after it was sent back once", timeout=START_SECONDS * 1000)
    await discard(operators_page, order_id)
    await expect(row).to_have_count(0)


async def test_the_analytics_show_what_was_ordered(operators_page: Page, address: str, rail: Rail) -> None:
    order_id = await rail.place()
    await rail.until([order_id], "confirmed")
    orders = len(await rail.audit("order_service"))

    await open_panel(operators_page, "Analytics")

    panel = operators_page.get_by_role("tabpanel", name="Analytics")
    await expect(panel.get_by_role("listitem").filter(has_text="Cola 0.33 l")).to_be_visible()
    for chart in (
        "Orders per minute. Latest: ",
        "Revenue per minute. Latest: ",
        "Time to confirm. Latest: 95 % within ",
    ):
        await expect(panel.get_by_role("img", name=re.compile(f"^{chart}"))).to_be_visible()
    await expect(panel.locator(".figures div").filter(has_text="orders")).to_contain_text(str(orders))

    async def figures() -> bool:
        found = (await rail.http.get(f"{address}/analytics?minutes=10")).json()
        return bool(found["totals"]["orders"] == orders and not found["trouble"] and found["minutes"][-1]["p95"])

    await eventually(figures, 20, "the same figures as JSON")


@of_the_shop_alone
async def test_what_matters_is_in_sight_at_once_and_the_heading_always(link: str, open_page: OpenPage) -> None:
    page = await open_page(viewport={"width": 1440, "height": 900})
    await page.goto(link)
    await until_everything_runs(page)
    for panel in (".rail", ".levelling", ".panels"):
        box = await page.locator(panel).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 900, panel
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.mouse.wheel(0, 1500)
    await expect(page.get_by_role("heading", name="Control room", level=1)).to_be_in_viewport()
    await expect(
        page.get_by_role("region", name="At a glance").get_by_role("button", name=re.compile("^Audit"))
    ).to_be_in_viewport()


@pytest.mark.parametrize(("scheme", "width"), [("dark", 360), ("light", 1600)])
async def test_every_panel_is_accessible_and_fits(link: str, open_page: OpenPage, width: int, scheme: str) -> None:
    page = await open_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    await page.goto(link)
    await expect(page.get_by_role("button", name="Play: Flash sale", exact=True)).to_be_enabled()
    for panel in ("Scenarios", "Process control", "Dead letters", "Audit", "Analytics", "An order"):
        await open_panel(page, panel)
        await expect(page.get_by_role("heading", name=panel, level=2)).to_be_visible()
        await assert_fits(page)
    await assert_accessible(page)
