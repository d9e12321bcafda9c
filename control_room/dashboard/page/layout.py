"""The whole page: a heading that stays, the rail with its chart, and beside them one of the panels."""

from pathlib import Path

from nicegui import ui

from control_room.dashboard.page import heading, levelling, rail
from control_room.dashboard.page.panels import PANELS
from control_room.dashboard.page.parts import KeepFocus, Page, named, text

STYLES = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
REFRESH_SECONDS = 1.0
HOW_TO_ENTER = (
    "You can look at everything here but what belongs to users. To see that, or to change something, open the "
    "link that 'order-rail up' printed, or enter the operator token:"
)
REFUSED = "That is not the operator token of this system. It is in the link that 'order-rail up' prints."
SHOW = "document.getElementById({!r}).scrollIntoView({{block: 'nearest'}})"


def build(page: Page, *, is_refused: bool = False) -> None:
    """The page for one viewer, kept up to date while it is open. `is_refused`: the viewer came with a wrong token."""
    ui.add_css(STYLES)
    ui.query(".nicegui-content").classes("bare")
    KeepFocus()
    heading.show(page)
    with ui.element("div").classes("room"):
        if is_refused or not page.may_act:
            _invite(page, is_refused=is_refused)
        with ui.element("div").classes("stack"):
            rail.show(page)
            levelling.show(page)
        _show_panels(page)
    ui.timer(REFRESH_SECONDS, page.refresh)
    pace = page.room.observer.pace
    page.client.on_connect(lambda: pace.open(page.client.id))
    page.client.on_delete(lambda: pace.close(page.client.id))


def _show_panels(page: Page) -> None:
    with ui.element("div").classes("panels").props("id=panels"):
        with named(ui.tabs(), "Panels").props("no-caps dense") as tabs:
            for panel in PANELS:
                ui.tab(panel.name, panel.label).props["data-panel"] = panel.name
        asked = [panel for panel in PANELS if page.asked.get(panel.query)]
        with ui.tab_panels(tabs, value=(asked or PANELS)[0].name, animated=False):
            for panel in PANELS:
                with named(ui.tab_panel(panel.name), panel.label):
                    panel.show(page)

    def open_panel(name: str) -> None:
        tabs.set_value(name)
        page.client.run_javascript(SHOW.format("panels"))

    page.open_panel = open_panel


def _invite(page: Page, *, is_refused: bool) -> None:
    """How a viewer becomes one who may change something."""
    with ui.element("form").classes("card invitation").props('method=get action="/"'):
        if is_refused:
            still = " You keep the right that you had." if page.may_act else ""
            text(REFUSED + still, "note broken", tag="p").props("role=alert id=refused")
        text(HOW_TO_ENTER, tag="label").props("for=token")
        field = ui.element("input").props("id=token name=token type=password autocomplete=off required")
        if is_refused:
            field.props("aria-invalid=true aria-describedby=refused")
        with ui.element("button").props("type=submit").classes("button plain"):
            text("Enter", tag="span")
