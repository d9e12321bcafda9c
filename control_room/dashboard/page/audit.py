"""The audit: whether the books of all services agree, and if not, which orders are concerned."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from control_room.dashboard.page.parts import button, card, duration, swap, text
from control_room.dashboard.page.room import Room
from control_room.dashboard.snapshots import Snapshot
from control_room.dashboard.snapshots.auditing import BUSY_PER_SECOND, Verdict

HINT = (
    "Again and again, in the background, every order is held against payments, the gateway's own ledger, "
    "notifications, queues and dead letters."
)
SHOWN = 10


class Audit:
    """The latest verdict."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._shown: Verdict | None = None
        with card("Audit", HINT, "audit"):
            self._verdict = text("", "verdict").props("role=status")
            self._counts = text("", "counts")
            self._now = text("", "hint")
            self._violations = ui.element("ul").classes("violations")
            button("Audit now", self._ask, kind="plain")

    def show(self, snapshot: Snapshot) -> None:
        auditing = self._room.auditing
        self._now.set_text(_now(auditing.is_running, auditing.trouble, auditing.last, snapshot.accepted))
        if auditing.last is not self._shown:
            self._shown = auditing.last
            self._show_verdict()
        elif self._shown is None:
            self._verdict.set_text("The first audit is on its way.")

    async def _ask(self) -> None:
        self._room.auditing.ask()

    def _show_verdict(self) -> None:
        if self._shown is None:
            return
        report = self._shown.report
        self._verdict.set_text(_verdict(report))
        swap(self._verdict, "fine" if self._shown.is_clean else "broken", ("fine", "broken"))
        self._counts.set_text(_looked_at(report))
        self._violations.clear()
        with self._violations:
            _show_violations(report["violations"])


def _now(is_running: bool, trouble: str, last: Verdict | None, accepted: float) -> str:
    ago = f"Last looked {duration(time.time() - last.at)} ago; it took {duration(last.took_seconds)}." if last else ""
    if trouble:
        return f"It could not be carried out: {trouble}"
    if is_running:
        return f"{ago} Looking again now …"
    return f"{ago} It waits until the rush is over." if accepted > BUSY_PER_SECOND else ago


def _verdict(report: Mapping[str, Any]) -> str:
    total = sum(check["violations"] for check in report["checks"])
    if total:
        return f"{total:,} things are wrong."
    judged = report["counts"].get("orders", 0) - report["in_flight"]
    if not judged:
        return "There is nothing to judge yet."
    return f"The books agree on {judged:,} orders: nothing lost, nothing doubled."


def _looked_at(report: Mapping[str, Any]) -> str:
    moving = f" {report['in_flight']:,} orders are in flight." if report["in_flight"] else ""
    told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in report["counts"].items() if count)
    return f"Looked at {told}.{moving}" if told else "There are no orders yet."


def _show_violations(violations: Sequence[Mapping[str, Any]]) -> None:
    for violation in violations[:SHOWN]:
        with ui.element("li"):
            text(f"{violation['subject']}: {violation['what']}", "what")
            text(violation["invariant"], "code")
            for service, said in violation["evidence"].items():
                text(f"{service}: {said}", "hint")
    if len(violations) > SHOWN:
        text(f"and {len(violations) - SHOWN} more: see 'order-rail audit'", "hint", tag="li")
