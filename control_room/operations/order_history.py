"""An order's whole history: its timeline, what each service did with each message, and its dead letters.

The order service keeps timelines as long as their orders. Which messages were published and handled, each service
remembers for a while only: the history names what is missing.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from control_room.operations.addresses import SystemAddresses
from control_room.operations.causal_order import Entry, in_order, publisher_of
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.replicas import replicas
from control_room.operations.roles import ORDERS
from shared import contract
from shared.ids import UUID_PATTERN

TIMEOUT_SECONDS = 3.0
EXAMPLE = "019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"
FAILURES = (httpx.HTTPError, OSError, ValueError, KeyError)
STATES = {"retry": "busy", "dead letter": "broken", "returned": "broken", "refused": "broken"}


class NoSuchOrder(Exception):
    """No order has this id."""


@dataclass(frozen=True)
class OrderHistory:
    """`entries` have causes before effects. `gaps`: what could not be found out, a sentence each."""

    order_id: str
    status: str
    total: str
    entries: Sequence[Entry]
    gaps: Sequence[str]


async def order_history(
    addresses: SystemAddresses,
    order_id: str,
    dead_letters: Iterable[DeadLetter],
    discards: Iterable[Mapping[str, Any]] = (),
) -> OrderHistory:
    """The history of an order, given its dead letters and what the journal of discards says of it.

    Raises NoSuchOrder, or httpx.HTTPError.
    """
    check(order_id)
    headers = addresses.operator_headers
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False, headers=headers) as http:
        order = await _order(http, addresses, order_id)
        placed_at = _time(order["placed_at"])
        remembered = await asyncio.gather(
            *(_remembered(http, name, url, order_id, placed_at) for name, url in addresses.services.items())
        )
    timeline = [_from_timeline(entry) for entry in order["timeline"]]
    others = [entry for entries, _ in remembered for entry in entries]
    others += [_from_dead_letter(dead_letter, placed_at) for dead_letter in dead_letters]
    others += [_from_discard(line) for line in discards]
    gaps = [gap for _, gaps in remembered for gap in gaps]
    return OrderHistory(order_id, order["status"], _money(order["total"]), in_order(timeline, others), gaps)


def check(order_id: str) -> None:
    """Raises NoSuchOrder for what can't be the id of an order: it becomes part of a URL."""
    if not re.fullmatch(UUID_PATTERN, order_id):
        raise NoSuchOrder(f"{order_id[:60]!r} is no order's id: expected a UUID such as {EXAMPLE}.")


