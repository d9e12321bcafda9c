"""Steps of the tour as scenarios: the same orders, and the same audit."""

import asyncio
from functools import partial

from control_room.experiments.scenarios.scenario import Outcome, Playing, Say, Scenario
from control_room.experiments.tour.steps import STEPS, StepRun

CARDS = ("declined card", "flaky gateway", "lost answer")


async def take(playing: Playing, title: str, say: Say) -> Outcome:
    """Take a step of the tour, then audit its order. Raises what the step raises, AuditImpossible and Unexpected."""
    run = StepRun(next(step for step in STEPS if step.title == title), on_change=say)
    happened = await run.step.take(playing.client, run)
    return Outcome(run.step.expected, f"{happened}; {await playing.audited([run.order_id])}", held=True)


async def play_duplicates(playing: Playing) -> Outcome:
    """An order's message is copied on its way, and published again once it is handled."""
    return await take(playing, "duplicates", playing.say)


async def play_cards(playing: Playing) -> Outcome:
    """One order of each kind, side by side."""
    progress: dict[str, str] = {}

    def say(title: str, now: str) -> None:
        progress[title] = now
        playing.say(", ".join(f"{each}: {progress[each]}" for each in CARDS if each in progress))

    outcomes = await asyncio.gather(*(take(playing, title, partial(say, title)) for title in CARDS))
    return Outcome(
        expected="; ".join(f"{title}: {each.expected}" for title, each in zip(CARDS, outcomes, strict=True)),
        seen="; ".join(f"{title}: {each.seen}" for title, each in zip(CARDS, outcomes, strict=True)),
        held=all(each.held for each in outcomes),
    )


DUPLICATES = Scenario(
    name="duplicates",
    title="The same message again",
    look_for="One order's message comes four times. Three times the payment service finds the work done, and charges "
    "nothing.",
    play=play_duplicates,
)
CARDS_SCENARIO = Scenario(
    name="cards",
    title="Declined and flaky cards",
    look_for="A bad card is declined at once. A gateway that fails twice is tried again after a pause, and nobody else "
    "waits for it. One that charges and whose answer is lost does not charge twice.",
    play=play_cards,
)
