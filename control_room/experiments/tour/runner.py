"""Runs the steps side by side, each with a deadline, and audits their orders at the end."""

import asyncio
from collections.abc import Sequence

import httpx

from control_room.experiments.client import Client
from control_room.experiments.tour.steps import StepRun
from control_room.experiments.traffic import Unexpected
from control_room.operations.audit.invariants import ONE_FINAL_STATE
from shared.management import ManagementError
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.publisher import PublishError

HEADWAY_SECONDS = 0.25  # between two starts, so that no step's first answer waits for another's
FAILURES = (
    Unexpected, httpx.HTTPError, ManagementError, BrokerUnavailable, PublishError, OSError, KeyError, ValueError,
)  # fmt: skip


async def run(client: Client, steps: Sequence[StepRun], deadline_seconds: float) -> None:
    """Take every step; what came of it is in its run.

    A step ends after `deadline_seconds`; one that needs every attempt may wait for all retry delays besides.
    Raises ManagementError if the broker's management API does not answer.
    """
    retries_seconds = sum(await client.retry_delays_seconds())
    async with asyncio.TaskGroup() as group:
        for each in steps:
            group.create_task(_take(client, each, deadline_seconds + retries_seconds * (each.step.status == "stalled")))
            await asyncio.sleep(HEADWAY_SECONDS)


async def _take(client: Client, run: StepRun, deadline_seconds: float) -> None:
    try:
        async with asyncio.timeout(deadline_seconds):
            run.happened = await run.step.take(client, run)
        run.is_right = True
    except TimeoutError:
        run.fail(f"still {run.now} after {deadline_seconds:g} s")
    except FAILURES as error:
        run.fail(str(error) or type(error).__name__)


async def reconcile(client: Client, steps: Sequence[StepRun], deadline_seconds: float) -> None:
    """Audit the tour's orders; a step whose order breaks an invariant has gone wrong. Raises AuditImpossible.

    Kitchen tickets and text messages may come a moment after the email, so the audit has until the deadline to agree.
    """
    by_order = {each.order_id: each for each in steps if each.order_id}
    report = await client.audit_until_clean(deadline_seconds, only=by_order, timeout_seconds=deadline_seconds)
    for violation in report.violations:
        if violation.subject in by_order:
            by_order[violation.subject].fail(f"{violation.invariant}: {violation.what}")
    for order_id in report.in_flight_orders:
        run = by_order[order_id]
        run.fail(f"{ONE_FINAL_STATE.name}: still {run.now}, and a message for it is on the way")


def failures_of(steps: Sequence[StepRun]) -> list[str]:
    """The steps that went wrong, with their orders and how."""
    return [
        f"{each.step.title}{f' (order {each.order_id})' * bool(each.order_id)}: {each.happened}"
        for each in steps
        if not each.is_right
    ]
