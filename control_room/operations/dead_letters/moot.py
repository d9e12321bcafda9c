"""Moot dead letters: their order was taken back since, so that a redrive changes nothing, and nobody has to decide."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import httpx

from control_room.operations.addresses import SystemAddresses
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.roles import CHARGE, NOTIFICATIONS, ORDERS, TAKEN_BACK
from shared.events import PaymentRefunded, PaymentVoided

QUEUES = (CHARGE, *NOTIFICATIONS.queue_names)
"""The queues whose consumers look at what became of the order before they do anything."""
NEVER_MOOT = (PaymentVoided.family(), PaymentRefunded.family())
"""What is told of an order that was taken back."""
ASKED_AT_ONCE = 20
TIMEOUT_SECONDS = 3.0


def may_be_moot(dead_letter: DeadLetter) -> bool:
    """Whether it is moot once its order is taken back."""
    return dead_letter.queue in QUEUES and dead_letter.event not in ("", *NEVER_MOOT)


def why_moot(dead_letter: DeadLetter, statuses: Mapping[str, str]) -> str:
    """A few words if it is moot, given the statuses of orders; else nothing."""
    status = statuses.get(dead_letter.order_id or "", "")
    if status not in TAKEN_BACK or not may_be_moot(dead_letter):
        return ""
    does_nothing = "charges nothing" if dead_letter.queue == CHARGE else "sends nothing"
    return f"moot: the order is {status}, and a redrive {does_nothing}"


async def statuses_of(system: SystemAddresses, dead_letters: Iterable[DeadLetter]) -> dict[str, str]:
    """The statuses, by order id, of the orders that decide whether these are moot; those that could be read."""
    order_ids = sorted({each.order_id or "" for each in dead_letters if may_be_moot(each)})
    url, statuses = f"{system.services[ORDERS.name]}/orders", {}
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as http:
        for first in range(0, len(order_ids), ASKED_AT_ONCE):
            batch = order_ids[first : first + ASKED_AT_ONCE]
            try:
                answers = await asyncio.gather(*(http.get(f"{url}/{order_id}") for order_id in batch))
                statuses.update(_read(batch, answers))
            except (httpx.HTTPError, OSError, ValueError, KeyError):
                return statuses  # the dead letters are shown all the same
    return statuses


def _read(order_ids: Sequence[str], answers: Sequence[httpx.Response]) -> dict[str, str]:
    pairs = zip(order_ids, answers, strict=True)
    return {order_id: answer.json()["status"] for order_id, answer in pairs if answer.is_success}
