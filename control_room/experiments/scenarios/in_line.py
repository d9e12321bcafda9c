"""With a queue, or without: how long a customer would wait if everything were done before the answer."""

from statistics import median

from control_room.experiments.client import is_final, notified_after_seconds
from control_room.experiments.scenarios.scenario import Outcome, Playing, Scenario, Setting
from control_room.text import duration

FLAKY_SHARE = 0.1
RECOVER_WITHIN_SECONDS = 90.0
AT_LEAST_TIMES = 3
ORDERS_PER_SECOND = 20


async def play(playing: Playing) -> Outcome:
    """The same orders, measured twice: up to the answer, and up to when the last of the work was done."""
    count, say = playing.chosen["orders"], playing.say
    flaky = max(1, round(count * FLAKY_SHARE))
    say(f"{count} customers order, {ORDERS_PER_SECOND} a second")
    tokens = ["tok_flaky"] * flaky + ["tok_visa"] * (count - flaky)
    placed = await playing.place(tokens, ORDERS_PER_SECOND)
    ids = [each.order_id for each in placed]
    orders = await playing.client.orders(
        ids, is_final, RECOVER_WITHIN_SECONDS, lambda done: say(f"{done} of {count} done")
    )
    queued = [each.answered_seconds for each in placed]
    in_line = [notified_after_seconds(order, "email") for order in orders.values()]
    return Outcome(
        expected=f"With the queue, customers wait at least {AT_LEAST_TIMES} times less than without it, "
        "and nobody waits for a retry.",
        seen=f"with the queue: answered after {duration(median(queued))} (the slowest after {duration(max(queued))}); "
        f"without it: {duration(median(in_line))} (the slowest {duration(max(in_line))})",
        held=median(in_line) > AT_LEAST_TIMES * median(queued) and max(in_line) > max(queued),
    )


SCENARIO = Scenario(
    name="in-line",
    title="With a queue, or without",
    look_for="The same orders, measured twice. With the queue a customer waits until the order is safe; without it, "
    "until the charge and the email are done. Every tenth card is flaky: without the queue, its customer waits for the "
    "retries, too.",
    play=play,
    settings=(Setting("orders", "orders", 50, 2, 500),),
)
