"""Runs the steps side by side, each with a deadline, and audits their orders at the end."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import httpx

from control_room.experiments.tour.steps import Progress, Step, Wrong
from control_room.experiments.tour.system import System, Unexpected
from control_room.operations.addresses import SystemAddresses
from control_room.operations.audit import AuditReport, audit
from control_room.operations.audit.invariants import ONE_FINAL_STATE
from shared.management import ManagementError

AGAIN_SECONDS = 0.5
HEADWAY_SECONDS = 0.25  # between two starts, so that no step's first answer waits for another's
FAILURES = (Wrong, Unexpected, httpx.HTTPError, ManagementError, OSError, KeyError, ValueError)


@dataclass
class Leg:
    """One step on its way. `right` is None until it has ended; `happened` says how."""

    step: Step
    progress: Progress = field(default_factory=Progress)
    happened: str = ""
    right: bool | None = None

    def end(self, happened: str, *, right: bool) -> None:
        """It is over."""
        self.happened, self.right = happened, right

    def fail(self, why: str) -> None:
        """It went wrong (too)."""
        happened = f"{self.happened}; {why}" if self.happened else why
        self.end(happened, right=False)


async def run(system: System, legs: Sequence[Leg], deadline_seconds: float) -> None:
    """Take every step; what came of it is in its leg.

    A step ends after `deadline_seconds`; one that needs every attempt may wait for all retry delays besides.
    Raises ManagementError if the broker's management API does not answer.
    """
    patience_seconds = sum(await system.retry_delays_seconds())
    async with asyncio.TaskGroup() as group:
        for leg in legs:
            allowed = deadline_seconds + (patience_seconds if leg.step.status == "stalled" else 0)
            group.create_task(_take(system, leg, allowed))
            await asyncio.sleep(HEADWAY_SECONDS)


async def _take(system: System, leg: Leg, deadline_seconds: float) -> None:
    try:
        async with asyncio.timeout(deadline_seconds):
            leg.end(await leg.step.take(system, leg.progress), right=True)
    except TimeoutError:
        leg.fail(f"still {leg.progress.now} after {deadline_seconds:g} s")
    except FAILURES as error:
        leg.fail(str(error) or type(error).__name__)


async def reconcile(system: System, legs: Sequence[Leg], deadline_seconds: float) -> None:
    """Audit the tour's orders; a leg whose books are not right has gone wrong. Raises AuditImpossible.

    Kitchen tickets and text messages may come a moment after the email, so the audit has until the deadline to agree.
    """
    settled = {leg.progress.order_id: leg for leg in legs if leg.progress.order_id}
    report = await audit_until_clean(system.addresses, settled, deadline_seconds)
    for violation in report.violations:
        if violation.subject in settled:
            settled[violation.subject].fail(f"{violation.invariant}: {violation.what}")
    for order_id in report.in_flight_orders:
        leg = settled[order_id]
        leg.fail(f"{ONE_FINAL_STATE.name}: still {leg.progress.now}, and a message for it is on the way")


async def audit_until_clean(
    addresses: SystemAddresses, order_ids: Collection[str], deadline_seconds: float
) -> AuditReport:
    """The first audit of these orders that is final, or the last one before the deadline. Raises AuditImpossible."""
    deadline = asyncio.get_running_loop().time() + deadline_seconds
    while True:
        report = await audit(addresses, 0, only=order_ids, patience_seconds=deadline_seconds)
        if report.is_final or asyncio.get_running_loop().time() >= deadline:
            return report
        await asyncio.sleep(AGAIN_SECONDS)
