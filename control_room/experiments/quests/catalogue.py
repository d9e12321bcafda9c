"""All quests, in the order of the page."""

from contextlib import suppress

from control_room.experiments.client import Client
from control_room.experiments.quests.quest import Help, Quest, Seen, Task
from control_room.experiments.traffic import Customers, Unexpected
from control_room.operations.roles import ORDERS, PAYMENTS
from control_room.text import counted, duration

DRAINED_WITHIN_SECONDS = 60.0
MANY, FEW = 200, 20
TOO_LATE = "Too late? Pause first, and place more."


def _placing(token: str, number: int) -> Help:
    """A button that places so many orders, paid with this token."""

    async def place(client: Client) -> str:
        with Customers(client.addresses.services[ORDERS.name]) as customers:
            placed = await customers.place_all([token] * number)
        return f"Placed {counted(len(placed), 'order')}."

    return Help(f"Place {counted(number, 'order')}", place)


async def _cancel_latest(client: Client) -> str:
    orders = (await client.newest_orders(1))["orders"]
    if not orders:
        raise Unexpected("there is no order yet: place one first")
    await client.cancel(orders[0]["order_id"])
    return "The latest order is being cancelled."


async def _mend_bank(client: Client) -> str:
    mended = 0
    for order in (await client.newest_orders(100))["orders"]:
        if order["status"] == "cancelling":
            with suppress(Unexpected):  # its refund does not fail
                await client.repair_refund(order["order_id"])
                mended += 1
    if not mended:
        raise Unexpected("no refund fails just now: cancel the order first")
    return f"Mended: {counted(mended, 'refund')} will work when it is tried again."


def _survived(seen: Seen) -> str:
    return f"{counted(len(seen.orders), 'order')} outlived a stop of {', '.join(sorted(seen.stopped))}; none is lost"


def _charged_once(seen: Seen) -> str:
    return f"each of {counted(len(seen.orders), 'order')} was charged at most once"


def _drained(seen: Seen) -> str:
    seconds = seen.empty_at - seen.full_at
    waited = min(seen.highest, len(seen.orders))  # one that moves is counted in two places for a moment
    said = f"{waited:,} orders waited, and were gone {duration(seconds)} after they began to become fewer"
    if seconds > DRAINED_WITHIN_SECONDS:
        raise Unexpected(f"{said}: begin again, with fewer or with a payment service that is not slowed down")
    return said


def _mended(_seen: Seen) -> str:
    return "the dead letter was sent back, and its order was refunded"


ORDERED = Task(f"Place {FEW} orders: with the button here, or in the shop.", lambda seen: len(seen.orders) >= FEW)
ENDED = Task(
    "Let everything run again, and wait until no order is under way.", lambda seen: seen.is_over and seen.orders
)

QUESTS: tuple[Quest, ...] = (
    Quest(
        name="lose",
        title="Lose an order if you can",
        dare="Whatever you stop, and whenever you do: an order that was answered “placed” is on disk, and a message "
        "goes away only when its work is recorded.",
        tasks=(
            ORDERED,
            Task(
                "While they are under way, kill or pause a service (Process control), or end RabbitMQ in a terminal. "
                f"{TOO_LATE}",
                lambda seen: seen.stopped,
            ),
            ENDED,
        ),
        helps=(_placing("tok_visa", FEW),),
        expected="No order is lost: each is charged once, its customer and the restaurant are notified.",
        achieved=_survived,
    ),
    Quest(
        name="charge-twice",
        title="Charge somebody twice",
        dare="The gateway charges these orders and then does not answer, so each charge is asked for again. Kill the "
        "payment service in the middle of it, too: each charge carries the order's id as its idempotency key.",
        tasks=(
            Task(
                f"Place {FEW} orders whose first answer is lost (card tok_timeout): with the button here.",
                lambda seen: len(seen.orders) >= FEW,
            ),
            Task(
                f"Kill or pause the payment service (Process control) while they are charged. {TOO_LATE}",
                lambda seen: PAYMENTS.name in seen.stopped,
            ),
            ENDED,
        ),
        helps=(_placing("tok_timeout", FEW),),
        expected="Nobody is charged twice: the gateway's own list has one charge for each order.",
        achieved=_charged_once,
    ),
    Quest(
        name="fill",
        title="Fill the rail, and let it drain within a minute",
        dare="Orders are taken while nobody works on them; what waits is done later, at the pace of who does it.",
        tasks=(
            Task(
                f"Pause the payment service (Process control), and place orders until {MANY} wait.",
                lambda seen: seen.highest >= MANY,
            ),
            Task(
                "Let the payment service go on, and wait until the rail is empty.",
                lambda seen: seen.empty_at and seen.is_over,
            ),
        ),
        helps=(_placing("tok_visa", MANY),),
        expected=f"At least {MANY} orders wait, and {duration(DRAINED_WITHIN_SECONDS)} later all are done.",
        achieved=_drained,
    ),
    Quest(
        name="poison",
        title="Make a poison message, and mend it",
        dare="A refund that fails every time is set aside as a dead letter, with its reason, and holds up nobody. Once "
        "its cause is mended, you send it back.",
        tasks=(
            Task(
                "Place an order whose refund will fail (card tok_refund_fails): with the button here, or in the shop.",
                lambda seen: seen.orders,
            ),
            Task(
                "Once it is confirmed, cancel it: in the shop, or with the button. After the last retry its refund "
                "becomes a dead letter.",
                lambda seen: seen.dead_letters,
            ),
            Task(
                "Mend the bank with the button here, and send the dead letter back (Dead letters).",
                lambda seen: seen.is_over and any(order["status"] == "refunded" for order in seen.orders.values()),
            ),
        ),
        helps=(
            _placing("tok_refund_fails", 1),
            Help("Cancel the latest order", _cancel_latest),
            Help("Mend the bank", _mend_bank),
        ),
        expected="The order is refunded once its refund was sent back, and no dead letter is left of it.",
        achieved=_mended,
    ),
)
