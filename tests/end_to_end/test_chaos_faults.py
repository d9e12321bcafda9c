"""Faults that chaos can draw and that no other test lets fall, in one run: each happens, and costs nothing."""

import asyncio

import pytest
import pytest_asyncio

from control_room.experiments.chaos.faults import FAULTS
from control_room.experiments.chaos.report import ChaosReport
from control_room.experiments.chaos.run import Plan, started
from control_room.experiments.chaos.schedule import Fall

FALLS = [
    Fall(2.0, "freeze", "payment_service", 9.0),
    Fall(3.0, "crash", "committed-not-answered", 0.0),
    Fall(5.0, "disk-full", "order_service", 1.0),
    Fall(6.0, "clock-wrong", "order_service ahead", 1.0),
    Fall(7.0, "clock-wrong", "order_service behind", 1.0),
    Fall(8.0, "retry-queue-deleted", "payment_service.charge", 0.0),
    Fall(10.0, "shuffled", "order_service.track", 1.0),
    Fall(11.0, "lost-confirms", "wire to rabbitmq", 0.0),
    Fall(13.0, "wire-cut", "wire to rabbitmq", 0.0),
]
"""One after the other: each falls when it is due and the one before is over."""
RECOVER_WITHIN_SECONDS = 40.0
"""Others may be busy on this machine too: how fast it recovers is not judged here as strictly as that it does."""


@pytest_asyncio.fixture(scope="module")
async def report(tmp_path_factory: pytest.TempPathFactory) -> ChaosReport:
    falls = [fall for fall in FALLS if not FAULTS[fall.fault].missing()]
    plan = Plan(1, 25.0, 15.0, falls, tmp_path_factory.mktemp("chaos"), RECOVER_WITHIN_SECONDS)
    async with started(plan, lambda _: None) as chaos, asyncio.timeout(400):
        return await chaos.run()


@pytest.mark.timeout(500)
@pytest.mark.parametrize("fall", FALLS, ids=lambda fall: f"{fall.fault}-{fall.target}")
async def test_a_fault_happens_and_is_recovered_from(report: ChaosReport, fall: Fall) -> None:
    if missing := FAULTS[fall.fault].missing():
        pytest.skip(missing)
    (seen,) = [each for each in report.falls if (each.fault, each.target) == (fall.fault, fall.target)]
    assert not seen.problem
    assert seen.evidence
    assert seen.back_seconds is not None
    assert seen.backlog_seconds is not None


async def test_the_books_agree_after_all_of_them(report: ChaosReport) -> None:
    assert report.held, report.failures
    assert report.load.accepted == report.settled > 500
