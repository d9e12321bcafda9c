"""An order's whole story: what is in the books, what each service did with each message, and what was set aside.

The books last; what was published and handled is only remembered for a while, and says so when it is incomplete.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from control_room.operations.addresses import SystemAddresses
from control_room.operations.causal_order import Entry, in_order, sender_of
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.replicas import replicas
from shared.ids import UUID_PATTERN

TIMEOUT_SECONDS = 3.0
EXAMPLE = "019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"
FAILURES = (httpx.HTTPError, OSError, ValueError, KeyError)


class NoSuchOrder(Exception):
    """No order has this id."""


@dataclass(frozen=True)
class Story:
    """Causes before effects. `gaps`: what could not be found out, a sentence each."""

    order_id: str
    status: str
    total: str
    entries: Sequence[Entry]
    gaps: Sequence[str]


async def tell(addresses: SystemAddresses, order_id: str, letters: Iterable[DeadLetter]) -> Story:
    """The story of an order. `letters` are its dead letters. Raises NoSuchOrder, or httpx.HTTPError."""
    check(order_id)
    headers = {"Authorization": f"Bearer {addresses.operator_token}"}
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False, headers=headers) as http:
        order = await _order(http, addresses, order_id)
        placed_at = _time(order["placed_at"])
        remembered = await asyncio.gather(
            *(_remembered(http, name, url, order_id, placed_at) for name, url in addresses.services.items())
        )
    timeline = [_from_book(entry) for entry in order["timeline"]]
    others = [entry for some, _ in remembered for entry in some]
    others += [_set_aside(letter, placed_at) for letter in letters]
    gaps = [gap for _, some in remembered for gap in some]
    return Story(order_id, order["status"], _money(order["total"]), in_order(timeline, others), gaps)


def check(order_id: str) -> None:
    """Raises NoSuchOrder for what no order can be called: it becomes part of a URL."""
    if not re.fullmatch(UUID_PATTERN, order_id):
        raise NoSuchOrder(f"{order_id[:60]!r} is no order's id: expected a UUID such as {EXAMPLE}.")


async def _order(http: httpx.AsyncClient, addresses: SystemAddresses, order_id: str) -> dict[str, Any]:
    answer = await http.get(f"{addresses.services['order_service']}/orders/{order_id}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise NoSuchOrder(f"There is no order {order_id}.")
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


async def _remembered(
    http: httpx.AsyncClient, service: str, url: str, order_id: str, placed_at: datetime
) -> tuple[list[Entry], list[str]]:
    """What all replicas of a service remember of the order, and what they can't know."""
    try:
        urls = await replicas(url)
        answers = await asyncio.gather(*(_ask(http, each, order_id) for each in urls))
    except FAILURES as error:
        return [], [f"{service} could not be asked what it did ({type(error).__name__})."]
    entries = [_from_memory(service, note) for answer in answers for note in answer["deliveries"]]
    since = max(_time(answer["known_since"]) for answer in answers)
    gap = f"{service} remembers nothing from before {since:%H:%M:%S} UTC: it was started then, or has forgotten it."
    return entries, [gap] if since > placed_at else []


async def _ask(http: httpx.AsyncClient, url: str, order_id: str) -> dict[str, Any]:
    answer = await http.get(f"{url}/deliveries", params={"order_id": order_id})
    told: dict[str, Any] = answer.raise_for_status().json()
    return told


def _from_book(entry: Mapping[str, Any]) -> Entry:
    what, state = _book_says(entry)
    return Entry(_time(entry["at"]), "order book", what, state, sender_of(entry["type"]), entry["type"])


def _book_says(entry: Mapping[str, Any]) -> tuple[str, str]:
    match entry["type"].rpartition(".")[0]:
        case "order.placed":
            return "The order was placed.", "fine"
        case "payment.succeeded":
            return f"Paid: {_money(entry['amount'])}, charge {entry['charge_id']}.", "fine"
        case "payment.declined":
            return f"The card was declined: {entry['reason']}.", "fine"
        case "payment.stalled":
            return f"The charge was given up: {entry['error']}.", "broken"
        case "notification.delivered":
            return f"Told by {entry['channel']}: {entry['notice'].replace('_', ' ')}.", "fine"
        case "notification.failed":
            return f"Could not be told by {entry['channel']}: {entry['error']}.", "broken"
        case other:
            return f"{other}.", "fine"


def _from_memory(service: str, note: Mapping[str, Any]) -> Entry:
    words = {"published": _published, "handled": _handled}[note["act"]](note)
    times = f", attempt {note['attempt']}" if note["attempt"] > 1 else ""
    again = ", delivered again by the broker" if note["redelivered"] else ""
    states = {"retry": "busy", "dead letter": "broken", "returned": "broken", "refused": "broken"}
    state = states.get(note["outcome"], "fine")
    return Entry(_time(note["at"]), service, f"{words}{times}{again}.", state, service, note["type"] or "", note["act"])


def _published(note: Mapping[str, Any]) -> str:
    outcome = "" if note["outcome"] == "confirmed" else f": {note['outcome']}"
    if note["place"].partition(".")[0].endswith("_service"):  # a queue, of those who try again or have given up
        return f"Put {note['type']} into {note['place']}{outcome}"
    return f"Published {note['type']} to {note['place']}{outcome}"


def _handled(note: Mapping[str, Any]) -> str:
    what, detail = f"{note['type']} from {note['place']}", f" ({note['detail']})" if note["detail"] else ""
    match note["outcome"]:
        case "done":
            return f"Handled {what}{detail}"
        case "duplicate":
            return f"A duplicate of {what}: the work was found done, and not done again{detail}"
        case "retry":
            return f"Failed with {what}, and tries again {note['detail']}"
        case _:
            return f"Gave up on {what}{detail}"


def _set_aside(letter: DeadLetter, placed_at: datetime) -> Entry:
    why = letter.error or letter.reason or "no reason given"
    return Entry(
        letter.parked_at or placed_at, "dead letters", f"Set aside from {letter.queue}: {why}.", "broken",
        letter.queue.partition(".")[0], letter.message.type or "", "set aside",
    )  # fmt: skip


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _money(amount: Mapping[str, Any]) -> str:
    return f"{amount['amount_minor'] / 100:.2f} {amount['currency']}"
