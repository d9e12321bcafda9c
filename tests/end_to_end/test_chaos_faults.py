"""Faults that chaos can draw and that no other test lets fall: each happens, is recovered from, and costs nothing."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from control_room.chaos.faults import FAULTS
from control_room.chaos.run import Chaos, Plan, started
from control_room.chaos.schedule import Fall

RATE = 20.0
WITHIN_SECONDS = 40.0
"""Others may be busy on this machine too: how fast it recovers is not judged here."""


def plan(directory: Path, *falls: Fall) -> Plan:
    return Plan(1, RATE, 1.0, falls, directory, recover_within_seconds=WITHIN_SECONDS)


@pytest_asyncio.fixture(scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chaos]:
    """A system that chaos has started and nothing has fallen on."""
    async with started(plan(tmp_path_factory.mktemp("chaos")), lambda _: None) as chaos:
        yield chaos


@pytest.mark.parametrize(
    ("fault", "target", "seconds"),
    [
        ("freeze", "payment_service", 9.0),
        ("crash", "committed-not-answered", 0.0),
        ("disk-full", "order_service", 1.0),
        ("clock-wrong", "order_service ahead", 1.0),
        ("clock-wrong", "order_service behind", 1.0),
        ("retry-queue-deleted", "payment_service.charge", 0.0),
        ("queue-full", "payment_service.charge", 0.0),
        ("shuffled", "order_service.track", 1.0),
        ("lost-confirms", "wire to rabbitmq", 0.0),
    ],
)
async def test_a_fault_is_evidenced_and_recovered_from_and_the_books_agree(
    system: Chaos, fault: str, target: str, seconds: float
) -> None:
    if missing := FAULTS[fault].missing():
        pytest.skip(missing)
    falls = plan(system.plan.directory, Fall(0.5, fault, target, seconds))

    report = await Chaos(falls, system.scene, system._journal).run()

    assert report.held, report.failures
    assert report.falls[0].evidence
    assert report.load.accepted > 0
