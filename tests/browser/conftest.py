"""Headless Chromium for the tests of the pages, which fail if a page logs errors or asks other machines."""

import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # it has no py.typed
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect

from control_room.launcher.command import page as control_room
from control_room.launcher.ports import CONTROL_ROOM
from control_room.launcher.system import System, launch
from shared.testing.brokers import QUICK_RETRIES, Broker, addresses_of, virtual_host
from tests.browser.shop import Shop
from tests.support import eventually

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TIMEOUT_SECONDS = 20
HERE = ("127.0.0.1", "localhost")
WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
BEST_PRACTICE = (*WCAG, "best-practice")

AT_REST = """!document.getAnimations().some(
    each => each.playState === "running" && each.effect.getComputedTiming().endTime < Infinity)"""
IN_FRONT = """document.querySelectorAll(".q-btn__content").forEach(each => each.style.position = "relative")"""
"""Changes nothing that is seen: without it axe takes a button's text for behind its button, and what it stands in."""

expect.set_options(timeout=TIMEOUT_SECONDS * 1000)

COVERED = """() => {
    const focused = document.activeElement, box = focused.getBoundingClientRect();
    if (focused === document.body) return "";
    const seen = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    const isSeen = seen && (focused.contains(seen) || seen.contains(focused));
    return isSeen ? "" : `${focused.ariaLabel ?? focused.id ?? focused.innerText} is under ${seen?.className}`;
}"""
"""What has the focus, and what covers its middle; empty if nothing does."""

OpenPage = Callable[..., Awaitable[Page]]


class Watch:
    """The console errors of a test's pages, and their requests to other machines. A test fails for each of them."""

    def __init__(self) -> None:
        self._complaints: list[str] = []
        self._expected: list[str] = []

    def expect_complaint(self, pattern: str) -> None:
        """This test provokes console errors that match the regular expression."""
        self._expected.append(pattern)

    def follow(self, page: Page) -> None:
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._complaints.append(str(error)))
        page.on("request", lambda request: self._on_request(request.url))
        page.on("websocket", lambda socket: self._on_request(socket.url))

    def check(self) -> None:
        """Fails the test for what it did not expect."""
        unexpected = [text for text in self._complaints if not any(re.search(known, text) for known in self._expected)]
        assert not unexpected

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._complaints.append(f"{message.text} ({message.location.get('url')})")

    def _on_request(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in HERE:
            self._complaints.append(f"the page asked {url}")


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Tests that need it are skipped where there is no Chromium, and fail there on CI."""
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        reason = f"no Chromium: none of {', '.join(CHROMIUM_NAMES)} is installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=found, args=CHROMIUM_ARGUMENTS)
        yield launched
        await launched.close()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest_asyncio.fixture
async def open_page(browser: Browser, watch: Watch) -> AsyncIterator[OpenPage]:
    """Opens a page in a browser context of its own: another viewer. Takes the options of `Browser.new_context`.

    It speaks English as in Britain, unless told otherwise.
    """
    contexts: list[BrowserContext] = []

    async def open_one(**options: Any) -> Page:
        contexts.append(context := await browser.new_context(**{"locale": "en-GB", **options}))
        context.set_default_timeout(TIMEOUT_SECONDS * 1000)
        opened = await context.new_page()
        watch.follow(opened)
        return opened

    yield open_one
    for context in contexts:
        await context.close()
    watch.check()


@pytest_asyncio.fixture
async def page(open_page: OpenPage) -> Page:
    """A new page. The test fails if it logs an error (see `Watch.expect_complaint`) or asks any other machine."""
    return await open_page()


@pytest_asyncio.fixture(scope="session")
async def watched(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """A system with its control room, for all tests of that page: a process can serve it only once."""
    async with virtual_host(broker) as settings:
        environment = {**QUICK_RETRIES, **addresses_of(settings), "EVENTS_KEPT_HOURS": "1"}
        async with launch(tmp_path_factory.mktemp("watched"), environment=environment) as system, control_room(system):
            yield system


@pytest.fixture
def address(watched: System) -> str:
    """Where the control room of `watched` is."""
    return watched.url_of(watched.ports[CONTROL_ROOM])


@pytest.fixture
def link(watched: System, address: str) -> str:
    """What `order-rail up` prints: with it one may change something."""
    return f"{address}/?token={watched.operator_token}"


@pytest_asyncio.fixture
async def operators_page(link: str, page: Page, watched: System) -> AsyncIterator[Page]:
    """The control room's page. What is still down when a test has failed is started again for the next one."""
    await page.goto(link)
    await expect(page.get_by_role("heading", name="The rail")).to_be_visible()
    yield page
    for process in watched.processes.values():
        process.release()


@pytest.fixture
def closed_shop(page: Page, system: System) -> Shop:
    """A shop whose page is not open yet."""
    return Shop(page, system)


@pytest_asyncio.fixture
async def shop(closed_shop: Shop) -> Shop:
    await closed_shop.open()
    return closed_shop


async def assert_accessible(page: Page, tags: Sequence[str] = BEST_PRACTICE) -> None:
    """axe finds nothing against names, roles, contrast and the rest of what `tags` select."""
    # What fades in has too little contrast. Not `wait_for_function`: the shop's policy allows no evaluated text.
    await eventually(lambda: page.evaluate(AT_REST), expecting="all animations to end")
    await page.evaluate(IN_FRONT)
    found = await Axe().run(page, options={"runOnly": {"type": "tag", "values": list(tags)}})
    assert not found.violations_count, found.generate_report()


async def assert_fits(page: Page) -> None:
    """Nothing is wider than the window."""
    wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{wide} px of the page are outside of the window"


async def assert_focus_is_in_sight(page: Page, key: str, presses: int) -> None:
    """Whatever the focus comes to with this key stands beside what sticks to the window's edges (WCAG 2.2, 2.4.11)."""
    for _ in range(presses):
        await page.keyboard.press(key)
        await eventually(partial(is_uncovered, page), 3, "the focus to be in sight")


async def is_uncovered(page: Page) -> bool:
    covered = await page.evaluate(COVERED)
    assert not covered, covered
    return True
