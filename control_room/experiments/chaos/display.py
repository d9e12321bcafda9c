"""A chaos run on the terminal: a live table on a terminal, plain lines elsewhere."""

import asyncio
import time

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from control_room.experiments.chaos.faults import Injection
from control_room.experiments.chaos.report import ChaosReport
from control_room.experiments.chaos.run import Chaos

REFRESH_SECONDS = 0.25
STATUS_SECONDS = 10.0
SHOWN_INJECTIONS = 12


def show_plan(console: Console, seed: int, injections: list[Injection]) -> None:
    """Which fault will be injected when."""
    console.print(f"Seed {seed}: {len(injections)} faults")
    for injection in injections:
        console.print(f"  {injection.at_seconds:7.1f} s  {escape(str(injection))}")


async def watch(console: Console, chaos: Chaos) -> None:
    """Show how it goes, until cancelled."""
    await (_watch_live(console, chaos) if console.is_terminal else _watch_plain(console, chaos))


async def _watch_live(console: Console, chaos: Chaos) -> None:
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(Group(_numbers(chaos), _injections(chaos)), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)


def _numbers(chaos: Chaos) -> Table:
    counts = _counts(chaos)
    table = Table("time", *counts, "now")
    table.add_row(_elapsed(chaos), *(str(count) for count in counts.values()), escape(chaos.phase))
    return table


def _counts(chaos: Chaos) -> dict[str, int]:
    orders, watch = chaos.watch.orders, chaos.watch
    return {
        "accepted": chaos.customers.tally.accepted,
        "closed": orders.closed,
        "in flight": len(orders),
        "duplicates suppressed": watch.duplicates,
        "re-emitted": watch.swept,
    }


def _injections(chaos: Chaos) -> Table:
    table = Table("at", "fault", "on", "state", "evidence", title="Faults")
    begun = [injection for injection in chaos.injections if injection.state != "planned"]
    for each in begun[-SHOWN_INJECTIONS:]:
        table.add_row(f"{each.at_seconds:.0f} s", each.fault, each.target, _state(each), escape(_evidence(each)))
    return table


def _state(injection: Injection) -> str:
    if injection.problem:
        return "[red]no evidence[/]"
    return injection.state if injection.back_seconds is None else f"back after {injection.back_seconds:.1f} s"


def _evidence(injection: Injection) -> str:
    return "; ".join([*injection.evidence, *([injection.problem] if injection.problem else [])])


async def _watch_plain(console: Console, chaos: Chaos) -> None:
    printed: dict[int, str] = {}
    status_at = 0.0
    try:
        while True:
            _print_changes(console, chaos, printed)
            if time.monotonic() >= status_at:
                status_at = time.monotonic() + STATUS_SECONDS
                counts = ", ".join(f"{count} {name}" for name, count in _counts(chaos).items())
                console.print(f"{_elapsed(chaos):>7}  {counts}; {escape(chaos.phase)}")
            await asyncio.sleep(REFRESH_SECONDS)
    finally:
        _print_changes(console, chaos, printed)


def _print_changes(console: Console, chaos: Chaos, printed: dict[int, str]) -> None:
    for index, injection in enumerate(chaos.injections):
        if injection.state == printed.get(index, "planned"):
            continue
        printed[index] = injection.state
        result = f" ({_state(injection)}): {_evidence(injection)}" if injection.state == "over" else ""
        console.print(escape(f"{_elapsed(chaos):>7}  {injection}: {injection.state}{result}"), soft_wrap=True)


def _elapsed(chaos: Chaos) -> str:
    return f"{time.monotonic() - chaos.began_at:.0f} s"


def show_result(console: Console, report: ChaosReport) -> None:
    """Whether it held, and if not, why."""
    console.print(
        f"{report.load.accepted} orders accepted, {report.closed} closed, {len(report.injections)} faults, "
        f"{report.duplicates} duplicates suppressed, {report.swept} orders re-emitted."
    )
    for failure in report.failures:
        console.print(f"[red]FAILED[/] {escape(failure)}", soft_wrap=True)
    if report.held:
        console.print("[bold green]All of it held:[/] nothing lost, nobody charged twice, every fault seen to happen.")
