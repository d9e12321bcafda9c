"""The audit: whether the records of all services agree, and if not, which orders are concerned."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from control_room.dashboard.page.parts import STATES, Page, button, card, text
from control_room.dashboard.snapshots.auditing import RUSH_PER_SECOND, Auditing
from control_room.dashboard.snapshots.snapshot import Snapshot
from control_room.text import duration

HINT = (
    "Again and again, in the background, every order is compared with payments, the gateway's own ledger, "
    "notifications, queues and dead letters."
)
SHOWN = 10


def show(page: Page) -> None:
    """The latest verdict."""
    auditing = page.room.auditing

    def draw() -> None:
        if auditing.last is not None:
            report = auditing.last.report
            verdict.set_text(_verdict(report))
            verdict.classes(add="fine" if report["clean"] else "broken", remove=STATES)
            counts.set_text(_counts(report))
            _show_violations(report["violations"])

    with card("Audit", HINT, "audit"):
        verdict = text("The first audit is on its way.", "verdict").props("role=status")
        counts = text("", "counts")
        page.text(lambda snapshot: _progress(auditing, snapshot), "hint")
        page.redraw(ui.element("ul").classes("violations"), lambda: auditing.last, draw)
        button("Audit now", auditing.ask, kind="plain")


def _progress(auditing: Auditing, snapshot: Snapshot) -> str:
    if auditing.trouble:
        return f"It could not be carried out: {auditing.trouble}"
    last = auditing.last
    ago = f"Last looked {duration(time.time() - last.at)} ago; it took {duration(last.took_seconds)}." if last else ""
    if auditing.is_running:
        return f"{ago} Looking again now …"
    return f"{ago} It waits until the rush is over." if snapshot.accepted > RUSH_PER_SECOND else ago


def _verdict(report: Mapping[str, Any]) -> str:
    total = sum(check["violations"] for check in report["checks"])
    if total:
        return f"{total:,} things are wrong."
    judged = report["counts"].get("orders", 0) - report["in_flight"]
    if not judged:
        return "There is nothing to judge yet."
    return f"All services agree on {judged:,} orders: nothing lost, nothing doubled."


def _counts(report: Mapping[str, Any]) -> str:
    in_flight = f" {report['in_flight']:,} orders are in flight." if report["in_flight"] else ""
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in report["counts"].items() if count)
    return f"Looked at {counts}.{in_flight}" if counts else "There are no orders yet."


def _show_violations(violations: Sequence[Mapping[str, Any]]) -> None:
    for violation in violations[:SHOWN]:
        with ui.element("li"):
            text(f"{violation['subject']}: {violation['what']}", "what")
            text(violation["invariant"], "code")
            for service, statement in violation["evidence"].items():
                text(f"{service}: {statement}", "hint")
    if len(violations) > SHOWN:
        text(f"and {len(violations) - SHOWN} more: see 'order-rail audit'", "hint", tag="li")
