"""Orders that are cancelled: before the charge, after it, and so that the cancellation overtakes the order.

And one whose refund fails, until it is repaired.
"""

import asyncio
import math

from control_room.experiments.client import is_final
from control_room.experiments.scenarios.out_of_order import put_back_reversed
from control_room.experiments.scenarios.outage import away
from control_room.experiments.scenarios.scenario import Outcome, Playing, Scenario
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.dead_letters.parked import connected
from control_room.operations.dead_letters.redrive import redrive
from control_room.operations.dead_letters.selection import Selection
from control_room.operations.roles import CHARGE, PAYMENTS, TAKEN_BACK
from shared.waiting import poll

WAIT_SECONDS = 30.0
LOOK_SECONDS = 0.2
REDRIVES_A_SECOND = 10
EXPECTED = {"before the charge": "cancelled", "after the charge": "refunded", "overtaking the order": "cancelled"}


async def play(playing: Playing) -> Outcome:
    """One order of each kind; each ends without its money kept."""
    early, late = await asyncio.gather(_before(playing), _after(playing))
    ids = [early, late, await _overtaking(playing)]
    playing.say("all three are cancelled; looking for the money")
    orders = await playing.client.orders(ids, lambda order: order["status"] in TAKEN_BACK, WAIT_SECONDS)
    ends = {when: orders[order_id]["status"] for when, order_id in zip(EXPECTED, ids, strict=True)}
    return Outcome(
        expected=f"Cancelled {_in_words(EXPECTED)}. One charge, and one refund of it.",
        seen=f"cancelled {_in_words(ends)}; {await playing.audited(ids)}",
        held=ends == EXPECTED,
    )


def _in_words(ends: dict[str, str]) -> str:
    return ", ".join(f"{when}: {end}" for when, end in ends.items())


async def _before(playing: Playing) -> str:
    """While the gateway fails and is tried again."""
    (placed,) = await playing.place(["tok_broken"])
    await playing.client.cancel(placed.order_id)
    return placed.order_id


async def _after(playing: Playing, token: str = "tok_visa") -> str:  # noqa: S107 - no secret
    (placed,) = await playing.place([token])
    await playing.client.orders([placed.order_id], is_final, WAIT_SECONDS)
    playing.say("an order is confirmed, and cancelled")
    await playing.client.cancel(placed.order_id)
    return placed.order_id


async def _overtaking(playing: Playing) -> str:
    """Order and cancellation wait for the payment service; it reads the cancellation first."""
    async with playing.client.channel() as channel, away(playing.target, PAYMENTS.name):
        playing.say("an order and its cancellation wait while the payment service is away, and are swapped")
        (placed,) = await playing.place(["tok_visa"])
        await playing.client.cancel(placed.order_id)
        await put_back_reversed(channel, playing.client, CHARGE, {placed.order_id}, 2)
    await playing.client.wait_until_ready(WAIT_SECONDS)
    return placed.order_id


SCENARIO = Scenario(
    name="cancel",
    title="Second thoughts",
    look_for="Three orders are cancelled. One before its charge: it is voided. One after it: it is refunded, once. Of "
    "the third the payment service reads the cancellation before the order itself: it is never charged.",
    play=play,
    needs=("control",),
)


async def play_refund_fails(playing: Playing) -> Outcome:
    """The refund is given up, an operator repairs its cause, and redrives the dead letter."""
    client, say = playing.client, playing.say
    order_id = await _after(playing, "tok_refund_fails")
    say("the refund fails, and is tried again until it is given up")

    async def parked() -> DeadLetter | None:
        return next((each for each in await client.dead_letters() if each.order_id == order_id), None)

    dead_letter = await poll(parked, within_seconds=math.inf, every_seconds=LOOK_SECONDS)
    status, while_parked = (await client.order(order_id))["status"], await playing.audited([order_id])
    say("it is a dead letter; repaired, and sent back")
    await client.repair_refund(order_id)
    async with connected(playing.target.addresses.rabbitmq_url) as connection:
        selection = Selection(id=dead_letter.id if dead_letter else None, queue=CHARGE)
        await redrive(playing.target.addresses.rabbitmq_url, connection, selection, REDRIVES_A_SECOND)
    orders = await client.orders([order_id], lambda order: order["status"] in TAKEN_BACK, WAIT_SECONDS)
    return Outcome(
        expected="The order stays cancelling with a dead letter, and nothing else is wrong; repaired and sent back, it "
        "is refunded.",
        seen=f"{status} with a dead letter ({while_parked}); then {orders[order_id]['status']}: "
        f"{await playing.audited([order_id])}",
        held=(status, orders[order_id]["status"]) == ("cancelling", "refunded"),
    )


REFUND_FAILS = Scenario(
    name="refund-fails",
    title="A refund that fails",
    look_for="A paid order is cancelled, and the gateway can't pay back. The refund is tried again, then set aside as "
    "a dead letter; once the gateway is repaired, sending it back finishes the refund.",
    play=play_refund_fails,
    limit_seconds=240,
)
