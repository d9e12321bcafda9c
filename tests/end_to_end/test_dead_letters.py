"""`order-rail dead-letters` on a real system: what was parked is seen, sent back or removed, and never lost."""

import json
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from control_room.launcher.system import System
from control_room.operations.addresses import DISCARDS, discards_beside
from control_room.operations.dead_letters.parked import connected
from control_room.operations.dead_letters.selection import Selection, selected
from shared.management import Management
from shared.settings import BrokerSettings
from shared.testing.faults import frozen
from tests.amqp import peek, post
from tests.audit_rows import CHARGE, EMAIL, violations
from tests.order_rail import audited, file_of, final_audit, order_rail, start
from tests.rail import Rail
from tests.service.mail import MailServer
from tests.support import DELAYS_VARIABLES, addresses_of, eventually

MOST_FAILURES = 2  # of a try at the gateway with tok_flaky; here each order begins so far below it that it stalls
TRIES_UNTIL_PARKED = 4  # two deliveries of two tries
HOSTILE = "[bold red]x[/] [/] :pizza: \\" + "\x1b[2J\n\u202e\x9b"


@pytest.fixture(scope="module")
def system_environment(module_broker_settings: BrokerSettings, mail: MailServer) -> dict[str, str]:
    delays = dict.fromkeys(DELAYS_VARIABLES, "0.2")
    return {**addresses_of(module_broker_settings), **delays, "EMAIL_URL": mail.url}


async def stalled_orders(system: System, rail: Rail, count: int) -> list[str]:
    """Orders whose gateway failed until they were given up, and works from now on."""
    with frozen(system, "payment_service"):
        placed = await rail.place_many(["tok_flaky"] * count)
        with closing(sqlite3.connect(system.run.path / "gateway.db", isolation_level=None, timeout=10)) as gateway:
            already = MOST_FAILURES - TRIES_UNTIL_PARKED
            gateway.executemany("INSERT INTO tries VALUES (?, ?)", [(order_id, already) for order_id in placed])
    await rail.until(placed, "stalled")
    await until_parked(system, CHARGE, placed)
    return placed


async def broken_order(system: System, rail: Rail) -> str:
    """An order whose charge was given up, and always will be."""
    order_id = await rail.place("tok_broken")
    await until_parked(system, CHARGE, [order_id])
    return order_id


async def until_parked(system: System, queue: str, order_ids: list[str], **values: int) -> None:
    """Wait for a dead letter of each order, with these values."""

    async def look() -> bool:
        found = [each for each in await listed(system, queue) if values.items() <= each.items()]
        assert {each["order_id"] for each in found} >= set(order_ids)
        return True

    await eventually(look, 30, "the dead letters")


async def listed(system: System, queue: str | None = None) -> list[dict[str, Any]]:
    """What `list --json` prints, without the start of a process each time."""
    async with connected(system.broker_settings.rabbitmq_url) as connection:
        return [held.dead_letter.as_json() async for held in selected(connection, Selection(queue=queue))]


async def dead_letters(system: System, *arguments: str, status: int = 0) -> str:
    """Run the command; what it printed."""
    ended = await order_rail("dead-letters", *arguments, *file_of(system))
    assert ended.status == status, ended.output + ended.errors
    assert "Traceback" not in ended.errors
    return ended.output + ended.errors


async def all_agree(system: System) -> None:
    await final_audit(system, discards=discards_beside(system.run.environment_file))


async def charged(rail: Rail) -> list[str]:
    return [row["order_id"] for row in await rail.audit("payment_service") if row["kind"] == "charge"]


async def test_a_redriven_order_completes_and_its_status_shows_its_history(system: System, rail: Rail) -> None:
    (order_id,) = await stalled_orders(system, rail, 1)

    assert "sent back 1 messages" in await dead_letters(system, "redrive", "--cause", "attempts-exhausted")

    await rail.until([order_id], "confirmed")
    types = [entry["type"] for entry in (await rail.order(order_id))["timeline"]]
    assert types[:3] == ["order.placed.v1", "payment.stalled.v1", "payment.succeeded.v1"]
    assert await listed(system) == []
    await all_agree(system)


async def test_redriving_twice_charges_once(system: System, rail: Rail) -> None:
    (order_id,) = await stalled_orders(system, rail, 1)
    async with Management(system.broker_settings) as management:
        (parked,) = await peek(management, f"{CHARGE}.dead")
        await dead_letters(system, "redrive", "--id", order_id)
        await rail.until([order_id], "confirmed")
        # As after a crash between publish and acknowledgement.
        await post(management, f"{CHARGE}.dead", parked["payload"], properties=parked["properties"])

    assert "sent back 1 messages" in await dead_letters(system, "redrive", "--all")
    assert "sent back 0 messages" in await dead_letters(system, "redrive", "--all")

    await all_agree(system)
    assert (await charged(rail)).count(order_id) == 1


async def test_the_dead_letter_of_an_order_that_was_cancelled_is_moot_and_a_redrive_charges_nothing(
    system: System, rail: Rail
) -> None:
    (order_id,) = await stalled_orders(system, rail, 1)
    await rail.cancel(order_id)
    await rail.until([order_id], "cancelled")
    await all_agree(system)

    overview, lines = await dead_letters(system, "list"), await dead_letters(system, "list", "--json")
    assert re.search(rf"{order_id}  .*\(moot: the order is cancelled, and a redrive charges nothing\)", overview)
    moot = {json.loads(line)["order_id"]: json.loads(line)["moot"] for line in lines.splitlines()}
    assert moot[order_id] is True

    assert "sent back 1 messages" in await dead_letters(system, "redrive", "--id", order_id)

    await all_agree(system)
    assert await listed(system) == []
    assert order_id not in await charged(rail)
    assert (await rail.statuses())[order_id] == "cancelled"


