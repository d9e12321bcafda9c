"""What came of an audit."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


class AuditImpossible(Exception):
    """The audit could not be carried out, so nothing is known; `who` is what stood in its way."""

    def __init__(self, who: str, why: str) -> None:
        super().__init__(f"{who}: {why}")
        self.who, self.why = who, why


@dataclass(frozen=True)
class Violation:
    """Something that must not be. `subject` is an order's id, or what else it is about: a queue, a service."""

    invariant: str
    subject: str
    what: str
    evidence: Mapping[str, str] = field(default_factory=dict)
    """What each service says of the order; for orders only."""


@dataclass(frozen=True)
class Check:
    """One invariant: how often it was broken. `not_judged` says why it could not be judged now; empty if it was."""

    name: str
    meaning: str
    violations: int
    not_judged: str = ""


@dataclass(frozen=True)
class AuditReport:
    """`counts` is by kind: accepted, orders, settled, set_aside, payments, charges, notifications, dead_letters.

    `violations` are told in full for some of each invariant; `checks` count them all. `in_flight`: orders that have
    changed so recently that nothing can be said of them yet, and those that a message may still be on its way to;
    `in_flight_orders` are some of them. `waiting`: how many of them, by the queue of that message.
    """

    checks: tuple[Check, ...]
    violations: tuple[Violation, ...]
    counts: Mapping[str, int]
    in_flight: int
    in_flight_orders: tuple[str, ...]
    settle_seconds: float
    waiting: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether no invariant was broken."""
        return not any(check.violations for check in self.checks)

    @property
    def is_final(self) -> bool:
        """Whether nothing is wrong, and nothing more is to come."""
        return self.is_clean and not self.in_flight

    @property
    def broken(self) -> set[str]:
        """The names of the invariants that were broken."""
        return {check.name for check in self.checks if check.violations}

    def about(self, subject: str) -> list[Violation]:
        """The violations of one order."""
        return [violation for violation in self.violations if violation.subject == subject]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {"clean": self.is_clean, **asdict(self)}
