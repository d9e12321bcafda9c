"""Faults that chaos can draw and that no other test injects, in one run: each happens, and costs nothing."""

import asyncio

import pytest
import pytest_asyncio

from control_room.experiments.chaos.faults import FAULTS, Injection
from control_room.experiments.chaos.report import ChaosReport
from control_room.experiments.chaos.run import started

INJECTIONS = [
    Injection("freeze", "payment_service", 2.0, 9.0),
    Injection("crash", "order_service committed-not-answered", 3.0),
    Injection("disk-full", "order_service", 5.0, 1.0),
    Injection("clock-wrong", "order_service ahead", 6.0, 1.0),
    Injection("clock-wrong", "order_service behind", 7.0, 1.0),
    Injection("retry-queue-deleted", "payment_service.charge", 8.0),
    Injection("shuffled", "order_service.track", 10.0, 1.0),
    Injection("lost-confirms", "wire to rabbitmq", 11.0),
    Injection("wire-cut", "wire to rabbitmq", 13.0),
    Injection("broker-freeze", "rabbitmq", 14.0, 2.0),
    Injection("memory-alarm", "rabbitmq", 15.0, 2.0),
    Injection("disk-alarm", "rabbitmq", 16.0, 2.0),
    Injection("connections-closed", "order_service", 17.0),
    Injection("queue-full", "notification_service.email", 18.0),
    Injection("consumer-timeout", "notification_service", 19.0, 9.0),
    Injection("database-locked", "order_service", 20.0, 3.0),
    Injection("wire-slow", "wire to rabbitmq", 21.0, 3.0),
]
"""Each is injected when it is due and the one before is over."""
RECOVER_WITHIN_SECONDS = 40.0
"""Others may be busy on this machine too: how fast it recovers is not judged here as strictly as that it does."""


@pytest_asyncio.fixture(scope="module")
async def report(tmp_path_factory: pytest.TempPathFactory) -> ChaosReport:
    possible = [injection for injection in INJECTIONS if not FAULTS[injection.fault].missing()]
    report = ChaosReport(1, 25.0, 15.0, possible, RECOVER_WITHIN_SECONDS)
    async with started(report, tmp_path_factory.mktemp("chaos"), lambda _: None) as chaos, asyncio.timeout(700):
        await chaos.run()
    return report


@pytest.mark.timeout(800)
@pytest.mark.parametrize("injection", INJECTIONS, ids=lambda each: f"{each.fault}-{each.target}")
async def test_a_fault_happens_and_is_recovered_from(report: ChaosReport, injection: Injection) -> None:
    if missing := FAULTS[injection.fault].missing():
        pytest.skip(missing)
    assert any(injection is each for each in report.injections)
    assert not injection.problem
    assert injection.evidence
    assert injection.back_seconds is not None
    assert injection.backlog_seconds is not None


async def test_the_audit_is_clean_after_all_of_them(report: ChaosReport) -> None:
    failures = [failure for failure in report.failures if "after its warm-up" not in failure]
    assert not failures  # memory is not judged: here the warm-up itself is full of faults
    assert report.load.accepted == report.seen.orders.closed > 500
