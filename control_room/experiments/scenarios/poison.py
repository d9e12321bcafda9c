"""Messages that can never be handled."""

import json
import uuid
from collections import Counter
from collections.abc import Mapping

from control_room.experiments.scenarios.scenario import NotSeen, Outcome, Say, Scenario, Stage
from control_room.experiments.scenarios.system import customers, publish, settled
from control_room.experiments.tour.steps import until
from control_room.experiments.tour.system import visit
from control_room.operations.dead_letters.parked import connected, dead_letters
from shared.messaging.message import Message

QUEUE, EXCHANGE, ROUTING_KEY = "payment_service.charge", "orders", "order.placed.v1"
GOOD_ORDERS = 10
SETTLE_WITHIN_SECONDS = 20.0
EXPECTED = ("not-json", "unknown-version", "schema-mismatch")


async def play(stage: Stage, _chosen: Mapping[str, int], say: Say) -> Outcome:
    """Rubbish among good orders."""
    poison = _poison()
    async with visit(stage.addresses) as system:
        say(f"{len(poison)} broken messages among {GOOD_ORDERS} good orders")
        await publish(stage.addresses.rabbitmq_url, poison)
        async with customers(stage.addresses) as some:
            placed = await some.order_at_once(["tok_visa"] * GOOD_ORDERS)
        await settled(system, [each.order_id for each in placed], SETTLE_WITHIN_SECONDS)
    say("the good orders are through; looking for the broken messages")
    ids = {str(message.message_id) for message in poison}

    async def all_parked() -> Counter[str] | None:
        reasons = await _reasons(stage.addresses.rabbitmq_url, ids)
        return reasons if reasons.total() >= len(poison) else None

    reasons = await until(all_parked)
    if set(reasons) != set(EXPECTED):
        raise NotSeen(f"they were set aside as {', '.join(reasons)}")
    return Outcome(
        expected=f"Each is set aside at once, with its reason; all {GOOD_ORDERS} good orders are confirmed.",
        seen=f"set aside as {', '.join(sorted(reasons))}, and {GOOD_ORDERS} orders confirmed meanwhile. They are among "
        "the dead letters below: have a look, and discard them.",
        held=True,
    )


def _poison() -> list[Message]:
    event = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": "scenario", "subject": str(uuid.uuid4())}
    newer = {**event, "type": "order.placed.v99", "time": "2030-01-01T00:00:00Z", "data": {}}
    incomplete = {**event, "type": ROUTING_KEY, "time": "2030-01-01T00:00:00Z", "data": {"order": None}}
    bodies = (b"this is no JSON", json.dumps(newer).encode(), json.dumps(incomplete).encode())
    return [Message(EXCHANGE, ROUTING_KEY, body, message_id=f"poison-{uuid.uuid4()}") for body in bodies]


async def _reasons(url: str, ids: set[str]) -> Counter[str]:
    """Why these messages were set aside, as far as they were."""
    async with connected(url) as connection, dead_letters(connection, QUEUE) as letters:
        return Counter([held.dead_letter.reason async for held in letters if held.dead_letter.id in ids])


SCENARIO = Scenario(
    name="poison",
    title="Poison",
    look_for="Messages that nobody can read come in among the good ones. They end in 'set aside', each with its "
    "reason, and hold up nobody.",
    play=play,
    limit_seconds=60,
)
