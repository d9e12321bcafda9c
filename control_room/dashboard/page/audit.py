"""The audit: whether the records of all services agree, and if not, which orders are concerned."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from control_room.dashboard.page.parts import button, card, swap, text
from control_room.dashboard.page.room import Room
from control_room.dashboard.snapshots.auditing import RUSH_PER_SECOND, Verdict
from control_room.dashboard.snapshots.snapshot import Snapshot
from control_room.text import duration

HINT = (
    "Again and again, in the background, every order is compared with payments, the gateway's own ledger, "
    "notifications, queues and dead letters."
)
SHOWN = 10


class Audit:
    """The latest verdict."""

    def __init__(self, room: Room) -> None:
        self._auditing = room.auditing
        self._shown: Verdict | None = None
        with card("Audit", HINT, "audit"):
            self._verdict = text("The first audit is on its way.", "verdict").props("role=status")
            self._counts = text("", "counts")
            self._progress = text("", "hint")
            self._violations = ui.element("ul").classes("violations")
            button("Audit now", self._ask, kind="plain")

    def show(self, snapshot: Snapshot) -> None:
        self._progress.set_text(self._progress_text(snapshot.accepted))
        verdict = self._auditing.last
        if verdict is not None and verdict is not self._shown:
            self._shown = verdict
            self._show_verdict(verdict)

    async def _ask(self) -> None:
        self._auditing.ask()

    def _progress_text(self, accepted_per_second: float) -> str:
        if self._auditing.trouble:
            return f"It could not be carried out: {self._auditing.trouble}"
        last = self._auditing.last
        ago = (
            f"Last looked {duration(time.time() - last.at)} ago; it took {duration(last.took_seconds)}." if last else ""
        )
        if self._auditing.is_running:
            return f"{ago} Looking again now …"
        return f"{ago} It waits until the rush is over." if accepted_per_second > RUSH_PER_SECOND else ago

    def _show_verdict(self, verdict: Verdict) -> None:
        report = verdict.report
        self._verdict.set_text(_verdict(report))
        swap(self._verdict, "fine" if report["clean"] else "broken")
        self._counts.set_text(_counts(report))
        self._violations.clear()
        with self._violations:
            _show_violations(report["violations"])


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
