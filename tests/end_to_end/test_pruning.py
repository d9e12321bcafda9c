"""Old orders are pruned from a whole system, while audits go on; dead letters and open orders hold the horizon back."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from benchmarks.history import FIRST_PLACED_AT, past_order_id, write_past
from control_room.launcher.system import System
from control_room.operations.addresses import DISCARDS, SystemAddresses
from control_room.operations.dead_letters.discard import discard
from control_room.operations.dead_letters.parked import connected
from control_room.operations.dead_letters.selection import Selection, selected
from control_room.operations.prune import RetentionSettings, hourly, prune, pruning
from shared.events import Event, encode
from shared.ids import first_id, made_at
from shared.management import Management
from shared.topology import dead_queue
from tests.amqp import peek, post
from tests.audit_rows import CHARGE
from tests.conftest import Broker
from tests.examples import order_placed, payment_succeeded
from tests.order_rail import audited, file_of, final_audit, launched, order_rail
from tests.rail import Rail
from tests.support import eventually

SMS = "notification_service.sms"
WITH_DEAD_LETTER, STALLED = 100, 200
"""The places, among the orders of the past, of those that hold the horizon back."""
PAST = 300
TABLES = {
    "order_service": ("orders", "timeline", "duplicates", "idempotency_keys"),
    "payment_service": ("payments",),
    "gateway": ("ledger", "tries"),
    "notification_service": ("notifications",),
}


@pytest_asyncio.fixture(scope="module")
async def system(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """A system that has taken orders long ago."""
    directory = tmp_path_factory.mktemp("pruning") / "run"
    write_past(directory, PAST, with_keys=True)
    async with launched(broker, directory) as launched_system:
        yield launched_system


async def grow_old(system: System, order_id: str, number: int) -> str:
    """Let an order, and its dead letter, be from between two orders of the past; its id is another one then."""
    older = first_id(FIRST_PLACED_AT + timedelta(milliseconds=number))[:14] + order_id[14:]
    for database, tables in TABLES.items():
        with closing(sqlite3.connect(system.run.path / f"{database}.db", timeout=10)) as connection:
            for table in tables:
                names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
                for name in set(names) & {"order_id", "idempotency_key"}:
                    connection.execute(f"UPDATE {table} SET {name} = replace({name}, ?, ?)", (order_id, older))
            connection.commit()
    async with Management(system.broker_settings) as management:
        (parked,) = await peek(management, dead_queue(CHARGE))
        await management.delete("queues", management.vhost, dead_queue(CHARGE), "contents")
        payload = parked["payload"].replace(order_id, older)
        await post(management, dead_queue(CHARGE), payload, properties=parked["properties"])
    return older


async def publish(system: System, queue: str, event: Event, **headers: Any) -> None:
    async with Management(system.broker_settings) as management:
        properties = {"message_id": event.id, "type": event.type, "headers": headers}
        await post(management, queue, encode(event).decode(), properties=properties)


async def parked(system: System) -> list[dict[str, Any]]:
    """All dead letters."""
    async with connected(system.broker_settings.rabbitmq_url) as connection:
        return [held.dead_letter.as_json() async for held in selected(connection, Selection())]


async def discarded(system: System, message_id: str, queue: str | None = None) -> None:
    async with connected(system.broker_settings.rabbitmq_url) as connection:
        await discard(connection, Selection(message_id, queue=queue), "a test", system.run.path / DISCARDS)


async def command(system: System, *arguments: str) -> str:
    ended = await order_rail(*arguments, *file_of(system))
    assert ended.status == 0, ended.output + ended.errors
    return ended.output


async def orders(rail: Rail) -> list[str]:
    return [row["order_id"] for row in await rail.audit("order_service")]


@pytest.mark.timeout(400)  # several commands and audits: half a minute, more on a busy machine
async def test_old_orders_go_while_audits_run_and_none_that_may_be_needed(
    system: System, rail: Rail, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses, journal = SystemAddresses.of(system.environment), system.run.path / DISCARDS
    young, stalled = await rail.place(), await rail.place("tok_broken")
    await rail.until([young], "confirmed")
    await rail.until([stalled], "stalled")
    stalled = await grow_old(system, stalled, STALLED)
    late_text = payment_succeeded(past_order_id(WITH_DEAD_LETTER))
    await publish(system, dead_queue(SMS), late_text, **{"dead-letter-reason": "not-for-this-queue"})
    assert (await final_audit(system)).counts["orders"] == PAST + 2

    during = []
    with monkeypatch.context() as patch:
        for name in ("FIRST_RECORDS", "FEWEST_RECORDS", "MOST_RECORDS"):
            patch.setattr(pruning, name, 2)  # so that audits begin, run and end meanwhile
        pruning_task = asyncio.create_task(prune(addresses, 90, journal))
        while not pruning_task.done():
            during.append(await audited(system))
        pruned = await pruning_task

    assert [report.violations for report in during] == [()] * len(during)
    assert len([report for report in during if report.pruned_before]) >= 2
    assert pruned.before == made_at(past_order_id(WITH_DEAD_LETTER))
    assert pruned.held_by == (
        f"order {past_order_id(WITH_DEAD_LETTER)} has a dead letter for {SMS}: redrive it, or discard it"
    )
    assert {service: count for service, count in pruned.deleted.items() if count} == {
        "order_service": WITH_DEAD_LETTER, "payment_service": 2 * WITH_DEAD_LETTER,
        "notification_service": 2 * WITH_DEAD_LETTER,
    }  # fmt: skip
    assert (await orders(rail))[0] == past_order_id(WITH_DEAD_LETTER)
    after = await final_audit(system)
    assert after.counts["orders"] == PAST + 2 - WITH_DEAD_LETTER
    assert after.pruned_before == pruned.before.isoformat()

    # Then the dead letter of a stalled order holds it back, and then that order by itself.
    await discarded(system, late_text.id)
    output = await command(system, "prune", "--retain-days", "90")
    assert f"Older ones are kept as well: order {stalled} has a dead letter for {CHARGE}" in output
    assert "discarded dead letters 1 entries deleted" in " ".join(output.split())
    assert (await orders(rail))[:2] == [past_order_id(STALLED), stalled]
    await final_audit(system)
    (dead_letter,) = await parked(system)
    await discarded(system, dead_letter["id"])
    not_settled = f"order {stalled} is not settled"
    assert (await prune(addresses, 90, journal)).held_by == not_settled

    assert await rail.cancel(stalled) == "cancelling"
    rail.accepted[:] = [young, stalled]
    await rail.until([stalled], "cancelled")
    await final_audit(system, discards=journal)
    assert (await prune(addresses, 90, journal)).held_by == not_settled  # for a day its customer can see the end
    assert (await orders(rail))[:2] == [past_order_id(STALLED), stalled]
    with closing(sqlite3.connect(system.run.path / "order_service.db", timeout=10)) as database:
        database.execute("UPDATE orders SET updated_at = '2026-01-02 00:00:00.000000' WHERE order_id = ?", (stalled,))
        database.commit()
    assert (await prune(addresses, 90, journal)).held_by == ""
    assert await orders(rail) == [young]
    assert journal.read_text() == ""
    assert (await final_audit(system, discards=journal)).counts["orders"] == 1


async def test_what_comes_late_about_a_pruned_order_is_parked_and_does_nothing(system: System, rail: Rail) -> None:
    addresses, journal = SystemAddresses.of(system.environment), system.run.path / DISCARDS
    await prune(addresses, 90, journal)
    gone = past_order_id(10)
    queues = [CHARGE, "order_service.track", *(f"notification_service.{name}" for name in ("email", "restaurant"))]
    for queue in queues:
        await publish(system, queue, order_placed(gone) if queue == CHARGE else payment_succeeded(gone))

    async def all_are_parked() -> bool:
        found = {each["queue"]: (each["cause"], each["order_id"]) for each in await parked(system)}
        assert found == dict.fromkeys(queues, ("order-pruned", gone))
        return True

    await eventually(all_are_parked, 30, "the late events to be parked")
    for service in ("order_service", "payment_service", "notification_service"):
        assert gone not in json.dumps(await rail.audit(service))
    unknown = await rail.http.get(f"{system.url('order_service')}/orders/{gone}")
    assert (unknown.status_code, unknown.json()["detail"]) == (404, f"order_id: there is no order {gone}")
    await final_audit(system)

    assert "sent back 4 messages" in await command(system, "dead-letters", "redrive", "--all")

    await eventually(all_are_parked, 30, "the late events to be parked again")
    assert (await prune(addresses, 90, journal)).held_by == ""  # they hold nothing back
    for each in await parked(system):
        await discarded(system, each["id"], each["queue"])
    await final_audit(system)


async def test_the_control_room_prunes_by_itself(system: System, rail: Rail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a run that was not possible."""
    monkeypatch.setattr(hourly, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(hourly, "EVERY_SECONDS", 0.05)
    broken = SystemAddresses.of({**system.environment, "PAYMENT_SERVICE_URL": "http://127.0.0.1:1"})
    with pytest.raises(pruning.FAILURES, match="payment_service: it does not answer"):
        await prune(broken, 90, Path("none"))
    with closing(sqlite3.connect(system.run.path / "gateway.db", timeout=10)) as ledger:
        ledger.execute("INSERT INTO tries VALUES (?, 1)", (past_order_id(1),))
        ledger.commit()

    task = asyncio.create_task(
        hourly.prune_hourly(SystemAddresses.of(system.environment), RetentionSettings(), system.run.path / DISCARDS)
    )

    def is_gone() -> bool:
        with closing(sqlite3.connect(system.run.path / "gateway.db", timeout=10)) as ledger:
            found = ledger.execute("SELECT 1 FROM tries WHERE idempotency_key = ?", (past_order_id(1),))
            return found.fetchone() is None

    await eventually(is_gone, 30, "the old attempt to be pruned")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
