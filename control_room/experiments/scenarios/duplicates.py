"""A message that is delivered again and again."""

from collections.abc import Mapping

from control_room.experiments.scenarios.scenario import Outcome, Say, Scenario, Stage
from control_room.experiments.scenarios.tour import take


async def play(stage: Stage, _chosen: Mapping[str, int], say: Say) -> Outcome:
    """An order's message is copied on its way, and published again once it is handled."""
    return await take(stage, "duplicates", say)


SCENARIO = Scenario(
    name="duplicates",
    title="The same message again",
    look_for="One order's message comes four times. Three times the payment service finds the work done, and charges "
    "nothing.",
    play=play,
)
