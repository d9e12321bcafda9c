"""The payment service is away for half a minute."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from control_room.dashboard.process_control import Action
from control_room.experiments.client import is_final
from control_room.experiments.scenarios.scenario import Outcome, Playing, Scenario, Setting, Target
from control_room.operations.roles import PAYMENTS

ORDERS_PER_SECOND = 4
RECOVER_WITHIN_SECONDS = 60.0


async def play(playing: Playing) -> Outcome:
    """Orders come in at a steady rate while nothing can charge them."""
    say, tokens = playing.say, ["tok_visa"] * playing.chosen["seconds"] * ORDERS_PER_SECOND
    async with away(playing.target, PAYMENTS.name):
        placed = await playing.place(
            tokens,
            ORDERS_PER_SECOND,
            lambda count: say(f"the payment service is away: {count} orders accepted all the same"),
        )
    back_at = time.monotonic()
    say("it is back, and charges the orders that wait")
    ids = [each.order_id for each in placed]
    await playing.client.orders(
        ids, is_final, RECOVER_WITHIN_SECONDS, lambda count: say(f"{count} of {len(ids)} are through")
    )
    caught_up = time.monotonic() - back_at
    slowest = max(each.answered_seconds for each in placed)
    return Outcome(
        expected=f"All {len(ids)} orders are accepted during the outage, and each is charged once when it is over.",
        seen=f"all accepted, the slowest in {slowest * 1000:.0f} ms; through {caught_up:.1f} s after it came back; "
        f"{await playing.audited(ids)}",
        held=True,
    )


@asynccontextmanager
async def away(target: Target, service: str) -> AsyncIterator[None]:
    """The service does nothing while the block runs: killed where it can be kept down, else paused."""
    if (control := target.control) is None:
        raise ValueError("no process control")
    can_stay_down = Action.KEEP_DOWN in control.actions
    try:
        await control.apply(Action.KEEP_DOWN if can_stay_down else Action.PAUSE, service)
        yield
    finally:
        await control.apply(Action.START if can_stay_down else Action.RESUME, service)


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
