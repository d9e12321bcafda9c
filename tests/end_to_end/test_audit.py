"""`order-rail audit` on a real system: green after real orders, and red, by name, for whatever is tampered with."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from control_room.launcher.system import System
from control_room.operations.addresses import SystemAddresses
from control_room.operations.audit import AuditImpossible, AuditReport, audit
from shared.management import Management
from shared.topology import dead_queue, provision, retry_queue
from tests.order_rail import file_of, order_rail
from tests.rail import Rail
from tests.support import eventually

CHARGE = "payment_service.charge"
STATUSES = {
    "tok_visa": "confirmed",
    "tok_declined": "declined",
    "tok_flaky": "confirmed",
    "tok_timeout": "confirmed",
    "tok_broken": "stalled",
}


@pytest_asyncio.fixture(scope="module")
async def orders(system: System) -> dict[str, str]:
    """An order of each kind, by its token, once everything about it is done."""
    rail = Rail(system)
    async with rail.http:
        placed = {token: await rail.place(token) for token in STATUSES}
        for token, order_id in placed.items():

            async def is_settled(order_id: str = order_id, expected: str = STATUSES[token]) -> bool:
                return (await rail.order(order_id))["status"] == expected  # type: ignore[no-any-return]

            await eventually(is_settled, 30, f"{token} to be {STATUSES[token]}")
    await until_clean(system)
    return placed


def addresses(system: System) -> SystemAddresses:
    return SystemAddresses.of(system.environment)


async def until_clean(system: System) -> AuditReport:
    async def look() -> AuditReport:
        report = await audit(addresses(system), 0)
        assert report.is_final, (report.violations, report.in_flight_orders)
        return report

    return await eventually(look, 40, "a clean audit")


@contextmanager
def tampering(file: Path, table: str, order_id: str) -> Iterator[sqlite3.Connection]:
    """A service's database under its feet; what the table said of the order is put back afterwards."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=10)) as database:
        mine = f"FROM {table} WHERE order_id = ?"
        before = database.execute(f"SELECT * {mine}", (order_id,)).fetchall()
        assert before, f"{table} knows nothing of {order_id}"
        try:
            yield database
        finally:
            database.execute(f"DELETE {mine}", (order_id,))
            database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(before[0]))})", before)


TAMPERINGS = {
    # what: (database, table, token of the order, SQL with the order's id, the invariant that must be named)
    "an order deleted": (
        "order_service", "orders", "tok_visa", "DELETE FROM orders WHERE order_id = ?", "belongs-to-an-order",
    ),
    "an order left open": (
        "order_service", "orders", "tok_visa", "UPDATE orders SET status = 'placed' WHERE order_id = ?",
        "one-final-state",
    ),
    "a charge doubled": (
        "gateway", "ledger", "tok_timeout",
        """INSERT INTO ledger SELECT idempotency_key || '/again', charge_id || '0', order_id, type, amount_minor,
           currency, at FROM ledger WHERE order_id = ?""", "charged-once",
    ),
    "a charge deleted": (
        "gateway", "ledger", "tok_flaky", "DELETE FROM ledger WHERE order_id = ?", "captured-equals-total",
    ),
    "a charge of another amount": (
        "gateway", "ledger", "tok_visa", "UPDATE ledger SET amount_minor = amount_minor + 1 WHERE order_id = ?",
        "captured-equals-total",
    ),
    "a charge refunded that nobody asked for": (
        "gateway", "ledger", "tok_visa",
        """INSERT INTO ledger SELECT idempotency_key || '/refund', charge_id || '0', order_id, 'refund', amount_minor,
           currency, at FROM ledger WHERE order_id = ?""", "captured-equals-total",
    ),
    "a payment's status changed": (
        "payment_service", "payments", "tok_visa", "UPDATE payments SET status = 'declined' WHERE order_id = ?",
        "payment-agrees",
    ),
    "a payment's amount changed": (
        "payment_service", "payments", "tok_visa", "UPDATE payments SET amount_minor = 1 WHERE order_id = ?",
        "payment-agrees",
    ),
    "a payment deleted": (
        "payment_service", "payments", "tok_declined", "DELETE FROM payments WHERE order_id = ?", "payment-agrees",
    ),
    "a notification removed": (
        "notification_service", "notifications", "tok_visa",
        "DELETE FROM notifications WHERE order_id = ? AND channel = 'restaurant'", "final-order-notified",
    ),
    "a text message removed": (
        "notification_service", "notifications", "tok_declined",
        "DELETE FROM notifications WHERE order_id = ? AND channel = 'sms'", "final-order-notified",
    ),
    "a notification doubled": (
        "notification_service", "notifications", "tok_visa",
        """INSERT INTO notifications SELECT idempotency_key || '/again', order_id, channel, notice, status, attempts,
           at, event_id, error FROM notifications WHERE order_id = ? AND channel = 'email'""", "notified-once",
    ),
    "a notification said to have failed": (
        "notification_service", "notifications", "tok_visa",
        "UPDATE notifications SET status = 'failed' WHERE order_id = ? AND channel = 'sms'",
        "given-up-has-dead-letter",
    ),
}  # fmt: skip


