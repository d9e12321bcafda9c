"""The result of an audit."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from control_room.operations.asking import Unanswered
from control_room.operations.audit.after_backup import AfterBackup

AuditImpossible = Unanswered
"""The audit could not be carried out, so nothing is known."""


@dataclass(frozen=True)
class Violation:
    """One breach of an invariant. `subject` is the id of an order, or the name of a queue or a service."""

    invariant: str
    subject: str
    what: str
    evidence: Mapping[str, str] = field(default_factory=dict)
    """What each service says of the order; empty if the subject is none."""


@dataclass(frozen=True)
class Check:
    """One invariant and how often it was broken. `not_judged` says why it could not be judged; empty if it was."""

    name: str
    meaning: str
    violations: int
    not_judged: str = ""


def money_lines(money: Mapping[str, Mapping[str, int]]) -> list[str]:
    """By currency: what was charged minus what was refunded, and what the paid orders cost."""
    return [_money_line(currency, **amounts) for currency, amounts in money.items()]


def _money_line(currency: str, charged: int, refunded: int, due: int) -> str:
    kept = charged - refunded
    return (
        f"Captured minus refunded: {charged / 100:,.2f} - {refunded / 100:,.2f} = {kept / 100:,.2f} {currency}; "
        f"the paid orders cost {due / 100:,.2f} {currency}."
    )


@dataclass(frozen=True)
class AuditReport:
    """`checks` count every violation; `violations` are at most some hundred of each invariant, with evidence.

    `counts`: rows by kind. `in_flight`: orders that changed so recently that they can't be judged yet, and those that a
    message may still be on its way to; `in_flight_orders` are some of them. `waiting`: how many of them wait for a
    message of each queue. `statuses`: orders by status. `money`: by currency what was `charged` and `refunded`, and
    what is `due`: the total of the paid orders. `after_backup`: what a restore has lost; None if there was none.
    `pruned_before`: orders from before this time (RFC 3339) are left out.
    """

    checks: tuple[Check, ...]
    violations: tuple[Violation, ...]
    counts: Mapping[str, int]
    in_flight: int
    in_flight_orders: tuple[str, ...]
    settle_seconds: float
    waiting: Mapping[str, int] = field(default_factory=dict)
    statuses: Mapping[str, int] = field(default_factory=dict)
    money: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    after_backup: AfterBackup | None = None
    pruned_before: str | None = None

    @property
    def is_clean(self) -> bool:
        """Whether no invariant was broken."""
        return not self.broken

    @property
    def is_final(self) -> bool:
        """Whether no invariant was broken and no order is in flight."""
        return self.is_clean and not self.in_flight

    @property
    def broken(self) -> set[str]:
        """The names of the invariants that were broken."""
        return {check.name for check in self.checks if check.violations}

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {"clean": self.is_clean, **asdict(self)}
