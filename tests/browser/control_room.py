"""How a viewer uses the control room in a browser."""

from playwright.async_api import Locator, Page


def group(page: Page, name: str) -> Locator:
    return page.get_by_role("group", name=name, exact=True)


async def open_panel(page: Page, name: str) -> None:
    await page.get_by_role("tab", name=name).click()


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()
