"""Steps of the tour as scenarios: the same orders, and the same audit."""

import asyncio
from collections.abc import Mapping

from control_room.experiments.client import Client, connected
from control_room.experiments.scenarios.scenario import Outcome, Say, Scenario, Target
from control_room.experiments.tour.steps import STEPS, StepRun
from control_room.experiments.traffic import Unexpected

AGREE_WITHIN_SECONDS = 20.0
CARDS = ("declined card", "flaky gateway", "lost answer")


async def take(target: Target, title: str, say: Say) -> Outcome:
    """Take a step of the tour, then audit its order. Raises what the step raises, AuditImpossible and Unexpected."""
    run = StepRun(next(step for step in STEPS if step.title == title), on_change=say)
    async with connected(target.addresses) as client:
        happened = await run.step.take(client, run)
        return Outcome(run.step.expected, f"{happened}; {await audited(client, [run.order_id])}", held=True)


async def audited(client: Client, order_ids: list[str]) -> str:
    """Audit these orders; a sentence if nothing is wrong with them. Raises Unexpected if it is, AuditImpossible."""
    report = await client.audit_until_clean(AGREE_WITHIN_SECONDS, only=order_ids, timeout_seconds=AGREE_WITHIN_SECONDS)
    if not report.is_clean:
        first = report.violations[0]
        raise Unexpected(f"the records of {first.subject} do not agree: {first.what}")
    if report.in_flight:
        raise Unexpected(f"{report.in_flight_orders[0]} is still in flight after {AGREE_WITHIN_SECONDS:.0f} s")
    charges = report.counts.get("charges", 0)
    return f"charged {charges:,} of {len(order_ids):,}, nobody twice: the records of all services agree"


async def play_duplicates(target: Target, _chosen: Mapping[str, int], say: Say) -> Outcome:
    """An order's message is copied on its way, and published again once it is handled."""
    return await take(target, "duplicates", say)


async def play_cards(target: Target, _chosen: Mapping[str, int], say: Say) -> Outcome:
    """One order of each kind, side by side."""
    progress: dict[str, str] = {}

    def say_of(title: str) -> Say:
        def say_it(now: str) -> None:
            progress[title] = now
            say(", ".join(f"{each}: {progress[each]}" for each in CARDS if each in progress))

        return say_it

    outcomes = await asyncio.gather(*(take(target, title, say_of(title)) for title in CARDS))
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
