"""The audit of a full rail: what waits is in flight however long, and what is lost is found among it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from control_room.launcher.ports import free_ports
from control_room.launcher.system import System
from control_room.operations.audit import AuditImpossible, AuditReport
from shared.management import Management
from shared.testing.faults import frozen
from shared.topology import retry_queue
from tests.audit_rows import CHARGE, EMAIL, violations
from tests.conftest import Broker
from tests.order_rail import audited, file_of, final_audit, launched, order_rail
from tests.rail import Rail
from tests.service.mail import MailServer
from tests.support import eventually

ENVIRONMENT = {"PAYMENT_CONCURRENCY": "1", "GATEWAY_LATENCY_SECONDS": "0.4"}
"""Payments go one by one."""
JUST_NOW_SECONDS = 0.2
"""All orders that wait here have waited for longer."""


@pytest_asyncio.fixture
async def lossy(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """For a single test, which leaves it with orders whose messages are lost."""
    async with launched(broker, tmp_path_factory.mktemp("lossy"), **ENVIRONMENT) as system:
        yield system


async def lose(system: System, queue: str, count: int) -> int:
    """Remove messages from a queue; how many there were."""
    async with Management(system.broker_settings) as management:
        body = {"count": count, "ackmode": "ack_requeue_false", "encoding": "auto"}
        lost: list[Any] = await management.post("queues", management.vhost, queue, "get", body=body)
    return len(lost)


async def test_orders_that_wait_for_a_slow_payment_are_in_flight(system: System, rail: Rail) -> None:
    await rail.place_many(["tok_visa"] * 50)
    reports: list[AuditReport] = []

    async def many_wait() -> bool:
        reports.append(await audited(system, JUST_NOW_SECONDS))
        return reports[-1].waiting.get(CHARGE, 0) > 10

    await eventually(many_wait, 30, "orders to wait")
    ended = await order_rail("audit", "--settle-seconds", str(JUST_NOW_SECONDS), *file_of(system))
    while await rail.in_flight() > 2:
        reports.append(await audited(system, JUST_NOW_SECONDS))

    assert [report.violations for report in reports] == [()] * len(reports)
    assert ended.status == 0, ended.output + ended.errors
    assert "orders are in flight, such as" in ended.output
    assert f"for {CHARGE}" in ended.output
    assert "All services agree." in ended.output
    await rail.all_final()
    await final_audit(system)


async def test_a_service_that_is_frozen_is_said_and_its_orders_are_in_flight_afterwards(
    system: System, rail: Rail
) -> None:
    with frozen(system, "payment_service"):
        await rail.place_many(["tok_visa"] * 10)
        with pytest.raises(AuditImpossible, match="payment_service: it was silent for 1 s"):
            await audited(system, JUST_NOW_SECONDS, timeout_seconds=1)

    assert (await audited(system, JUST_NOW_SECONDS)).is_clean
    await rail.all_final()
    await final_audit(system)


async def test_one_lost_message_is_found_though_the_queue_is_never_empty(lossy: System) -> None:
    async with Rail(lossy).ready() as rail:
        with frozen(lossy, "payment_service"):
            first = await rail.place_many(["tok_visa"] * 2)  # the frozen service holds one of them
            await eventually(lambda: lose(lossy, CHARGE, 1), 20, "a message to be lost")
        stop = asyncio.Event()

        async def keep_ordering() -> None:
            while not stop.is_set():
                if await rail.in_flight() < 4:
                    await rail.place()

        async with asyncio.TaskGroup() as group:
            group.create_task(keep_ordering())
            try:
                report = await eventually(lambda: red(lossy), 55, "the one order to be found")
            finally:
                stop.set()
    assert len(report.violations) == 1
    assert report.violations[0].subject in first


async def red(system: System) -> AuditReport:
    report = await audited(system, JUST_NOW_SECONDS)
    assert not report.is_clean
    return report


async def test_what_waits_in_a_retry_queue_for_an_hour_is_in_flight_until_the_queue_loses_it(
    broker: Broker, tmp_path_factory: pytest.TempPathFactory, mail: MailServer
) -> None:
    mail.refusals["ada@example.com"] = ["451 greylisted, try again later"] * 100
    environment = {"EMAIL_URL": mail.url, "RETRY_DELAYS_SECONDS": "600", "EMAIL_RETRY_DELAYS_SECONDS": "3600"}
    async with (
        launched(broker, tmp_path_factory.mktemp("retries"), **environment) as system,
        Rail(system).ready() as rail,
    ):
        flaky, visa = await rail.place("tok_flaky"), await rail.place("tok_visa")

        async def both_wait() -> AuditReport:
            report = await audited(system, JUST_NOW_SECONDS)
            assert report.violations == ()
            assert report.waiting == {CHARGE: 1, EMAIL: 1}
            return report

        async def visa_is_named() -> bool:
            assert violations(await audited(system, JUST_NOW_SECONDS)) == {("final-order-notified", visa)}
            return True

        report = await eventually(both_wait, 30, "a charge and a mail in retry queues")
        assert set(report.in_flight_orders) == {flaky, visa}

        assert await lose(system, retry_queue(EMAIL, 3600), 1) == 1
        await eventually(visa_is_named, 60)
        assert await lose(system, retry_queue(CHARGE, 600), 1) == 1
        assert {each.subject for each in (await audited(system, JUST_NOW_SECONDS)).violations} == {flaky, visa}


async def test_mails_that_are_held_while_the_mail_server_is_away_are_in_flight(
    broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """They are in no queue as something that waits: the service holds them, and has acknowledged none."""
    nobody = {"EMAIL_URL": f"smtp://127.0.0.1:{free_ports(1)[0]}"}
    async with launched(broker, tmp_path_factory.mktemp("held"), **nobody) as system, Rail(system).ready() as rail:
        placed = await rail.place_many(["tok_visa"] * 5)

        async def are_all_waiting() -> bool:
            report = await audited(system, JUST_NOW_SECONDS)
            assert report.violations == ()
            return report.waiting == {EMAIL: len(placed)}

        await eventually(are_all_waiting, 40, "all orders to wait for their mails")
        ended = await order_rail("audit", "--settle-seconds", str(JUST_NOW_SECONDS), *file_of(system))

    assert ended.status == 0, ended.output + ended.errors
    assert f"Messages that may be theirs are on the way: 5 for {EMAIL}." in ended.output
