"""`order-rail dead-letters` on a real system: what was set aside is seen, sent back or removed, and never lost."""

import json
import os
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from control_room.launcher.ports import free_ports
from control_room.launcher.system import System
from control_room.operations.addresses import DISCARDS, SystemAddresses, discards_beside
from control_room.operations.audit import audit
from shared.management import Management
from shared.settings import BrokerSettings
from tests.order_rail import file_of, order_rail, start
from tests.rail import Rail
from tests.service.mail import MailServer
from tests.support import addresses_of, eventually

CHARGE = "payment_service.charge"
EMAIL = "notification_service.email"
MOST_FAILURES = 2  # of a try at the gateway with tok_flaky; here each order begins so far below it that it stalls
TRIES_UNTIL_PARKED = 4  # two attempts of two tries


@pytest.fixture(scope="module")
def mail() -> Any:
    server = MailServer()
    controller = Controller(server, hostname="127.0.0.1", port=free_ports(1)[0])
    controller.start()
    server.url = f"smtp://127.0.0.1:{controller.port}"
    yield server
    controller.stop(no_assert=True)


@pytest.fixture(scope="module")
def system_environment(module_broker_settings: BrokerSettings, mail: MailServer) -> dict[str, str]:
    delays = dict.fromkeys(("RETRY_DELAYS_SECONDS", "EMAIL_RETRY_DELAYS_SECONDS"), "0.2")
    return {**addresses_of(module_broker_settings), **delays, "EMAIL_URL": mail.url}


async def stalled_orders(system: System, rail: Rail, count: int) -> list[str]:
    """Orders whose gateway failed for longer than anybody's patience, and works from now on."""
    payment_service = system.processes["payment_service"].pid
    os.kill(payment_service, signal.SIGSTOP)
    try:
        placed = await rail.place_many(["tok_flaky"] * count)
        with closing(sqlite3.connect(system.run.path / "gateway.db", isolation_level=None, timeout=10)) as gateway:
            already = MOST_FAILURES - TRIES_UNTIL_PARKED
            gateway.executemany("INSERT INTO tries VALUES (?, ?)", [(order_id, already) for order_id in placed])
    finally:
        os.kill(payment_service, signal.SIGCONT)
    await eventually(lambda: all_are(rail, placed, "stalled"), 60, "every order to be stalled")
    await eventually(lambda: parked(system, CHARGE, placed), 30, "a dead letter of each order")
    return placed


async def all_are(rail: Rail, order_ids: list[str], status: str) -> bool:
    statuses = await rail.statuses()
    assert {statuses[order_id] for order_id in order_ids} == {status}
    return True


async def listed(system: System, *arguments: str) -> list[dict[str, Any]]:
    ended = await order_rail("dead-letters", "list", "--json", *arguments, *file_of(system))
    assert ended.status == 0, ended.errors
    return [json.loads(line) for line in ended.output.splitlines()]


async def parked(system: System, queue: str, order_ids: list[str]) -> bool:
    assert {letter["order_id"] for letter in await listed(system, "--queue", queue)} >= set(order_ids)
    return True


async def dead_letters(system: System, *arguments: str, status: int = 0) -> str:
    """Run the command; what it printed."""
    ended = await order_rail("dead-letters", *arguments, *file_of(system))
    assert ended.status == status, ended.output + ended.errors
    assert "Traceback" not in ended.errors
    return ended.output + ended.errors


async def assert_books_agree(system: System) -> None:
    discards = discards_beside(system.run.environment_file)

    async def look() -> bool:
        report = await audit(SystemAddresses.of(system.environment), 0, discards=discards)
        assert report.is_clean, report.violations
        assert not report.in_flight
        return True

    await eventually(look, 40, "a clean audit")


async def test_a_redriven_order_completes_and_its_status_shows_the_whole_story(system: System, rail: Rail) -> None:
    (order_id,) = await stalled_orders(system, rail, 1)

    assert "sent back 1 messages" in await dead_letters(system, "redrive", "--cause", "attempts-exhausted")

    await eventually(lambda: all_are(rail, [order_id], "confirmed"), 30, "the order to be confirmed")
    types = [entry["type"] for entry in (await rail.order(order_id))["timeline"]]
    assert types[:3] == ["order.placed.v1", "payment.stalled.v1", "payment.succeeded.v1"]
    assert await listed(system) == []
    await assert_books_agree(system)


