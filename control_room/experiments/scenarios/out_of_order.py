"""News that arrives in the wrong order: the customer was told before anybody heard of the payment."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace

from control_room.dashboard.process_control import ProcessControl
from control_room.experiments.scenarios.outage import away
from control_room.experiments.scenarios.scenario import NotSeen, Outcome, Say, Scenario, Stage
from control_room.experiments.scenarios.system import Customers, customers, publish, settled
from control_room.experiments.scenarios.tour import once_each
from control_room.experiments.tour.steps import until
from control_room.experiments.tour.system import visit
from control_room.operations.dead_letters.parked import connected, inspect
from shared.events import decode
from shared.messaging.connection import Connection
from shared.messaging.message import Delivery

CHARGE, TRACK = "payment_service.charge", "order_service.track"
ORDERS = 5
NEWS_EACH = 3
"""Of each order: it is paid, the email went out, the kitchen knows."""
WAIT_SECONDS = 30.0


async def play(stage: Stage, _chosen: Mapping[str, int], say: Say) -> Outcome:
    """While the order service is away its news waits; it is put back the wrong way round, and then it returns."""
    if stage.control is None:
        raise ValueError("no process control")
    async with visit(stage.addresses) as system, customers(stage.addresses) as some:
        ids = await _shuffle(stage, stage.control, some, say)
        await system.wait_until_ready(WAIT_SECONDS)
        say("the order service is back, and reads its news backwards")
        orders = await settled(system, ids, WAIT_SECONDS)
        first_heard = (await system.arrived(ids[0]))[:NEWS_EACH]
    confirmed = sum(order["status"] == "confirmed" for order in orders.values())
    return Outcome(
        expected=f"All {ORDERS} orders are confirmed, though each hears of its email before it hears of its payment.",
        seen=f"{confirmed} of {ORDERS} confirmed; the first heard of: {', then '.join(first_heard)}; "
        f"{await once_each(stage, ids)}",
        held=confirmed == ORDERS,
    )


async def _shuffle(stage: Stage, control: ProcessControl, some: Customers, say: Say) -> list[str]:
    """Orders whose news lies in the queue the wrong way round; the order service is back at the end."""
    url = stage.addresses.rabbitmq_url
    async with AsyncExitStack() as orders_away, connected(url) as connection:
        async with away(control, "payment_service"):
            say(f"{ORDERS} orders are placed while the payment service is away")
            before = (await inspect(connection, CHARGE)).messages
            ids = [placed.order_id for placed in await some.order_at_once(["tok_visa"] * ORDERS)]
            await until(lambda: _has_arrived(connection, before + ORDERS))
            say("the order service goes away")
            await orders_away.enter_async_context(away(control, "order_service"))
        say("the payment service is back; its news waits for the order service")
        await _put_back_reversed(connection, url, set(ids))
    return ids


async def _has_arrived(connection: Connection, count: int) -> bool:
    return (await inspect(connection, CHARGE)).messages >= count


async def _put_back_reversed(connection: Connection, url: str, ids: set[str]) -> None:
    """Take the news of these orders out of the queue, and put it in again backwards: first in, then out."""
    channel = await connection.channel()
    arrived: list[Delivery] = []
    await channel.consume(TRACK, arrived.append)
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    while len(news := [each for each in arrived if _order_of(each) in ids]) < ORDERS * NEWS_EACH:
        if asyncio.get_running_loop().time() > deadline:
            raise NotSeen(f"of {ORDERS * NEWS_EACH} messages only {len(news)} came within {WAIT_SECONDS:.0f} s")
        await asyncio.sleep(0.1)
    await publish(url, [replace(each.message, exchange="", routing_key=TRACK) for each in reversed(news)])
    for each in news:
        channel.ack(each.tag, multiple=False)
    await channel.close()


def _order_of(delivery: Delivery) -> str:
    return decode(delivery.message.body).subject


SCENARIO = Scenario(
    name="out-of-order",
    title="News in the wrong order",
    look_for="While the order service is away, its news is turned round in its queue. It hears of the email before the "
    "payment, and comes to the same end: a status is made of what happened, not of what came last.",
    play=play,
    needs=("control",),
)
