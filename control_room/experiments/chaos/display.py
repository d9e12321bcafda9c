"""How a chaos run goes, on the terminal: tables that are redrawn, plain lines where the output is no terminal."""

import time

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from control_room.experiments.chaos.faults import Injection
from control_room.experiments.chaos.run import Chaos
from control_room.experiments.experiment import Lines

STATUS_SECONDS = 10.0
SHOWN_INJECTIONS = 12


def live(chaos: Chaos) -> Group:
    """What was counted so far, and the latest faults."""
    counts = _counts(chaos)
    numbers = Table("time", *counts, "now")
    numbers.add_row(f"{_elapsed(chaos):.0f} s", *map(str, counts.values()), escape(chaos.report.phase))
    faults = Table("at", "fault", "on", "state", "evidence", title="Faults")
    begun = [injection for injection in chaos.report.injections if injection.state != "planned"]
    for each in begun[-SHOWN_INJECTIONS:]:
        state = "[red]no evidence[/]" if each.problem else _state(each)
        faults.add_row(f"{each.at_seconds:.0f} s", each.fault, each.target, state, escape(each.proof))
    return Group(numbers, faults)


def lines(chaos: Chaos) -> Lines:
    """Each new state of a fault, and every few seconds what was counted."""
    now = f"{_elapsed(chaos):5.0f} s "
    for injection in chaos.report.injections:
        if injection.state != "planned":
            outcome = f" ({_state(injection)}): {injection.proof}" if injection.state == "over" else ""
            yield (id(injection), injection.state), f"{now} {injection}: {injection.state}{outcome}"
    counts = ", ".join(f"{count} {name}" for name, count in _counts(chaos).items())
    yield _elapsed(chaos) // STATUS_SECONDS, f"{now} {counts}; {chaos.report.phase}"


def _counts(chaos: Chaos) -> dict[str, int]:
    seen = chaos.report.seen
    return {
        "accepted": chaos.customers.tally.accepted,
        "cancelled": chaos.customers.cancellations.accepted,
        "closed": seen.orders.closed,
        "in flight": len(seen.orders),
        "duplicates suppressed": seen.duplicates,
        "re-emitted": seen.swept,
    }


def _state(injection: Injection) -> str:
    if injection.problem:
        return "no evidence"
    return injection.state if injection.back_seconds is None else f"back after {injection.back_seconds:.1f} s"


def _elapsed(chaos: Chaos) -> float:
    return time.monotonic() - chaos.began_at
