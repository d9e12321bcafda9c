"""Events that arrive in the wrong order: the order service reads of the email before it reads of the payment."""

import math
from contextlib import AsyncExitStack
from dataclasses import replace

from control_room.experiments.client import Client, is_final
from control_room.experiments.scenarios.outage import away
from control_room.experiments.scenarios.scenario import Outcome, Playing, Scenario
from control_room.experiments.traffic import Unexpected
from control_room.operations.roles import CHARGE, ORDERS, PAYMENTS, TRACK
from shared.events import decode
from shared.messaging.channel import Channel
from shared.messaging.message import Delivery
from shared.waiting import poll

COUNT = 5
EVENTS_EACH = 3
"""Of each order: it is paid, the email went out, the kitchen has its ticket."""
WAIT_SECONDS = 30.0
LOOK_SECONDS = 0.1


async def play(playing: Playing) -> Outcome:
    """While the order service is away its events wait; their order is reversed, and then the service returns."""
    client = playing.client
    ids = await _shuffle(playing)
    await client.wait_until_ready(WAIT_SECONDS)
    playing.say("the order service is back, and reads its events in reverse")
    orders = await client.orders(ids, is_final, WAIT_SECONDS)
    arrived = (await client.event_types(ids[0]))[:EVENTS_EACH]
    confirmed = sum(order["status"] == "confirmed" for order in orders.values())
    return Outcome(
        expected=f"All {COUNT} orders are confirmed, though the order service reads of each email before the payment.",
        seen=f"{confirmed} of {COUNT} confirmed; of the first arrived: {', then '.join(arrived)}; "
        f"{await playing.audited(ids)}",
        held=confirmed == COUNT,
    )


async def _shuffle(playing: Playing) -> list[str]:
    """Orders whose events lie in the queue in reverse; the order service is back at the end."""
    target, say = playing.target, playing.say
    async with AsyncExitStack() as orders_away, playing.client.channel() as channel:
        async with away(target, PAYMENTS.name):
            say(f"{COUNT} orders are placed while the payment service is away")
            count = (await channel.inspect(CHARGE)).messages + COUNT
            ids = [placed.order_id for placed in await playing.place(["tok_visa"] * COUNT)]
            await poll(
                lambda: channel.inspect(CHARGE),
                within_seconds=math.inf,
                every_seconds=LOOK_SECONDS,
                until=lambda queue: queue.messages >= count,
            )
            say("the order service goes away")
            await orders_away.enter_async_context(away(target, ORDERS.name))
        say("the payment service is back; its events wait for the order service")
        await put_back_reversed(channel, playing.client, TRACK, set(ids), COUNT * EVENTS_EACH)
    return ids


async def put_back_reversed(channel: Channel, client: Client, queue: str, ids: set[str], count: int) -> None:
    """Take `count` events of these orders out of a queue, and publish them again, the last one first."""
    deliveries: list[Delivery] = []
    await channel.consume(queue, deliveries.append)

    async def events() -> list[Delivery]:
        return [each for each in deliveries if decode(each.message.body).subject in ids]

    arrived = await poll(
        events,
        within_seconds=WAIT_SECONDS,
        every_seconds=LOOK_SECONDS,
        until=lambda arrived: len(arrived) >= count,
    )
    if len(arrived) < count:
        raise Unexpected(f"of {count} messages only {len(arrived)} came within {WAIT_SECONDS:.0f} s")
    await client.publish([replace(each.message, exchange="", routing_key=queue) for each in reversed(arrived)])
    for each in arrived:
        channel.ack(each.tag, multiple=False)


SCENARIO = Scenario(
    name="out-of-order",
    title="Events in the wrong order",
    look_for="While the order service is away, the events in its queue are reversed. It reads of the email before the "
    "payment, and comes to the same end: a status is made of what happened, not of what came last.",
    play=play,
    needs=("control",),
)
