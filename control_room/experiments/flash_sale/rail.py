"""The rail as a sale fills it and payments drain it: what has come in, what has gone out, and what waits. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass

from control_room.dashboard.snapshots import drain

RATE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Look:
    """The rail `seconds` after the sale began. `accepted`, `paid`: orders since then, by whomever they were placed.

    `paid` are those whose charge has been answered. Those in between wait in the order service's outbox or in
    RabbitMQ, or are being charged just now.
    """

    seconds: float
    accepted: int
    paid: int
    in_outbox: int = 0
    in_queue: int = 0

    @property
    def backlog(self) -> int:
        """Orders that are accepted and not paid. None where others' earlier orders were paid meanwhile."""
        return max(0, self.accepted - self.paid)


def accepted_rate(looks: Sequence[Look], over_seconds: float = RATE_SECONDS) -> float:
    """Orders accepted a second, over the last seconds."""
    first, last = _window(looks, over_seconds)
    return (last.accepted - first.accepted) / (last.seconds - first.seconds) if last is not first else 0.0


def paid_rate(looks: Sequence[Look], over_seconds: float = RATE_SECONDS) -> float:
    """Charges answered a second, over the last seconds."""
    first, last = _window(looks, over_seconds)
    return (last.paid - first.paid) / (last.seconds - first.seconds) if last is not first else 0.0


def seconds_to_drain(looks: Sequence[Look]) -> float | None:
    """When the orders accepted so far are paid, if no more orders come; None without payments."""
    accepted = looks[-1].accepted if looks else 0
    return drain.seconds_to_drain([(look.seconds, accepted - look.paid) for look in looks])


def oldest_age_seconds(looks: Sequence[Look]) -> float:
    """How long the first of those who wait has been waiting: orders are paid in turn, so it is the one after the
    last that was paid, and it was accepted when as many had been accepted."""
    if not looks or looks[-1].backlog == 0:
        return 0.0
    last, next_one = looks[-1], looks[-1].paid + 1
    return max(0.0, last.seconds - _accepted_at(looks, next_one))


def _accepted_at(looks: Sequence[Look], number: int) -> float:
    """When the order of this number was accepted, by a straight line between two looks."""
    before = Look(0.0, 0, 0)
    for look in looks:
        if look.accepted >= number:
            share = (number - before.accepted) / (look.accepted - before.accepted)
            return before.seconds + share * (look.seconds - before.seconds)
        before = look
    return before.seconds


def _window(looks: Sequence[Look], seconds: float) -> tuple[Look, Look]:
    """The last look, and the one that many seconds before it, or the first."""
    last = looks[-1] if looks else Look(0.0, 0, 0)
    for look in reversed(looks):
        if last.seconds - look.seconds >= seconds:
            return look, last
    return (looks[0] if looks else last), last
