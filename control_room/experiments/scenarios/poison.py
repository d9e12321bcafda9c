"""Messages that can never be handled."""

import json
import math
import uuid

from control_room.experiments.client import is_final
from control_room.experiments.scenarios.scenario import Outcome, Playing, Scenario
from control_room.experiments.traffic import Unexpected
from control_room.operations.roles import ORDERS
from shared.events import OrderPlaced
from shared.messaging.message import Message
from shared.waiting import poll

GOOD_ORDERS = 10
END_WITHIN_SECONDS = 20.0
LOOK_SECONDS = 0.1
EXPECTED = ("not-json", "unknown-version", "schema-mismatch")


async def play(playing: Playing) -> Outcome:
    """Messages that no service understands, among good orders."""
    client, poison = playing.client, _poison()
    playing.say(f"{len(poison)} broken messages among {GOOD_ORDERS} good orders")
    await client.publish(poison)
    placed = await playing.place(["tok_visa"] * GOOD_ORDERS)
    await client.orders([each.order_id for each in placed], is_final, END_WITHIN_SECONDS)
    playing.say("the good orders are through; looking for the broken messages")
    ids = {message.message_id for message in poison}

    async def look() -> list[str]:
        return [letter.reason for letter in await client.dead_letters() if letter.id in ids]

    reasons = await poll(
        look,
        within_seconds=math.inf,
        every_seconds=LOOK_SECONDS,
        until=lambda reasons: len(reasons) >= len(poison),
    )
    if set(reasons) != set(EXPECTED):
        raise Unexpected(f"they are dead letters for the reasons {', '.join(reasons)}")
    return Outcome(
        expected=f"Each is set aside at once, with its reason; all {GOOD_ORDERS} good orders are confirmed.",
        seen=f"set aside as {', '.join(sorted(reasons))}, and {GOOD_ORDERS} orders confirmed meanwhile. They are among "
        "the dead letters: have a look, and discard them.",
        held=True,
    )


def _poison() -> list[Message]:
    placed = OrderPlaced.type_name()
    event = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": "scenario", "subject": str(uuid.uuid4())}
    newer = {**event, "type": "order.placed.v99", "time": "2030-01-01T00:00:00Z", "data": {}}
    incomplete = {**event, "type": placed, "time": "2030-01-01T00:00:00Z", "data": {"order": None}}
    bodies = (b"this is no JSON", json.dumps(newer).encode(), json.dumps(incomplete).encode())
    return [Message(ORDERS.exchange, placed, body, message_id=f"poison-{uuid.uuid4()}") for body in bodies]


SCENARIO = Scenario(
    name="poison",
    title="Poison",
    look_for="Messages that no service understands come in among the good ones. They are set aside as dead letters, "
    "each with its reason, and hold up nobody.",
    play=play,
    limit_seconds=60,
)
