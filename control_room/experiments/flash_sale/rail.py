"""Rates and waits during a flash sale, from what was counted once a second. No I/O.

Looks begin with that at the sale's beginning, `Look(0.0, 0, 0)`, so there is always one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from control_room.dashboard.snapshots import drain

RATE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Look:
    """The counts `seconds` after the sale began. `accepted`, `paid`: orders since then, those of other customers too.

    `paid`: their charge succeeded or was declined. The others wait in the order service's outbox or in RabbitMQ, or are
    being charged.
    """

    seconds: float
    accepted: int
    paid: int
    in_outbox: int = 0
    in_queue: int = 0

    @property
    def backlog(self) -> int:
        """Orders that are accepted and not paid; 0 where as many earlier orders were paid meanwhile."""
        return max(0, self.accepted - self.paid)


def rate(looks: Sequence[Look], count: Literal["accepted", "paid"], over_seconds: float = RATE_SECONDS) -> float:
    """Orders accepted or paid a second, over the last seconds."""
    last = looks[-1]
    first = next((look for look in reversed(looks) if last.seconds - look.seconds >= over_seconds), looks[0])
    orders: int = getattr(last, count) - getattr(first, count)
    return orders / (last.seconds - first.seconds) if last is not first else 0.0


def seconds_to_drain(looks: Sequence[Look]) -> float | None:
    """When the orders accepted so far are paid, if no more orders come; None without payments."""
    readings = [(look.seconds, looks[-1].accepted - look.paid) for look in looks]
    return drain.seconds_to_drain(readings, rate(looks, "paid"))


def oldest_age_seconds(looks: Sequence[Look]) -> float:
    """How long the oldest order in the backlog has been waiting.

    Orders are paid in turn, so with n paid it is number n + 1. It was accepted when the count of accepted orders
    reached that, on a straight line between two looks.
    """
    last, number = looks[-1], looks[-1].paid + 1
    if last.backlog == 0:
        return 0.0
    after = next(index for index, look in enumerate(looks) if look.accepted >= number)
    before, reached = looks[after - 1], looks[after]
    share = (number - before.accepted) / (reached.accepted - before.accepted)
    return last.seconds - (before.seconds + share * (reached.seconds - before.seconds))
