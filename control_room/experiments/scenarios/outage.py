"""The payment service is away for half a minute."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from control_room.dashboard.process_control import ProcessControl
from control_room.experiments.scenarios.scenario import Outcome, Say, Scenario, Setting, Stage
from control_room.experiments.scenarios.system import Customers, Placed, customers, settled
from control_room.experiments.scenarios.tour import once_each
from control_room.experiments.tour.system import visit

SERVICE = "payment_service"
ORDERS_PER_SECOND = 4
RECOVER_WITHIN_SECONDS = 60.0


async def play(stage: Stage, chosen: Mapping[str, int], say: Say) -> Outcome:
    """Orders come in at a steady rate while nobody can charge them."""
    if stage.control is None:
        raise ValueError("no process control")
    seconds = chosen["seconds"]
    async with visit(stage.addresses) as system:
        async with away(stage.control, SERVICE), customers(stage.addresses) as some:
            placed = await _order_for(some, seconds, say)
        back_at = time.monotonic()
        say("it is back; what waited is being charged")
        ids = [each.order_id for each in placed]
        await settled(system, ids, RECOVER_WITHIN_SECONDS, lambda count: say(f"{count} of {len(ids)} are through"))
    caught_up = time.monotonic() - back_at
    slowest = max(each.answered_seconds for each in placed)
    return Outcome(
        expected=f"All {len(ids)} orders are accepted during the outage, and each is charged once when it is over.",
        seen=f"all accepted, the slowest in {slowest * 1000:.0f} ms; through {caught_up:.1f} s after it came back; "
        f"{await once_each(stage, ids)}",
        held=True,
    )


@asynccontextmanager
async def away(control: ProcessControl, service: str) -> AsyncIterator[None]:
    """The service does nothing while the block runs: killed where it can be kept down, else paused."""
    try:
        await (control.kill(service, hold_down=True) if control.can_hold_down else control.pause(service))
        yield
    finally:
        await (control.start(service) if control.can_hold_down else control.resume(service))


async def _order_for(some: Customers, seconds: float, say: Say) -> list[Placed]:
    def tell(count: int) -> None:
        say(f"the payment service is away: {count} orders taken all the same")

    return await some.order_at_a_rate(["tok_visa"] * round(seconds * ORDERS_PER_SECOND), ORDERS_PER_SECOND, tell)


SCENARIO = Scenario(
    name="outage",
    title="Payments are away",
    look_for="The payment service goes away. Orders are accepted as fast as before and wait in 'To be charged'; once "
    "it is back, the queue empties by itself.",
    play=play,
    settings=(Setting("seconds", "seconds away", 30, 3, 120),),
    needs=("control",),
    limit_seconds=300,
)