async def test_the_audit_is_green_after_an_order_of_each_kind(system: System, orders: dict[str, str]) -> None:
    ended = await order_rail("audit", "--settle-seconds", "0", *file_of(system))

    assert ended.status == 0, ended.output + ended.errors
    assert "All services agree." in ended.output
    assert f"{len(orders)} orders" in ended.output
    assert "1 dead letters" in ended.output


@pytest.mark.parametrize("what", TAMPERINGS)
async def test_what_was_tampered_with_is_named_with_its_order(
    system: System, orders: dict[str, str], what: str
) -> None:
    file, table, token, statement, invariant = TAMPERINGS[what]
    with tampering(system.run.path / f"{file}.db", table, orders[token]) as database:
        database.execute(statement, (orders[token],))
        report = await audit(addresses(system), 0)

    assert (invariant, orders[token]) in {(each.invariant, each.subject) for each in report.violations}
    assert all(each.subject == orders[token] for each in report.violations)


async def test_a_violation_is_printed_with_what_each_service_says(system: System, orders: dict[str, str]) -> None:
    order_id = orders["tok_visa"]
    with tampering(system.run.path / "payment_service.db", "payments", order_id) as database:
        database.execute("UPDATE payments SET status = 'declined' WHERE order_id = ?", (order_id,))
        plain = await order_rail("audit", "--settle-seconds", "0", *file_of(system))
        machine = await order_rail("audit", "--settle-seconds", "0", "--json", *file_of(system))

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

    ended = await order_rail("audit", "--settle-seconds", "0", "--journal", str(journal), *file_of(system))

    assert ended.status == 1, ended.output
    assert "VIOLATION accepted-order-exists lost-order" in ended.output
    assert ended.output.count("VIOLATION") == 1


async def test_a_stuck_outbox_row_is_named_with_its_service(system: System, orders: dict[str, str]) -> None:
    with closing(sqlite3.connect(system.run.path / "order_service.db", isolation_level=None)) as database:
        database.execute(
            "INSERT INTO outbox (event_id, exchange, type, source, timestamp, body)"
            " VALUES ('stuck', 'orders', 'bound.nowhere', 'test', 0, x'00')"
        )
        try:
            await until_named(system, "outboxes-empty", "order_service")
        finally:
            database.execute("DELETE FROM outbox WHERE event_id = 'stuck'")
    await until_clean(system)


async def test_a_message_left_in_a_retry_queue_is_named_with_the_queue(system: System, orders: dict[str, str]) -> None:
    late = system.broker_settings.model_copy(update={"retry_delays_seconds": (600.0,)})
    await provision.apply(late)
    queue = retry_queue(CHARGE, 600)
    async with Management(late) as management:
        await publish(management, queue, "a forgotten message")
        try:
            await until_named(system, "queues-empty", queue)
        finally:
            await management.delete("queues", management.vhost, queue, "contents")
    await until_clean(system)


async def test_a_missing_queue_is_named(system: System, orders: dict[str, str]) -> None:
    elsewhere = addresses(system)
    empty = elsewhere.model_copy(update={"rabbitmq_url": f"{elsewhere.rabbitmq_url}-empty"})
    async with Management(empty) as management:
        await management.put("vhosts", management.vhost, body={})
        try:
            report = await audit(empty, 0)
        finally:
            await management.delete("vhosts", management.vhost)

    assert {"queues-empty", "stalled-has-dead-letter"} <= report.broken
    assert [each.what for each in report.violations if each.subject == CHARGE] == ["the queue does not exist"]


async def test_a_purged_dead_letter_is_named_with_its_order(system: System, orders: dict[str, str]) -> None:
    async with parked_messages(system, CHARGE) as (management, queue):
        await management.delete("queues", management.vhost, queue, "contents")
        report = await audit(addresses(system), 0)
        waiting = await audit(addresses(system), 0.001)

    assert [(each.invariant, each.subject) for each in report.violations] == [
        ("stalled-has-dead-letter", orders["tok_broken"])
    ]
    assert waiting.broken == {"stalled-has-dead-letter"}  # also after the second look that spares what is redriven
    await until_clean(system)


@pytest.mark.parametrize(
    ("headers", "invariant"),
    [({}, "dead-letter-has-reason"), ({"dead-letter-reason": "attempts-exhausted"}, "dead-letter-belongs")],
)
async def test_a_dead_letter_that_nobody_can_explain_is_named(
    system: System, orders: dict[str, str], headers: dict[str, str], invariant: str
) -> None:
    async with parked_messages(system, CHARGE) as (management, queue):
        (letter,) = await look_at(management, queue)
        payload = letter["payload"].replace(orders["tok_broken"], orders["tok_visa"])
        await publish(management, queue, payload, {"headers": headers})
        report = await audit(addresses(system), 0)

    assert {(each.invariant, each.subject) for each in report.violations} == {(invariant, orders["tok_visa"])}


