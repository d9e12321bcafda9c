"""`order-rail audit` on a real system: green after real orders, and red, by name, for whatever is tampered with."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from control_room.launcher.system import System
from control_room.operations.addresses import SystemAddresses
from control_room.operations.audit import audit
from shared.management import Management
from shared.topology import dead_queue, provision, retry_queue
from tests.amqp import peek, post
from tests.audit_rows import CHARGE, violations
from tests.order_rail import audited, file_of, final_audit, order_rail
from tests.rail import Rail
from tests.support import eventually

STATUSES = {
    "tok_visa": "confirmed",
    "tok_declined": "declined",
    "tok_flaky": "confirmed",
    "tok_timeout": "confirmed",
    "tok_broken": "stalled",
}
CANCELLED = {"refunded": "tok_visa", "moot": "tok_broken", "cancelling": "tok_refund_fails"}
"""Orders that are cancelled once they have come as far as their token lets them."""
IDLE = ("audit", "--settle-seconds", "0")


@pytest_asyncio.fixture(scope="module")
async def orders(system: System) -> dict[str, str]:
    """An order of each kind, by its token or what became of it, once everything about it is done."""
    async with Rail(system).ready() as rail:
        placed = {token: await rail.place(token) for token in STATUSES}
        cancelled = {kind: await rail.place(token) for kind, token in CANCELLED.items()}
        for token, order_id in placed.items():
            await rail.until([order_id], STATUSES[token])
        await rail.until([cancelled["moot"]], "stalled")
        await rail.until([cancelled["refunded"], cancelled["cancelling"]], "confirmed")
        for order_id in cancelled.values():
            assert await rail.cancel(order_id) == "cancelling"
        for kind, status in (("refunded", "refunded"), ("moot", "cancelled")):
            await rail.until([cancelled[kind]], status)
    await final_audit(system)
    return {**placed, **cancelled}


@contextmanager
def tampering(system: System, database: str, table: str, order_id: str, statement: str) -> Iterator[None]:
    """A change of a service's database behind its back; what the table said of the order is put back afterwards."""
    file = system.run.path / f"{database}.db"
    with closing(sqlite3.connect(file, isolation_level=None, timeout=10)) as connection:
        about_it = f"FROM {table} WHERE order_id = ?"
        before = connection.execute(f"SELECT * {about_it}", (order_id,)).fetchall()
        assert before, f"{table} has nothing about {order_id}"
        try:
            connection.execute(statement, (order_id,))
            yield
        finally:
            connection.execute(f"DELETE {about_it}", (order_id,))
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(before[0]))})", before)


TAMPERINGS = [
    # One change in each column that the audit streams have. What else breaks an invariant unit tests show.
    ("belongs-to-an-order", "order_service", "orders", "tok_visa", "DELETE FROM orders WHERE order_id = ?"),
    (
        "one-final-state", "order_service", "orders", "tok_visa",
        "UPDATE orders SET status = 'placed' WHERE order_id = ?",
    ),
    (
        "captured-equals-total", "gateway", "ledger", "tok_visa",
        "UPDATE ledger SET amount_minor = amount_minor + 1 WHERE order_id = ?",
    ),
    (
        "captured-equals-total", "gateway", "ledger", "tok_visa",
        """INSERT INTO ledger SELECT idempotency_key || '/refund', charge_id || '0', order_id, 'refund', amount_minor,
           currency, at FROM ledger WHERE order_id = ?""",
    ),
    ("refunded-once", "gateway", "ledger", "refunded", "DELETE FROM ledger WHERE order_id = ? AND type = 'charge'"),
    (
        "newest-told-last", "notification_service", "notifications", "refunded",
        """UPDATE notifications SET at = strftime('%Y-%m-%d %H:%M:%f000', 'now')
           WHERE order_id = ? AND notice = 'receipt' AND channel = 'email'""",
    ),
    (
        "payment-agrees", "payment_service", "payments", "tok_visa",
        "UPDATE payments SET amount_minor = 1 WHERE order_id = ?",
    ),
    (
        "final-order-notified", "notification_service", "notifications", "tok_declined",
        "DELETE FROM notifications WHERE order_id = ? AND channel = 'sms'",
    ),
    (
        "given-up-has-dead-letter", "notification_service", "notifications", "tok_visa",
        "UPDATE notifications SET status = 'failed' WHERE order_id = ? AND channel = 'sms'",
    ),
]  # fmt: skip


async def test_the_audit_is_green_after_an_order_of_each_kind(system: System, orders: dict[str, str]) -> None:
    ended = await order_rail(*IDLE, *file_of(system))

    assert ended.status == 0, ended.output + ended.errors
    assert "All services agree." in ended.output
    assert f"{len(orders)} orders" in ended.output
    assert "3 dead letters" in ended.output
    assert "Captured minus refunded: " in ended.output


