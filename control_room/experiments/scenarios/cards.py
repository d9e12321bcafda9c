"""Cards that are declined, a gateway that fails, and one whose answer is lost."""

import asyncio
from collections.abc import Mapping

from control_room.experiments.scenarios.scenario import Outcome, Say, Scenario, Stage
from control_room.experiments.scenarios.tour import take

STEPS = ("declined card", "flaky gateway", "lost answer")


async def play(stage: Stage, _chosen: Mapping[str, int], say: Say) -> Outcome:
    """One order of each kind, side by side."""
    now = dict.fromkeys(STEPS, "")

    def say_of(step: str) -> Say:
        def say_it(what: str) -> None:
            now[step] = what
            say(", ".join(f"{each}: {told}" for each, told in now.items() if told))

        return say_it

    outcomes = await asyncio.gather(*(take(stage, step, say_of(step)) for step in STEPS))
    told = list(zip(STEPS, outcomes, strict=True))
    return Outcome(
        expected="; ".join(f"{step}: {outcome.expected}" for step, outcome in told),
        seen="; ".join(f"{step}: {outcome.seen}" for step, outcome in told),
        held=all(outcome.held for outcome in outcomes),
    )


SCENARIO = Scenario(
    name="cards",
    title="Declined and flaky cards",
    look_for="A bad card is declined at once. A gateway that fails twice is tried again after a pause, and nobody else "
    "waits for it. One that charges and whose answer is lost does not charge twice.",
    play=play,
)