async def test_a_dead_letter_of_an_order_that_got_through_later_is_explained_by_its_timeline(system: System) -> None:
    """As when its work was given up, and the sweep has sent it again for another reason."""
    rail = Rail(system)
    async with rail.http:
        order_id = await rail.place("tok_broken")

        async def is_stalled() -> bool:
            return (await rail.order(order_id))["status"] == "stalled"  # type: ignore[no-any-return]

        await eventually(is_stalled, 30, "the order to be stalled")
        async with parked_messages(system, CHARGE) as (management, queue):
            (letter,) = [each for each in await look_at(management, queue) if order_id in each["payload"]]
            await publish(management, CHARGE, letter["payload"].replace("tok_broken", "tok_visa"))

            async def is_explained() -> bool:
                report = await audit(addresses(system), 0)
                assert report.is_final, report.violations
                return (await rail.order(order_id))["status"] == "confirmed"  # type: ignore[no-any-return]

            await eventually(is_explained, 30, "the order to be confirmed, and its dead letter explained")
        named = ("--id", letter["properties"]["message_id"], "--reason", "the order got through")
        await order_rail("dead-letters", "discard", *named, *file_of(system))
    await until_clean(system)


@pytest.mark.usefixtures("orders")
async def test_a_running_system_gives_no_false_alarm(system: System) -> None:
    rail, before = Rail(system), (await until_clean(system)).counts["orders"]
    stop = asyncio.Event()

    async def keep_ordering() -> None:
        while not stop.is_set():
            await rail.place_many(list(STATUSES)[:4] * 5)

    async with rail.http, asyncio.TaskGroup() as group:
        ordering = group.create_task(keep_ordering())
        try:
            reports = [await audit(addresses(system), settle_seconds=3) for _ in range(8)]
        finally:
            stop.set()
            await ordering
    assert [report.violations for report in reports] == [()] * 8
    assert all(report.in_flight for report in reports[1:])
    assert (await until_clean(system)).counts["orders"] == before + len(rail.accepted)


async def test_a_wrong_token_is_said_with_status_2(system: System) -> None:
    ended = await order_rail("audit", **{**system.environment, "OPERATOR_TOKEN": "wrong"})

    assert ended.status == 2
    assert "order_service: it refused the operator's token" in ended.errors


@pytest.mark.parametrize(
    ("variable", "url", "sentence"),
    [
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
async def test_a_part_that_is_away_is_said_with_status_2(
    system: System, orders: dict[str, str], variable: str, url: str, sentence: str
) -> None:
    where = {
        "management": system.environment["RABBITMQ_MANAGEMENT_URL"].rpartition("//")[2].rpartition("@")[2],
        "amqp": system.environment["RABBITMQ_URL"].rpartition("@")[2].partition("/")[0],
    }
    given = {**system.environment, variable: url.format(**where)}
    ended = await order_rail("audit", "--settle-seconds", "0", **given)

    assert ended.status == 2, ended.output
    assert sentence in ended.errors
    assert "Traceback" not in ended.errors


async def test_without_a_system_the_audit_says_so(tmp_path: Path) -> None:
    ended = await order_rail("audit", "--environment-file", str(tmp_path / "nothing"))

    assert ended.status == 2
    assert "no system runs here" in ended.errors


async def test_a_service_that_hangs_is_given_up(system: System) -> None:
    """A port that takes connections and never answers."""
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        hanging = addresses(system).model_copy(
            update={"services": addresses(system).services | {"order_service": f"http://127.0.0.1:{port}"}}
        )
        with pytest.raises(AuditImpossible, match="order_service: it was silent for"):
            await audit(hanging, 0, timeout_seconds=0.2)


async def until_named(system: System, invariant: str, subject: str) -> None:
    """The broker's and the relay's counts are some seconds old."""

    async def look() -> bool:
        report = await audit(addresses(system), 0)
        assert (invariant, subject) in {(each.invariant, each.subject) for each in report.violations}
        return True

    await eventually(look, 60, f"{invariant} of {subject} to be named")


async def look_at(management: Management, queue: str) -> list[dict[str, Any]]:
    body = {"count": 100, "ackmode": "ack_requeue_true", "encoding": "auto"}
    found: list[dict[str, Any]] = await management.post("queues", management.vhost, queue, "get", body=body)
    return found


async def publish(management: Management, queue: str, payload: str, properties: dict[str, Any] | None = None) -> None:
    body = {
        "routing_key": queue,
        "payload": payload,
        "payload_encoding": "string",
        "properties": {"delivery_mode": 2, **(properties or {})},
    }
    answer = await management.post("exchanges", management.vhost, "amq.default", "publish", body=body)
    assert answer["routed"]


@asynccontextmanager
async def parked_messages(system: System, of_queue: str) -> AsyncIterator[tuple[Management, str]]:
    """The dead letters of a queue, to tamper with: what was there is put back afterwards."""
    async with Management(system.broker_settings) as management:
        queue = dead_queue(of_queue)
        before = await look_at(management, queue)
        try:
            yield management, queue
        finally:
            await management.delete("queues", management.vhost, queue, "contents")
            for message in before:
                await publish(management, queue, message["payload"], message["properties"])