async def test_a_receipt_goes_out_once_the_mail_server_takes_it(system: System, rail: Rail, mail: MailServer) -> None:
    mail.refusals["ada@example.com"] = ["450 greylisted"] * TRIES_UNTIL_PARKED
    order_id = await rail.place()
    await until_parked(system, EMAIL, [order_id])
    await all_agree(system)  # paid, and not confirmed: its dead letter says why

    await dead_letters(system, "redrive", "--queue", EMAIL)

    await rail.until([order_id], "confirmed")
    assert [each["X-Order-Id"] for each in mail.received("ada@example.com")].count(order_id) == 1
    await all_agree(system)


async def test_a_dead_letter_is_listed_and_shown_with_all_that_is_known(system: System, rail: Rail) -> None:
    order_id = await broken_order(system, rail)

    overview, lines = await dead_letters(system, "list"), await dead_letters(system, "list", "--json")
    details = await dead_letters(system, "show", order_id)

    assert re.search(rf"{CHARGE} .*attempts-exhausted .* 1 .* 4 ", overview), overview
    assert f"{order_id}  order {order_id}, attempt 4" in overview
    assert order_id in {json.loads(line)["order_id"] for line in lines.splitlines()}
    for part in ("dead-letter-reason", "first-seen", "503 Service Unavailable", '"payment_token": "tok_broken"'):
        assert part in details
    assert "there is no dead letter nonsense" in await dead_letters(system, "show", "nonsense", status=1)


async def test_poison_is_discarded_and_kept_in_the_journal(system: System, rail: Rail) -> None:
    async with Management(system.broker_settings) as management:
        await post(management, "order.placed.v1", "\x1b[31mno event", "orders")

    async def is_parked() -> str:
        found = [each for each in await listed(system) if each["cause"] == "not-json"]
        assert [each["order_id"] for each in found] == [None]
        return str(found[0]["id"])

    poison = await eventually(is_parked, 30, "the poison to be parked")
    assert poison.startswith("poison-")
    assert "\x1b" not in await dead_letters(system, "show", poison)

    assert "discarded 1 messages" in await dead_letters(system, "discard", poison, "--reason", "a test's")

    assert poison not in {each["id"] for each in await listed(system)}
    (entry,) = [json.loads(line) for line in (system.run.path / DISCARDS).read_text().splitlines()]
    assert (entry["id"], entry["because"], entry["message"]["body"]) == (poison, "a test's", "\x1b[31mno event")
    assert "there is no dead letter" in await dead_letters(system, "discard", poison, "--reason", "again", status=1)


async def test_the_words_of_strangers_are_printed_as_they_stand(system: System, rail: Rail) -> None:
    """Markup, emoji codes and control characters, in all that a message has."""
    names = ("message_id", "type", "app_id", "content_type")
    headers = dict.fromkeys(
        ("dead-letter-reason", "dead-letter-error", "dead-letter-at", "first-seen", "traceparent", "[red]name"), HOSTILE
    )
    properties = {**dict.fromkeys(names, HOSTILE), "headers": headers}
    body = json.dumps({"subject": HOSTILE, "customer_email": HOSTILE})
    async with Management(system.broker_settings) as management:
        await post(management, f"{EMAIL}.dead", body, properties=properties)

    async def is_listed() -> str:
        (found,) = await listed(system, EMAIL)
        return str(found["id"])

    parked_id = await eventually(is_listed, 30, "the dead letter")
    audit = await order_rail("audit", *file_of(system))
    shown = await dead_letters(system, "list") + await dead_letters(system, "show", parked_id)
    for printed in (shown, audit.output + audit.errors):
        assert not {"\x1b", "\x9b", "\u202e"} & set(printed)
        assert "Traceback" not in printed
    assert shown.count("[bold red]x[/] [/] :pizza: ") > 5
    assert "discarded 1 messages" in await dead_letters(system, "discard", parked_id, "--reason", HOSTILE)


async def test_a_message_that_fails_again_says_so_and_once_discarded_the_journal_explains_its_order(
    system: System, rail: Rail
) -> None:
    order_id = await broken_order(system, rail)

    await dead_letters(system, "redrive", "--id", order_id)

    await until_parked(system, CHARGE, [order_id], redrives=1, attempts=4)

    async def is_told() -> bool:  # its event comes after the dead letter
        types = [entry["type"] for entry in (await rail.order(order_id))["timeline"]]
        assert types == ["order.placed.v1", "payment.stalled.v1", "payment.stalled.v1"]
        return True

    await eventually(is_told, expecting="the order to know that it is stalled again")
    await all_agree(system)

    await dead_letters(system, "discard", order_id, "--reason", "the customer gave up")

    await all_agree(system)
    assert violations(await audited(system)) == {("stalled-has-dead-letter", order_id)}


async def test_a_redrive_killed_half_way_loses_nothing_and_charges_nobody_twice(system: System, rail: Rail) -> None:
    placed = await stalled_orders(system, rail, 40)
    redriving = await start("dead-letters", "redrive", "--all", "--rate", "20", *file_of(system))

    async def some_are_done() -> bool:
        statuses = await rail.statuses()
        return sum(statuses[order_id] == "confirmed" for order_id in placed) >= 5

    await eventually(some_are_done, 60, "some orders to be confirmed")
    redriving.send_signal(signal.SIGKILL)
    assert await redriving.wait() == -signal.SIGKILL
    left = {each["order_id"] for each in await listed(system, CHARGE)}
    assert 0 < len(left & set(placed)) < len(placed)

    await dead_letters(system, "redrive", "--all")

    await rail.until(placed, "confirmed")
    assert sorted(order_id for order_id in await charged(rail) if order_id in placed) == sorted(placed)
    await all_agree(system)


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