@pytest.mark.parametrize(
    ("invariant", "database", "table", "token", "statement"), TAMPERINGS, ids=[it[0] for it in TAMPERINGS]
)
async def test_what_was_tampered_with_is_named_with_its_order(
    system: System, orders: dict[str, str], invariant: str, database: str, table: str, token: str, statement: str
) -> None:
    with tampering(system, database, table, orders[token], statement):
        report = await audited(system)

    assert (invariant, orders[token]) in violations(report)
    assert all(each.subject == orders[token] for each in report.violations)


async def test_a_violation_is_printed_with_what_each_service_says(system: System, orders: dict[str, str]) -> None:
    order_id, decline = orders["tok_visa"], "UPDATE payments SET status = 'declined' WHERE order_id = ?"
    with tampering(system, "payment_service", "payments", order_id, decline):
        plain = await order_rail(*IDLE, *file_of(system))
        machine = await order_rail(*IDLE, "--json", *file_of(system))

    assert (plain.status, machine.status) == (1, 1)
    assert f"VIOLATION payment-agrees {order_id}: the order is confirmed, the payment declined" in plain.output
    assert "payment_service      declined 1550 EUR" in plain.output
    (violation,) = json.loads(machine.output)["violations"]
    assert (violation["invariant"], violation["subject"]) == ("payment-agrees", order_id)
    assert violation["evidence"]["gateway"] == "charge 1550 EUR"


async def test_a_202_without_an_order_is_named(system: System, orders: dict[str, str], tmp_path: Path) -> None:
    journal = tmp_path / "accepted"
    promised = [order_id.upper() for order_id in orders.values()]  # which is the same id
    journal.write_text("".join(f"{order_id}\n" for order_id in [*promised, "lost-order"]))

    ended = await order_rail(*IDLE, "--journal", str(journal), *file_of(system))

    assert ended.status == 1, ended.output
    assert "VIOLATION accepted-order-exists lost-order" in ended.output
    assert ended.output.count("VIOLATION") == 1


@pytest.mark.usefixtures("orders")
async def test_a_stuck_outbox_row_is_named_with_its_service(system: System) -> None:
    with closing(sqlite3.connect(system.run.path / "order_service.db", isolation_level=None)) as database:
        database.execute(
            "INSERT INTO outbox (event_id, exchange, type, source, timestamp, body)"
            " VALUES ('stuck', 'payments', 'order.placed.v1', 'test', 0, x'00')"  # it is bound to another exchange
        )
        try:
            await until_named(system, "outboxes-empty", "order_service")
        finally:
            database.execute("DELETE FROM outbox WHERE event_id = 'stuck'")
    await final_audit(system)


@pytest.mark.usefixtures("orders")
async def test_a_message_left_in_a_retry_queue_is_named_with_the_queue(system: System) -> None:
    late = system.broker_settings.model_copy(update={"retry_delays_seconds": (600.0,)})
    await provision.apply(late)
    queue = retry_queue(CHARGE, 600)
    async with Management(late) as management:
        await post(management, queue, "a forgotten message")
        try:
            await until_named(system, "queues-empty", queue)
        finally:
            await management.delete("queues", management.vhost, queue, "contents")
    await final_audit(system)


async def until_named(system: System, invariant: str, subject: str) -> None:
    """The broker's and the relay's counts are some seconds old."""

    async def look() -> bool:
        assert (invariant, subject) in violations(await audited(system))
        return True

    await eventually(look, 60, f"{invariant} of {subject} to be named")


@pytest.mark.usefixtures("orders")
async def test_a_missing_queue_is_named(system: System) -> None:
    addresses = SystemAddresses.of(system.environment)
    empty = addresses.model_copy(update={"rabbitmq_url": f"{addresses.rabbitmq_url}-empty"})
    async with Management(empty) as management:
        await management.put("vhosts", management.vhost, body={})
        try:
            report = await audit(empty, 0)
        finally:
            await management.delete("vhosts", management.vhost)

    assert {"queues-empty", "stalled-has-dead-letter"} <= report.broken
    assert [each.what for each in report.violations if each.subject == CHARGE] == ["the queue does not exist"]


@asynccontextmanager
async def parked_messages(system: System) -> AsyncIterator[tuple[Management, str]]:
    """The dead letters of the charges, to tamper with: what was there is put back afterwards."""
    async with Management(system.broker_settings) as management:
        queue = dead_queue(CHARGE)
        before = await peek(management, queue)
        try:
            yield management, queue
        finally:
            await management.delete("queues", management.vhost, queue, "contents")
            for message in before:
                await post(management, queue, message["payload"], properties=message["properties"])


async def test_a_purged_dead_letter_is_named_with_its_order(system: System, orders: dict[str, str]) -> None:
    async with parked_messages(system) as (management, queue):
        await management.delete("queues", management.vhost, queue, "contents")
        report = await audited(system)
        looked_twice = await audited(system, 0.001)  # the second look spares what is redriven

    assert violations(report) == {
        ("stalled-has-dead-letter", orders["tok_broken"]), ("one-final-state", orders["cancelling"]),
    }  # fmt: skip
    assert looked_twice.broken == {"stalled-has-dead-letter", "one-final-state"}
    await final_audit(system)


