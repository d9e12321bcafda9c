"""Steps of the tour as scenarios: the same orders, held against the same books."""

from dataclasses import dataclass, field

from control_room.experiments.scenarios.scenario import NotSeen, Outcome, Say, Stage
from control_room.experiments.tour.runner import audit_until_clean
from control_room.experiments.tour.steps import STEPS, Progress
from control_room.experiments.tour.system import visit

AGREE_WITHIN_SECONDS = 20.0
STEP = {step.title: step for step in STEPS}


@dataclass
class _Told(Progress):
    """Progress that is told to viewers, too."""

    tell: Say = field(default=lambda _: None)

    def say(self, what: str) -> None:
        super().say(what)
        self.tell(what)


async def take(stage: Stage, title: str, say: Say) -> Outcome:
    """Take a step of the tour, then hold its order against the books. Raises what the tour raises, and NotSeen."""
    step, progress = STEP[title], _Told(tell=say)
    async with visit(stage.addresses) as system:
        happened = await step.take(system, progress)
    return Outcome(step.expected, f"{happened}; {await once_each(stage, [progress.order_id])}", held=True)


async def once_each(stage: Stage, order_ids: list[str]) -> str:
    """Audit these orders; a sentence if their books agree. Raises NotSeen if they don't, AuditImpossible."""
    report = await audit_until_clean(stage.addresses, order_ids, AGREE_WITHIN_SECONDS)
    if not report.is_clean:
        first = report.violations[0]
        raise NotSeen(f"the books of {first.subject} do not agree: {first.what}")
    if report.in_flight:
        raise NotSeen(f"{report.in_flight_orders[0]} is still in flight after {AGREE_WITHIN_SECONDS:.0f} s")
    charges = report.counts.get("charges", 0)
    return f"charged {charges:,} of {len(order_ids):,}, nobody twice: the books agree"