async def test_redriving_twice_charges_once(system: System, rail: Rail) -> None:
    (order_id,) = await stalled_orders(system, rail, 1)
    async with Management(system.broker_settings) as management:
        (letter,) = await messages_in(management, f"{CHARGE}.dead")
        await dead_letters(system, "redrive", "--id", order_id)
        await eventually(lambda: all_are(rail, [order_id], "confirmed"), 30, "the order to be confirmed")
        await publish(management, f"{CHARGE}.dead", letter)  # as after a crash between publish and acknowledgement

    assert "sent back 1 messages" in await dead_letters(system, "redrive", "--all")
    assert "sent back 0 messages" in await dead_letters(system, "redrive", "--all")

    await assert_books_agree(system)
    charges = [row["order_id"] for row in await rail.audit("payment_service") if row["kind"] == "charge"]
    assert charges.count(order_id) == 1


async def test_a_receipt_goes_out_once_the_mail_server_takes_it(system: System, rail: Rail, mail: MailServer) -> None:
    mail.answers["ada@example.com"] = ["450 greylisted"] * TRIES_UNTIL_PARKED
    order_id = await rail.place()
    await eventually(lambda: parked(system, EMAIL, [order_id]), 30, "the receipt to be parked")
    await assert_books_agree(system)  # paid, and not confirmed: its dead letter says why

    await dead_letters(system, "redrive", "--queue", EMAIL)

    await eventually(lambda: all_are(rail, [order_id], "confirmed"), 30, "the order to be confirmed")
    assert [each["X-Order-Id"] for each in mail.received("ada@example.com")].count(order_id) == 1
    await assert_books_agree(system)


async def test_a_letter_is_listed_and_shown_with_all_that_is_known(system: System, rail: Rail) -> None:
    order_id = await rail.place("tok_broken")
    await eventually(lambda: parked(system, CHARGE, [order_id]), 30, "the dead letter")

    overview = await dead_letters(system, "list")
    details = await dead_letters(system, "show", order_id)

    assert re.search(rf"{CHARGE} .*attempts-exhausted .* 1 .* 2 ", overview), overview
    assert f"{order_id}  order {order_id}, attempt 2" in overview
    for told in ("dead-letter-reason", "first-seen", "503 Service Unavailable", '"payment_token": "tok_broken"'):
        assert told in details
    assert "there is no dead letter nonsense" in await dead_letters(system, "show", "nonsense", status=1)


async def test_a_message_that_fails_again_says_that_it_was_redriven(system: System, rail: Rail) -> None:
    order_id = await rail.place("tok_broken")
    await eventually(lambda: parked(system, CHARGE, [order_id]), 30, "the dead letter")

    await dead_letters(system, "redrive", "--id", order_id)

    async def is_back() -> dict[str, Any] | None:
        return next((each for each in await listed(system) if each["order_id"] == order_id), None)

    letter = await eventually(is_back, 30, "the dead letter to be back")
    assert (letter["redrives"], letter["attempts"]) == (1, 2)
    assert letter["message"]["headers"]["redriven-at"]
    await assert_books_agree(system)


async def test_poison_is_discarded_and_kept_in_the_journal(system: System, rail: Rail) -> None:
    async with Management(system.broker_settings) as management:
        garbage = {"payload": "\x1b[31mno event", "payload_encoding": "string", "properties": {}}
        await publish(management, "order.placed.v1", garbage, exchange="orders")

    async def is_parked() -> str:
        letters = [each for each in await listed(system) if each["cause"] == "not-json"]
        assert [letter["order_id"] for letter in letters] == [None]
        return str(letters[0]["id"])

    poison = await eventually(is_parked, 30, "the poison to be parked")
    assert poison.startswith("poison-")
    assert "\x1b" not in await dead_letters(system, "show", poison)

    assert "discarded 1 messages" in await dead_letters(system, "discard", poison, "--reason", "a test's")

    assert poison not in {each["id"] for each in await listed(system)}
    (kept,) = [json.loads(line) for line in (system.run.path / DISCARDS).read_text().splitlines()]
    assert (kept["id"], kept["because"], kept["message"]["body"]) == (poison, "a test's", "\x1b[31mno event")
    assert "there is no dead letter" in await dead_letters(system, "discard", poison, "--reason", "again", status=1)


HOSTILE = "[bold red]x[/] [/] :pizza: \\" + "\x1b[2J\n\u202e\x9b"


