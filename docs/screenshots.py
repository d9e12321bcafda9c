"""`python docs/screenshots.py`: takes the images of the README from a system of its own. It needs Chromium."""

import asyncio
import re
import shutil
import tempfile
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

from control_room.launcher.command import page as control_room_page
from control_room.launcher.system import System, launch

IMAGES = Path(__file__).with_name("images")
LARGEST_BYTES = 260_000
WIDTH, HEIGHT = 1440, 900
TIMEOUT_MILLISECONDS = 30_000
SOLD = "2,[5-9]"
"""What waits in the queue shortly before the end of the sale."""


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with (
            launch(Path(directory), environment={"RABBITMQ_URL": ""}, progress=print, page=control_room_page) as system,
            async_playwright() as playwright,
        ):
            chromium = shutil.which("chromium") or shutil.which("google-chrome")
            browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            await take_shop(browser, system)
            await take_control_room(browser, system)  # last: its sale leaves a backlog
            await browser.close()


async def take_control_room(browser: Browser, system: System) -> None:
    """A flash sale while the payment service is down."""
    page = await opened(browser, f"{system.control_room_url}/?token={system.operator_token}")
    await page.get_by_role("tab", name="Process control").click()
    await page.get_by_role("button", name="Kill, keep down: payment service").click()
    await page.get_by_role("tab", name="Scenarios").click()
    await page.get_by_role("button", name="Play: Flash sale").click()
    waiting = page.get_by_role("group", name="Queue: To be charged").locator(".figure")
    await waiting.filter(has_text=re.compile(SOLD)).wait_for()
    await save(page, "control-room.png")
    system.processes["payment_service"].release()


async def take_shop(browser: Browser, system: System) -> None:
    """The shop with an order on its rail, and earlier ones of the same browser."""
    page = await opened(browser, system.url("order_service"))
    for dish, card in (("Cola 0.33 l", "It is declined"), ("Tiramisù", "It pays"), ("Pizza Diavola", "It pays")):
        await page.get_by_role("button", name=f"One more {dish}").click()
        await page.get_by_role("radio", name=card, exact=True).check()
        await page.locator("#place").click()
        await page.locator("#cart-empty").wait_for()
        await page.locator("#rail[data-link=over]").wait_for()
    await page.get_by_role("button", name="One more Lasagne").click()
    await save(page, "shop.png")


async def opened(browser: Browser, url: str) -> Page:
    page = await browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
    page.set_default_timeout(TIMEOUT_MILLISECONDS)
    await page.goto(url)
    return page


async def save(page: Page, name: str) -> None:
    await page.evaluate("scrollTo(0, 0)")
    image = await page.screenshot(path=IMAGES / name)
    if len(image) > LARGEST_BYTES:
        raise SystemExit(f"{name} has {len(image)} bytes, expected at most {LARGEST_BYTES}")
    print(f"{IMAGES / name}: {len(image)} bytes")


if __name__ == "__main__":
    asyncio.run(main())
