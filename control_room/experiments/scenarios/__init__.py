"""The scenarios: what a queue does for an order system, each shown on a running one and held against what to expect.

They know nothing of pages: `scenario.py` says what a scenario is, `runner.py` runs one at a time, `system.py` is what
they do to the system in common, and each of the other files is one of them.
"""

from control_room.experiments.scenarios import (
    cards,
    duplicates,
    flash_sale,
    in_line,
    out_of_order,
    outage,
    poison,
    slow_mail,
)
from control_room.experiments.scenarios.runner import Run, Runner
from control_room.experiments.scenarios.scenario import MailRoute, Outcome, Scenario, Setting, Stage

SCENARIOS: tuple[Scenario, ...] = (
    flash_sale.SCENARIO,
    in_line.SCENARIO,
    outage.SCENARIO,
    slow_mail.SCENARIO,
    duplicates.SCENARIO,
    out_of_order.SCENARIO,
    poison.SCENARIO,
    cards.SCENARIO,
)

__all__ = ["SCENARIOS", "MailRoute", "Outcome", "Run", "Runner", "Scenario", "Setting", "Stage"]
