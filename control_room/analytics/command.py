"""`order-rail replay`: the analytics made anew from the stream of events. Nothing is sent, and no service is asked."""

import asyncio
import re
import time
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from control_room.analytics.check import NotComparable, differences, expect_idle, expect_whole
from control_room.analytics.follow import Replayed, ReplayFailed, replay, totals_of
from control_room.analytics.model import CAPTURED, DISHES, REFUNDED
from control_room.analytics.store import AnalyticsStore, AnalyticsUnavailable
from control_room.operations.addresses import ENVIRONMENT_FILE, NotRunning, SystemAddresses, find_system
from control_room.operations.audit import AuditImpossible, AuditReport, audit
from control_room.text import console, counted, money, silence_logs
from shared.messaging.channel import BrokerUnavailable, NotFound
from shared.messaging.stream import Start
from shared.settings import checked_database_url
from shared.urls import without_credentials

EXPECTED = "expected first, an offset such as 1200, or a time with its zone such as 2026-11-27T18:00:00Z"
PROGRESS_SECONDS = 1.0
TOP_DISHES = 5
FAILURES = (NotRunning, BrokerUnavailable, AnalyticsUnavailable, ReplayFailed, AuditImpossible, NotComparable, OSError)


def start_of(text: str) -> Start:
    """Where to begin. Raises `ValueError`."""
    if text == "first":
        return "first"
    if re.fullmatch("[0-9]{1,18}", text):
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(EXPECTED) from None
    if at.tzinfo is None:
        raise ValueError(f"{text} may be any time zone's; add Z for UTC, or an offset such as +01:00")
    return at


def replay_command(
    begin: Annotated[str, typer.Option("--from", help="first, a time such as 2026-11-27T18:00:00Z, or an offset.")],
    into: Annotated[
        str, typer.Option(help="URL of an empty database, SQLite or PostgreSQL. Default: one that is deleted again.")
    ] = "",
    check: Annotated[
        bool, typer.Option("--check", help="Compare the totals with an audit. For a system that is idle.")
    ] = False,
    environment_file: Annotated[
        Path | None, typer.Option(help=f"Says where the system is. Default: {ENVIRONMENT_FILE}.")
    ] = None,
) -> None:
    """Count all that the stream of events has kept, into an empty database.

    It ends at the message that is the newest when it begins. The services do not notice it.

    Exit status 1 if --check finds a difference, 2 if the replay or the audit could not be carried out.
    """
    silence_logs()
    try:
        start = start_of(begin)
    except ValueError as error:
        _refuse(f"--from: {error}")
    if check and start != "first":
        _refuse("--check needs --from first: the audit looks at all orders")
    try:
        checked_database_url(into) if into else None
    except ValueError as error:
        _refuse(f"--into: {error}")
    try:
        found = _run(start, into, check, environment_file)
    except FAILURES as error:
        _refuse(_why(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if found:
        raise typer.Exit(1)


def _run(start: Start, into: str, check: bool, environment_file: Path | None) -> list[str]:
    """Replay and show it; the differences that the check has found."""
    output, system = console(), find_system(environment_file)
    with TemporaryDirectory(prefix="order-rail-replay-") as scratch:
        store = AnalyticsStore(into or f"sqlite:///{Path(scratch) / 'replay.db'}")
        try:
            _expect_empty(store, into)
            report = _audited(system, store) if check else None
            replayed = asyncio.run(replay(system.rabbitmq_url, store, start, _Progress(output)))
            _show(output, replayed, start, store)
            return _checked(output, report, replayed, store) if report else []
        finally:
            store.close()


def _audited(system: SystemAddresses, store: AnalyticsStore) -> AuditReport:
    """An audit, before the replay: the orders that it leaves out, since they are pruned, are not to be counted."""
    report = asyncio.run(audit(system, 0.0))
    expect_idle(report)
    if report.pruned_before:
        store.forget(datetime.fromisoformat(report.pruned_before))
    return report


def _expect_empty(store: AnalyticsStore, into: str) -> None:
    store.prepare()
    if (events := store.progress().events) or store.progress().position:
        where = without_credentials(into)
        raise ReplayFailed(
            f"{where} has counted {counted(events, 'event')} already; name an empty database, or drop it"
        )


class _Progress:
    """Prints how far it is, once a second."""

    def __init__(self, output: Console) -> None:
        self._output = output
        self._began_at = self._printed_at = time.monotonic()

    def __call__(self, events: int, offset: int, end: int) -> None:
        now = time.monotonic()
        if now >= self._printed_at + PROGRESS_SECONDS:
            self._printed_at = now
            rate = events / (now - self._began_at)
            self._output.print(f"  {events:,} events, {rate:,.0f} a second; offset {offset:,} of {end:,}")


def _show(output: Console, replayed: Replayed, start: Start, store: AnalyticsStore) -> None:
    rate = replayed.events / max(replayed.seconds, 0.001)
    output.print(
        f"Replayed {counted(replayed.events, 'event')} in {replayed.seconds:.1f} s ({rate:,.0f} a second), "
        f"from {counted(replayed.messages, 'message')} of the stream."
    )
    gone = replayed.missing + (replayed.first_offset or 0 if start == "first" else 0)
    if gone:
        output.print(f"[yellow]{counted(gone, 'message')} are gone: the stream is truncated (EVENTS_KEPT_HOURS).[/]")
    output.print(_table(store))


def _table(store: AnalyticsStore) -> Table:
    table = Table("figure", "total")
    totals = totals_of(store)
    for name, value in totals.items():
        if name == DISHES:
            continue
        values = value if isinstance(value, dict) else {"": value}
        for key, amount in values.items():
            is_money = name in (CAPTURED, REFUNDED)
            table.add_row(name, money(amount, key) if is_money else f"{amount:,}")
    dishes = sorted(totals.get(DISHES, {}).items(), key=lambda dish: -dish[1])
    for name, quantity in dishes[:TOP_DISHES]:
        table.add_row(f"dish: {name}", f"{quantity:,}")
    return table


def _checked(output: Console, report: AuditReport, replayed: Replayed, store: AnalyticsStore) -> list[str]:
    expect_whole(replayed, report)
    found = differences(store, report)
    for line in found:
        output.print(f"[red]DIFFERENT[/] {line}")
    if not found:
        orders = counted(report.counts.get("orders", 0), "order")
        output.print(f"[bold green]The stream of events and the audit agree[/] on {orders} and all money.")
    if report.pruned_before:
        output.print(f"Left out: orders from before {report.pruned_before}, if there were any: they are pruned.")
    return found


def _why(error: Exception) -> str:
    if isinstance(error, NotFound):
        return "there is no stream of events: with EVENTS_KEPT_HOURS above 0, order-rail topology apply creates it"
    return f"The replay could not be carried out: {error}"


def _refuse(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(2)
