"""What a scenario is, and what it works on."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from control_room.dashboard.process_control import ProcessControl
from control_room.dashboard.snapshots.snapshot import Snapshot
from control_room.experiments.client import Client
from control_room.experiments.traffic import Customers, Placed, Unexpected
from control_room.operations.addresses import SystemAddresses
from control_room.operations.roles import ORDERS

AGREE_WITHIN_SECONDS = 20.0


class MailRoute(Protocol):
    """Where emails go."""

    async def lead_to(self, url: str) -> None:
        """Start the notification service again with this EMAIL_URL; with an empty one as it was before."""
        ...


@dataclass(frozen=True)
class Target:
    """A running system with what can be done to it. What is None can't be done here.

    `snapshot`: how the system is now.
    """

    addresses: SystemAddresses
    control: ProcessControl | None = None
    mail: MailRoute | None = None
    snapshot: Callable[[], Snapshot] | None = None


@dataclass(frozen=True)
class Setting:
    """A number that a viewer may choose, from `low` to `high`."""

    name: str
    label: str
    usual: int
    low: int
    high: int


@dataclass(frozen=True)
class Outcome:
    """What should have happened, what did, and whether that is as it should be."""

    expected: str
    seen: str
    held: bool


Say = Callable[[str], None]
"""Shows the viewers how far it is, in a few words."""


@dataclass(frozen=True)
class Playing:
    """A scenario while it is played: on which system, with a client of it, and with which settings."""

    target: Target
    client: Client
    chosen: Mapping[str, int]
    say: Say

    @property
    def orders_url(self) -> str:
        """Where orders are placed."""
        return self.target.addresses.services[ORDERS.name]

    async def place(
        self, tokens: Sequence[str], per_second: float = math.inf, on_order: Callable[[int], None] = lambda _: None
    ) -> list[Placed]:
        """Place an order for each payment token, evenly in time. Raises one of NOT_ACCEPTED."""
        with Customers(self.orders_url) as customers:
            return await customers.place_all(tokens, per_second, on_order)

    async def audited(self, order_ids: list[str]) -> str:
        """Audit these orders; a sentence if nothing is wrong with them. Raises Unexpected if it is, AuditImpossible."""
        report = await self.client.audit_until_clean(
            AGREE_WITHIN_SECONDS, only=order_ids, timeout_seconds=AGREE_WITHIN_SECONDS
        )
        if not report.is_clean:
            first = report.violations[0]
            raise Unexpected(f"the records of {first.subject} do not agree: {first.what}")
        if report.in_flight:
            raise Unexpected(f"{report.in_flight_orders[0]} is still in flight after {AGREE_WITHIN_SECONDS:.0f} s")
        charges, refunds = report.counts.get("charges", 0), report.counts.get("refunds", 0)
        refunded = f" and refunded {refunds:,}" if refunds else ""
        return f"charged {charges:,}{refunded} of {len(order_ids):,}, nobody twice: the records of all services agree"


Play = Callable[[Playing], Awaitable[Outcome]]
"""Does it and puts everything right again, also when it is cancelled. Raises Unexpected, or what its calls raise."""


@dataclass(frozen=True)
class Scenario:
    """`look_for` tells the viewer in a sentence what to watch. `needs`: attributes of the target that must be there."""

    name: str
    title: str
    look_for: str
    play: Play
    settings: tuple[Setting, ...] = ()
    needs: tuple[str, ...] = ()
    limit_seconds: float = 120.0

    def impossible(self, target: Target) -> str:
        """Why it can't be played here; empty if it can."""
        missing = [need for need in self.needs if getattr(target, need) is None]
        reasons = {
            "control": "It needs services that can be stopped from here (CONTROLS_ENABLED=true).",
            "mail": "It needs the native system (make up): there the mail server can be exchanged.",
        }
        return " ".join(reasons[need] for need in missing)

    def check(self, chosen: Mapping[str, int | None]) -> str:
        """What is wrong with the settings that a viewer chose; empty if nothing is."""
        for setting in self.settings:
            value = chosen.get(setting.name)
            if value is None or not setting.low <= value <= setting.high:
                return f"{setting.label}: expected a number from {setting.low:,} to {setting.high:,}."
        return ""
