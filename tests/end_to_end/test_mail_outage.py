"""The mail server is down, then slow: kitchen tickets keep their pace, and each mail arrives once, on ten connections.

And the same without a queue, for comparison (`order-rail in-line`).

`MAIL_DOWN_SECONDS=60 .venv/bin/pytest -s tests/end_to_end/test_mail_outage.py` measures it: each phase takes a minute.
"""

import os
from collections import Counter
from datetime import datetime
from email import message_from_bytes
from pathlib import Path

import pytest
from typer.testing import CliRunner

from control_room.cli import app
from control_room.experiments.in_line.mail_server import MailServer
from control_room.experiments.in_line.report import DOWN, IN_LINE, QUEUED, SLOW, UP, InLineReport
from control_room.experiments.in_line.run import InLine, in_line_shop
from control_room.experiments.traffic import Customers
from control_room.launcher.ports import free_ports
from control_room.launcher.system import System
from control_room.operations.roles import EMAIL, NOTIFICATIONS, ORDERS
from control_room.text import percentiles
from notification_service.smtp_url import CONNECTIONS
from tests.rail import Rail
from tests.receiver import receiving
from tests.service.mail import mail_server
from tests.support import eventually

IS_MEASURED = "MAIL_DOWN_SECONDS" in os.environ
PHASE_SECONDS = float(os.environ.get("MAIL_DOWN_SECONDS", "2"))
PER_SECOND = 20
SLOW_SECONDS = 1.0
"""What the slow server takes for a mail: ten connections carry half of what is ordered."""

MORE_AT_MOST = 1.2


@pytest.fixture(scope="module")
def ports() -> list[int]:
    """Of the mail server and of the kitchen."""
    return free_ports(2)


@pytest.fixture(scope="module")
def system_environment(system_environment: dict[str, str], ports: list[int]) -> dict[str, str]:
    mail, kitchen = ports
    return {
        **system_environment,
        "GATEWAY_LATENCY_SECONDS": "0.02",
        "EMAIL_URL": f"smtp://127.0.0.1:{mail}",
        "RESTAURANT_URL": f"http://127.0.0.1:{kitchen}/tickets",
        "WEBHOOK_SECRET": "the-secret-of-the-tests",
    }


@pytest.mark.timeout(120 + 10 * PHASE_SECONDS)
async def test_a_mail_server_that_is_down_and_then_slow_delays_no_ticket_and_gets_every_mail_once(
    system: System, rail: Rail, ports: list[int]
) -> None:
    took_seconds: dict[str, dict[str, float]] = {}

    async def phase(name: str) -> int:
        """Orders come evenly, and each has its kitchen ticket; how many of all orders have their mail by then."""
        with Customers(system.url(ORDERS.name)) as customers:
            placed = await customers.place_all(["tok_visa"] * int(PER_SECOND * PHASE_SECONDS), PER_SECOND)
        rail.accepted += (order_ids := [each.order_id for each in placed])
        took_seconds[name] = percentiles(await kitchen_seconds(rail, order_ids))
        return sum(row["channel"] == "email" for row in await rail.audit(NOTIFICATIONS.name))

    async with receiving(ports[1]) as kitchen:
        async with mail_server(port=ports[0]):
            await rail.place_many(["tok_visa"] * 10)
            await rail.all_final()  # the first orders of a new system also pay for opening connections
            await phase("as usual")
            await rail.all_final()
        before = len(rail.accepted)
        assert await phase("down") == before
        async with mail_server(port=ports[0]) as mail:
            mail.seconds["DOT"] = SLOW_SECONDS
            assert await phase("slow") <= len(rail.accepted) - CONNECTIONS  # mails wait, and no ticket does
            await rail.all_final(60 + 5 * PHASE_SECONDS)
            await rail.reconcile()

    mails = Counter(message_from_bytes(each)["X-Order-Id"] for each in mail.mails)
    assert mails == dict.fromkeys(rail.accepted[before:], 1)
    assert mail.most_connections <= CONNECTIONS
    assert Counter(each.json["order_id"] for each in kitchen.requests) == dict.fromkeys(rail.accepted, 1)
    for outcome in ("retry", "deadletter"):
        assert await rail.metric(NOTIFICATIONS.name, "deliveries_settled", queue=EMAIL, outcome=outcome) == 0
    for name, seconds in took_seconds.items():
        print(f"kitchen tickets, mail server {name}:", *(f"{each} {s * 1000:.0f} ms" for each, s in seconds.items()))
        assert not IS_MEASURED or seconds["p95"] <= MORE_AT_MOST * took_seconds["as usual"]["p95"], took_seconds


async def test_with_a_queue_nobody_waits_for_the_mail_server_and_in_line_customers_wait_or_are_charged_and_refused(
    system: System, ports: list[int], tmp_path: Path
) -> None:
    report = InLineReport(orders=6, slow_seconds=0.6)
    async with MailServer(ports[0]) as mail, in_line_shop(tmp_path, mail.port) as (url, journal):
        urls = {IN_LINE: url, QUEUED: system.url(ORDERS.name)}
        await InLine(report, mail, urls, journal).run(lambda _step: None)

    assert report.failures == []
    seen = {(each.shop, each.mail_server): each for each in report.seen}
    assert all(seen[QUEUED, state].mails == seen[QUEUED, state].answered == 6 for state in (UP, SLOW, DOWN))
    assert [seen[IN_LINE, state].answered for state in (UP, SLOW, DOWN)] == [6, 6, 0]
    assert seen[IN_LINE, SLOW].p50_seconds >= 0.6 > seen[QUEUED, SLOW].p50_seconds
    refused = seen[IN_LINE, DOWN]
    assert (refused.failed, refused.mails) == (6, 0)
    # uvicorn closes a connection after an exception without a word before: what is sent on it then is never handled.
    assert 0 < refused.charged_and_refused <= 6
    assert "| down | in line | 0 | 6 |" in report.as_markdown()


def test_in_line_refuses_impossible_options_before_anything_starts(tmp_path: Path) -> None:
    arguments = ["in-line", "--orders", "0", "--run-directory", str(tmp_path / "run")]
    ended = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})

    assert ended.exit_code == 2
    assert "--orders" in ended.output
    assert not (tmp_path / "run").exists()


async def kitchen_seconds(rail: Rail, order_ids: list[str]) -> list[float]:
    """How long after each order's placement its ticket went out, once all have."""

    async def look() -> list[float]:
        placed = {row["order_id"]: row["placed_at"] for row in await rail.audit(ORDERS.name)}
        rows = await rail.audit(NOTIFICATIONS.name)
        tickets = {row["order_id"]: row["at"] for row in rows if row["channel"] == "restaurant"}
        assert tickets.keys() >= set(order_ids)
        return [_seconds(placed[order_id], tickets[order_id]) for order_id in order_ids]

    return await eventually(look, 30, "every kitchen ticket")


def _seconds(since: str, until: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()
