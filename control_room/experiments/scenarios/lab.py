"""The lab, from the page: wrong ways and the right one, on a broker of the lab's own beside the running system."""

import json
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from control_room.experiments.experiment import FAILED, HELD, new_directory
from control_room.experiments.lab.command import LEAST_ORDERS, MOST_ORDERS
from control_room.experiments.lab.report import DAMAGE
from control_room.experiments.scenarios.scenario import Outcome, Playing, Scenario, Setting
from control_room.experiments.traffic import Unexpected
from control_room.launcher.children import death_pact, end

COMMAND = (sys.executable, "-c", "from control_room.cli import app; app()", "lab")
STOP_GRACE_SECONDS = 10.0


async def play(playing: Playing) -> Outcome:
    """As `order-rail lab`, in a process of its own. Its records stay in a directory under .run/lab."""
    directory = new_directory("lab")
    process = await create_subprocess_exec(
        *COMMAND, "--orders", str(playing.chosen["orders"]), "--output", str(directory),
        stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, start_new_session=True, preexec_fn=death_pact(),
    )  # fmt: skip
    try:
        last = await _follow(process, playing)
    finally:
        await end(process, STOP_GRACE_SECONDS)
    if process.returncode not in (HELD, FAILED):
        raise Unexpected(last)
    return _outcome(directory, json.loads((directory / "report.json").read_text()))


async def _follow(process: Process, playing: Playing) -> str:
    """Says each line that it prints; returns the last."""
    last = ""
    if process.stdout is not None:
        async for line in process.stdout:
            last = line.decode(errors="replace").strip()
            playing.say(last)
    await process.wait()
    return last


def _outcome(directory: Path, report: Mapping[str, Any]) -> Outcome:
    """Of the JSON that the lab has written into its directory."""
    ways = [f"{name}: {_damage(outcome)}" for name, outcome in report["ways"].items()]
    return Outcome(
        expected="Each wrong way loses orders, does them twice, leaves them stuck, or does what nobody asked for; "
        "Order Rail's way does none of it.",
        seen="; ".join([*ways, *report["failures"], f"the raw records and a chart are in {directory}"]),
        held=report["held"],
    )


def _damage(outcome: Mapping[str, Any]) -> str:
    counts = [f"{outcome[kind]:,} {label}" for kind, label in DAMAGE.items() if outcome[kind]]
    return ", ".join(counts) or f"nothing wrong with {outcome['accepted']:,} orders"


SCENARIO = Scenario(
    name="lab",
    title="The lab",
    look_for="The same orders go through small producers and consumers written the wrong ways and the right one, which "
    "are killed in the middle of their work. What each way lost or repeated is counted. It has a RabbitMQ of its own: "
    "nothing of it is on the rail.",
    play=play,
    settings=(Setting("orders", "orders for each way", 400, LEAST_ORDERS, MOST_ORDERS),),
    limit_seconds=900,
)