async def test_the_words_of_strangers_are_printed_as_they_stand(system: System, rail: Rail) -> None:
    """Markup, emoji codes and control characters, in all that a message has."""
    names = ("message_id", "type", "app_id", "content_type")
    headers = dict.fromkeys(
        ("dead-letter-reason", "dead-letter-error", "dead-letter-at", "first-seen", "traceparent", "[red]name"), HOSTILE
    )
    properties = {**dict.fromkeys(names, HOSTILE), "headers": headers}
    body = json.dumps({"subject": HOSTILE, "customer_email": HOSTILE})
    async with Management(system.broker_settings) as management:
        letter = {"payload": body, "payload_encoding": "string", "properties": properties}
        await publish(management, f"{EMAIL}.dead", letter)

    async def is_listed() -> str:
        (found,) = await listed(system, "--queue", EMAIL)
        return str(found["id"])

    letter_id = await eventually(is_listed, 30, "the letter")
    audited = await order_rail("audit", *file_of(system))
    letters = await dead_letters(system, "list") + await dead_letters(system, "show", letter_id)
    for printed in (letters, audited.output + audited.errors):
        assert not {"\x1b", "\x9b", "\u202e"} & set(printed)
        assert "Traceback" not in printed
    assert letters.count("[bold red]x[/] [/] :pizza: ") > 5
    assert "discarded 1 messages" in await dead_letters(system, "discard", letter_id, "--reason", HOSTILE)


async def test_a_stalled_order_whose_letter_was_discarded_is_explained_by_the_journal(
    system: System, rail: Rail
) -> None:
    order_id = await rail.place("tok_broken")
    await eventually(lambda: parked(system, CHARGE, [order_id]), 30, "the dead letter")

    await dead_letters(system, "discard", order_id, "--reason", "the customer gave up")

    await assert_books_agree(system)
    without = await audit(SystemAddresses.of(system.environment), 0)
    assert [(each.invariant, each.subject) for each in without.violations] == [("stalled-has-dead-letter", order_id)]


async def test_a_redrive_killed_half_way_loses_nothing_and_charges_nobody_twice(system: System, rail: Rail) -> None:
    placed = await stalled_orders(system, rail, 40)
    redriving = await start("dead-letters", "redrive", "--all", "--rate", "20", *file_of(system))

    async def some_are_done() -> bool:
        statuses = await rail.statuses()
        return sum(statuses[order_id] == "confirmed" for order_id in placed) >= 5

    await eventually(some_are_done, 60, "some orders to be confirmed")
    redriving.send_signal(signal.SIGKILL)
    assert await redriving.wait() == -signal.SIGKILL
    left = {letter["order_id"] for letter in await listed(system, "--queue", CHARGE)}
    assert 0 < len(left & set(placed)) < len(placed)

    await dead_letters(system, "redrive", "--all")

    await eventually(lambda: all_are(rail, placed, "confirmed"), 60, "every order to be confirmed")
    charges = [row["order_id"] for row in await rail.audit("payment_service") if row["kind"] == "charge"]
    assert sorted(order_id for order_id in charges if order_id in placed) == sorted(placed)
    await assert_books_agree(system)


async def test_a_broker_that_is_away_is_said_with_status_2(system: System) -> None:
    nowhere = {**system.environment, "RABBITMQ_URL": "amqp://127.0.0.1:1/"}
    for arguments in (["list"], ["redrive", "--all"], ["discard", "x", "--reason", "y"]):
        ended = await order_rail("dead-letters", *arguments, **nowhere)
        assert (ended.status, ended.output) == (2, "")
        assert "Traceback" not in ended.errors
        assert ended.errors.strip()


@pytest.mark.parametrize("arguments", [[], ["--all", "--cause", "not-json"], ["--queue", "nonsense"]])
async def test_a_redrive_must_say_what_it_means(tmp_path: Path, arguments: list[str]) -> None:
    ended = await order_rail("dead-letters", "redrive", *arguments)

    assert ended.status == 2
    assert "Invalid value" in ended.errors


async def messages_in(management: Management, queue: str) -> list[dict[str, Any]]:
    body = {"count": 100, "ackmode": "ack_requeue_true", "encoding": "auto"}
    found: list[dict[str, Any]] = await management.post("queues", management.vhost, queue, "get", body=body)
    return found


async def publish(
    management: Management, routing_key: str, message: dict[str, Any], exchange: str = "amq.default"
) -> None:
    same = {name: message[name] for name in ("payload", "payload_encoding", "properties")}
    path = ("exchanges", management.vhost, exchange, "publish")
    answer = await management.post(*path, body={**same, "routing_key": routing_key})
    assert answer["routed"]
