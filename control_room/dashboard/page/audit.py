"""The audit: whether the records of all services agree, and if not, which orders are concerned."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from nicegui import ui

from control_room.background import running
from control_room.dashboard.page.panel import Panel
from control_room.dashboard.page.parts import STATES, Page, button, card, text
from control_room.dashboard.page.room import Room
from control_room.dashboard.snapshots.auditing import RUSH_PER_SECOND, Auditing
from control_room.dashboard.snapshots.snapshot import Snapshot
from control_room.dashboard.words import capital, phrase, plainly
from control_room.text import counted, duration

HINT = (
    "Again and again, in the background, every order is compared with payments, the gateway's own ledger, "
    "notifications, queues and dead letters."
)
SHOWN = 10


def show(page: Page) -> None:
    """The latest verdict."""
    auditing = page.room.part(Auditing)

    def draw() -> None:
        if auditing.last is not None:
            report = auditing.last.report
            verdict.set_text(_verdict(report))
            verdict.classes(add="fine" if report["clean"] else "broken", remove=STATES)
            counts.set_text(_counts(report))
            _show_violations(page, report["violations"])

    with card("Audit", HINT, "audit"):
        verdict = text("The first audit is on its way.", "verdict").props("role=status")
        counts = text("", "counts")
        page.text(lambda snapshot: _progress(auditing, snapshot), "hint progress")
        page.redraw(ui.element("ul").classes("violations"), lambda: auditing.last, draw)
        button("Audit now", auditing.ask, kind="plain")


def in_short(auditing: Auditing) -> tuple[str, str]:
    """The verdict in a few words, and its CSS class."""
    if auditing.last is None:
        return ("Audit not possible", "broken") if auditing.trouble else ("First audit on its way", "")
    if total := _total(auditing.last.report):
        return f"Audit: {counted(total, 'violation')}", "broken"
    return ("Audit clean, but old", "busy") if auditing.trouble else ("Audit clean", "fine")


def _progress(auditing: Auditing, snapshot: Snapshot) -> str:
    last = auditing.last
    ago = duration(max(1, time.time() - last.at)) if last else ""
    if auditing.trouble:
        old = f" The verdict above is {ago} old." if last else ""
        again = " Looking again now …" if auditing.is_running else ""
        return f"Audit not possible: {plainly(auditing.trouble)}.{old}{again}"
    looked = f"Last looked {ago} ago; it took {duration(last.took_seconds)}." if last else ""
    if auditing.is_running:
        return f"{looked} Looking again now …"
    return f"{looked} It waits until the rush is over." if snapshot.incoming > RUSH_PER_SECOND else looked


def _total(report: Mapping[str, Any]) -> int:
    return sum(check["violations"] for check in report["checks"])


def _verdict(report: Mapping[str, Any]) -> str:
    if total := _total(report):
        return f"{counted(total, 'thing')} {'is' if total == 1 else 'are'} wrong."
    judged = report["counts"].get("orders", 0) - report["in_flight"]
    if not judged:
        return "There is nothing to judge yet."
    return f"All services agree on {counted(judged, 'order')}: nothing lost, nothing doubled."


def _counts(report: Mapping[str, Any]) -> str:
    flying = report["in_flight"]
    in_flight = f" {counted(flying, 'order')} {'is' if flying == 1 else 'are'} in flight." if flying else ""
    named_counts = [(name.replace("_", " "), count) for name, count in report["counts"].items() if count]
    counts = ", ".join(counted(count, name.removesuffix("s")) for name, count in named_counts)
    return f"Looked at {counts}.{in_flight}{_after_backup(report)}" if counts else "There are no orders yet."


def _after_backup(report: Mapping[str, Any]) -> str:
    lost = report.get("after_backup")
    if not lost or not lost["examples"]:
        return ""
    orders, cancellations = counted(lost["orders"], "order"), counted(lost["cancellations"], "cancellation")
    return f" Lost, since accepted after the backup that was restored: {orders}, {cancellations}."


def _show_violations(page: Page, violations: Sequence[Mapping[str, Any]]) -> None:
    for violation in violations[:SHOWN]:
        with ui.element("li"):
            subject = violation["subject"] if page.may_act else "an order"  # its id opens the customer's page
            text(f"{subject}: {violation['what']}", "what")
            text(violation["invariant"], "code")
            for service, statement in violation["evidence"].items() if page.may_act else ():
                text(capital(f"{phrase(service)}: {statement}"), "hint")
    if len(violations) > SHOWN:
        text(f"and {len(violations) - SHOWN} more: see 'order-rail audit'", "hint", tag="li")


@asynccontextmanager
async def _opened(room: Room) -> AsyncIterator[Auditing]:
    observer, arguments = room.observer, ("--discards", str(room.journal))
    auditing = Auditing(room.addresses, arguments, lambda: observer.snapshot.incoming, observer.pace)
    observer.on_recovery = auditing.retry
    async with running(auditing.run(), "auditing"):
        yield auditing


PANEL = Panel("audit", "Audit", show, chip=lambda page, _snapshot: in_short(page.room.part(Auditing)), opened=_opened)
