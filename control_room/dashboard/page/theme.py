"""How the page looks: its style sheet, once for every page."""

from pathlib import Path

from nicegui import ui

STYLES = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def apply() -> None:
    """Give this page its styles. Dark or light is the browser's choice."""
    ui.add_css(STYLES)
    ui.query(".nicegui-content").classes("bare")