async def _order(http: httpx.AsyncClient, addresses: SystemAddresses, order_id: str) -> dict[str, Any]:
    answer = await http.get(f"{addresses.services[ORDERS.name]}/orders/{order_id}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise NoSuchOrder(f"There is no order {order_id}.")
    order: dict[str, Any] = answer.raise_for_status().json()
    return order


async def _remembered(
    http: httpx.AsyncClient, service: str, url: str, order_id: str, placed_at: datetime
) -> tuple[list[Entry], list[str]]:
    """What all replicas of a service remember of the order, and what they can't know."""
    try:
        answers = await asyncio.gather(*(_deliveries(http, each, order_id) for each in await replicas(url)))
    except FAILURES:
        return [], [f"{service} does not answer, so what it did is missing here."]
    entries = [_from_delivery_log(service, record) for answer in answers for record in answer["deliveries"]]
    since = max(_time(answer["known_since"]) for answer in answers)
    gap = f"{service} remembers nothing from before {since.isoformat()}: it was started then, or has forgotten it."
    return entries, [gap] if since > placed_at else []


async def _deliveries(http: httpx.AsyncClient, url: str, order_id: str) -> dict[str, Any]:
    answer = await http.get(f"{url}/deliveries", params={"order_id": order_id})
    deliveries: dict[str, Any] = answer.raise_for_status().json()
    return deliveries


def _from_timeline(entry: Mapping[str, Any]) -> Entry:
    what, state = _timeline_says(entry)
    return Entry(_time(entry["at"]), "order timeline", what, state, publisher_of(entry["type"]), entry["type"])


def _timeline_says(entry: Mapping[str, Any]) -> tuple[str, str]:
    family = entry["type"].rpartition(".")[0]
    says = SENTENCES.get(family)
    return says(entry) if says else f"{family}.", "broken" if family in BROKEN else "fine"


def _from_delivery_log(service: str, record: Mapping[str, Any]) -> Entry:
    what = {"published": _published, "handled": _handled}[record["act"]](record)
    attempt = f", attempt {record['attempt']}" if record["attempt"] > 1 else ""
    again = ", delivered again by the broker" if record["redelivered"] else ""
    state = STATES.get(record["outcome"], "fine")
    return Entry(
        _time(record["at"]), service, f"{what}{attempt}{again}.", state, service, record["type"] or "", record["act"]
    )


def _published(record: Mapping[str, Any]) -> str:
    outcome = {"confirmed": "", "unroutable": ": no queue takes it"}.get(record["outcome"], f": {record['outcome']}")
    # A consumer publishes to a queue to try again, or to give up.
    is_queue = record["place"].partition(".")[0] in {service.name for service in contract.services()}
    verb, preposition = ("Put", "into") if is_queue else ("Published", "to")
    return f"{verb} {record['type']} {preposition} {record['place']}{outcome}"


def _handled(record: Mapping[str, Any]) -> str:
    what = f"{record['type']} from {record['place']}" if record["type"] else record["place"]
    detail = f" ({record['detail']})" if record["detail"] else ""
    match record["outcome"]:
        case "done":
            return f"Handled {what}{detail}"
        case "duplicate":
            return f"A duplicate of {what}: the work was found done, and not done again{detail}"
        case "retry":
            return f"Failed with {what}, and tries again {record['detail']}"
        case _:
            return f"Gave up on {what}{detail}"


def _from_dead_letter(dead_letter: DeadLetter, placed_at: datetime) -> Entry:
    why = dead_letter.error or dead_letter.reason or "no reason given"
    return Entry(
        dead_letter.parked_at or placed_at, "dead letters", f"Set aside from {dead_letter.queue}: {why}.", "broken",
        dead_letter.queue.partition(".")[0], dead_letter.message.type or "", "set aside",
    )  # fmt: skip


def _from_discard(line: Mapping[str, Any]) -> Entry:
    queue, event = line["queue"], line["message"].get("type") or ""
    why = f": {line['because']}" if line["because"] else ""
    what = f"Discarded from the dead letters of {queue} by an operator{why}."
    return Entry(
        _time(line["discarded_at"]), "dead letters", what, "broken", queue.partition(".")[0], event, "set aside"
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _money(amount: Mapping[str, Any]) -> str:
    return f"{amount['amount_minor'] / 100:.2f} {amount['currency']}"


CANCELLED_BECAUSE = {
    "customer": "The customer cancelled the order.",
    "payment-timeout": "The order was cancelled, since it was not paid in time.",
}
SENTENCES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "order.placed": lambda _: "The order was placed.",
    "order.cancelled": lambda entry: CANCELLED_BECAUSE.get(entry.get("reason", ""), "The order was cancelled."),
    "payment.succeeded": lambda entry: f"Paid: {_money(entry['amount'])}, charge {entry['charge_id']}.",
    "payment.declined": lambda entry: f"The card was declined: {entry['reason']}.",
    "payment.stalled": lambda entry: f"The charge was given up: {entry['error']}.",
    "payment.voided": lambda _: "The charge was voided: nothing was charged, and nothing will be.",
    "payment.refunded": lambda entry: f"Refunded: {_money(entry['amount'])}, refund {entry['refund_id']}.",
    "notification.delivered": lambda entry: f"Notified by {entry['channel']}: {entry['notice'].replace('_', ' ')}.",
    "notification.failed": lambda entry: f"Could not be notified by {entry['channel']}: {entry['error']}.",
}
"""What an entry of a timeline says, by the type of its event without the version."""
BROKEN = ("payment.stalled", "notification.failed")