@pytest.mark.parametrize(
    ("headers", "invariant"),
    [({}, "dead-letter-has-reason"), ({"dead-letter-reason": "attempts-exhausted"}, "dead-letter-belongs")],
)
async def test_a_dead_letter_that_nobody_can_explain_is_named(
    system: System, orders: dict[str, str], headers: dict[str, str], invariant: str
) -> None:
    async with parked_messages(system) as (management, queue):
        (parked,) = [each for each in await peek(management, queue) if orders["tok_broken"] in each["payload"]]
        payload = parked["payload"].replace(orders["tok_broken"], orders["tok_visa"])
        await post(management, queue, payload, properties={"headers": headers})
        report = await audited(system)

    assert violations(report) == {(invariant, orders["tok_visa"])}


async def test_a_dead_letter_of_an_order_that_got_through_later_is_explained_by_its_timeline(
    system: System, rail: Rail
) -> None:
    """As when its work was given up, and the sweep has re-emitted its event for another reason."""
    order_id = await rail.place("tok_broken")
    await rail.until([order_id], "stalled")
    async with parked_messages(system) as (management, queue):
        (parked,) = [each for each in await peek(management, queue) if order_id in each["payload"]]
        await post(management, CHARGE, parked["payload"].replace("tok_broken", "tok_visa"))

        async def is_explained() -> bool:
            await final_audit(system)
            return (await rail.statuses())[order_id] == "confirmed"

        await eventually(is_explained, 30, "the order to be confirmed, and its dead letter explained")
    named = ("--id", parked["properties"]["message_id"], "--reason", "the order got through")
    await order_rail("dead-letters", "discard", *named, *file_of(system))
    await final_audit(system)


@pytest.mark.usefixtures("orders")
async def test_a_running_system_gives_no_false_alarm(system: System, rail: Rail) -> None:
    before, stop = (await final_audit(system)).counts["orders"], asyncio.Event()

    async def keep_ordering() -> None:
        while not stop.is_set():
            await rail.place_many(list(STATUSES)[:4] * 5)

    async with asyncio.TaskGroup() as group:
        ordering = group.create_task(keep_ordering())
        try:
            reports = [await audited(system, settle_seconds=3) for _ in range(2)]
        finally:
            stop.set()
            await ordering
    assert [report.violations for report in reports] == [(), ()]
    assert reports[-1].in_flight
    assert (await final_audit(system)).counts["orders"] == before + len(rail.accepted)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("OPERATOR_TOKEN", "wrong", "order_service: it refused the operator's token"),
        ("PAYMENT_SERVICE_URL", "http://127.0.0.1:1", "payment_service: it does not answer at http://127.0.0.1:1"),
        ("RABBITMQ_URL", "amqp://127.0.0.1:1/", "RabbitMQ: the dead letters could not be read"),
        ("RABBITMQ_MANAGEMENT_URL", "http://127.0.0.1:1", "RabbitMQ: RabbitMQ's management API"),
        ("ORDER_SERVICE_URL", "http://no-such-host.invalid", "order_service: "),
        ("PAYMENT_SERVICE_URL", "http://[::1", "PAYMENT_SERVICE_URL"),
        ("NOTIFICATION_SERVICE_URL", "notification:8002", "NOTIFICATION_SERVICE_URL"),
        ("RABBITMQ_MANAGEMENT_URL", "http://[::1", "RABBITMQ_MANAGEMENT_URL"),
        ("RABBITMQ_MANAGEMENT_URL", "http://guest:wrong@{management}", "denied"),
        ("RABBITMQ_URL", "amqp://guest:wrong@{amqp}/", "RabbitMQ: "),
        ("RABBITMQ_URL", "amqp://{amqp}/no-such-vhost", "RabbitMQ: "),
    ],
)
async def test_what_stands_in_the_way_of_an_audit_is_said_with_status_2(
    system: System, orders: dict[str, str], variable: str, value: str, sentence: str
) -> None:
    where = {
        "management": system.environment["RABBITMQ_MANAGEMENT_URL"].rpartition("//")[2].rpartition("@")[2],
        "amqp": system.environment["RABBITMQ_URL"].rpartition("@")[2].partition("/")[0],
    }
    ended = await order_rail(*IDLE, **{**system.environment, variable: value.format(**where)})

    assert ended.status == 2, ended.output
    assert sentence in ended.errors
    assert "Traceback" not in ended.errors


async def test_without_a_system_the_audit_says_so(tmp_path: Path) -> None:
    ended = await order_rail("audit", "--environment-file", str(tmp_path / "nothing"))

    assert ended.status == 2
    assert "no system runs here" in ended.errors
