"""How the lab goes, on the terminal."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from control_room.experiments.experiment import Lines
from control_room.experiments.lab.run import Lab


def live(lab: Lab) -> Group:
    """A row for each way."""
    table = Table("way", "placed", "done", "now", box=None, padding=(0, 1))
    for trial in lab.trials:
        placed, done = len(trial.tally.placed), len(trial.tally.performed)
        table.add_row(trial.way.name, f"{placed:,}", f"{done:,}", trial.state)
    return Group(Text(f"The lab: {lab.phase}"), table)


def lines(lab: Lab) -> Lines:
    """A line for each phase."""
    states = {trial.state for trial in lab.trials}
    state = f": {states.pop()}" if len(states) == 1 else ""
    return [(lab.phase + state, lab.phase + state)]
