"""The scenarios: what a queue does for an order system, each played on a running one, and compared with what to expect.

They know nothing of pages: `scenario.py` says what a scenario is, `runner.py` runs one at a time, and each of the
other files holds one or two of them.
"""

from control_room.experiments.scenarios import (
    cancel,
    flash_sale,
    in_line,
    in_sequence,
    lab,
    out_of_order,
    outage,
    poison,
    slow_mail,
    tour_steps,
)
from control_room.experiments.scenarios.runner import Run, Runner
from control_room.experiments.scenarios.scenario import MailRoute, Outcome, Scenario, Setting, Target

SCENARIOS: tuple[Scenario, ...] = (
    flash_sale.SCENARIO,
    in_line.SCENARIO,
    outage.SCENARIO,
    slow_mail.SCENARIO,
    tour_steps.DUPLICATES,
    out_of_order.SCENARIO,
    in_sequence.SCENARIO,
    cancel.SCENARIO,
    cancel.REFUND_FAILS,
    poison.SCENARIO,
    lab.SCENARIO,
    tour_steps.CARDS_SCENARIO,
)

__all__ = ["SCENARIOS", "MailRoute", "Outcome", "Run", "Runner", "Scenario", "Setting", "Target"]
