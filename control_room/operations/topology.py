"""`order-rail topology apply|keep|show`: what the broker should hold, put in place and looked after."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from control_room.signals import run_until_signal
from control_room.text import console
from shared.contract import services
from shared.management import ManagementError, ManagementUnavailable
from shared.observability.logging import configure as configure_logging
from shared.settings import BrokerSettings, load
from shared.topology import Exchange, Item, Policy, Queue, ServiceUser, VirtualHost
from shared.topology.provision import Difference, TopologyDiffers, apply, difference, keep
from shared.waiting import poll

RETRY_SECONDS = 0.5

app = typer.Typer(help="The broker's exchanges, queues and bindings: create, keep, compare.", no_args_is_help=True)


class TopologySettings(BrokerSettings):
    """The broker, and how to log."""

    log_format: Literal["json", "console"] = "console"

    @property
    def passwords(self) -> dict[str, str]:
        """Of the services that have a broker user of their own: `<SERVICE>_RABBITMQ_PASSWORD` by service."""
        every = {service.name: os.environ.get(service.variable("RABBITMQ_PASSWORD"), "") for service in services()}
        return {name: password for name, password in every.items() if password}


@app.command("apply")
def apply_command(
    wait_seconds: Annotated[float, typer.Option(min=0, help="How long to wait for a broker that is starting.")] = 30.0,
) -> None:
    """Create what is missing, and set how long events are kept. Changes nothing else that exists, deletes nothing."""
    settings = load(TopologySettings)
    applying = poll(
        lambda: apply(settings, passwords=settings.passwords),
        within_seconds=wait_seconds,
        every_seconds=RETRY_SECONDS,
        until=lambda _created: True,
        not_yet=(ManagementUnavailable,),
    )
    with _failures_in_a_sentence():
        created = asyncio.run(applying)
    for item in created:
        typer.echo(f"created {item}")
    if not created:
        typer.echo("nothing to do")


@app.command("keep")
def keep_command(
    ready_file: Annotated[
        Path | None, typer.Option(help="Written once everything is in place, removed at the start and the end.")
    ] = None,
    interval_seconds: Annotated[float, typer.Option(min=0.1, help="How often to look.")] = 2.0,
) -> None:
    """Apply, and go on watching: put back what goes missing, until SIGTERM or Ctrl-C."""
    settings = load(TopologySettings)
    configure_logging("topology", settings.log_format)

    def touch() -> None:
        if ready_file:
            ready_file.touch()

    try:
        _remove(ready_file)  # a run that was killed leaves it behind
        with _failures_in_a_sentence():
            passwords = settings.passwords
            run_until_signal(keep(settings, passwords=passwords, interval_seconds=interval_seconds, on_applied=touch))
    except OSError as error:
        _fail(f"--ready-file: {error}")
    finally:
        with suppress(OSError):
            _remove(ready_file)


@app.command("show")
def show_command() -> None:
    """Compare the broker with what should be there. Exit status 1 if something is missing or differs."""
    settings = load(TopologySettings)
    with _failures_in_a_sentence():
        found = asyncio.run(difference(settings, passwords=settings.passwords))
    console().print(_table(settings, found))
    if found.missing or found.differs:
        raise typer.Exit(1)


def _remove(ready_file: Path | None) -> None:
    if ready_file:
        ready_file.unlink(missing_ok=True)


@contextmanager
def _failures_in_a_sentence() -> Iterator[None]:
    try:
        yield
    except (ManagementError, TopologyDiffers) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _fail(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(1)


def _table(settings: BrokerSettings, found: Difference) -> Table:
    table = Table("item", "should", "is", title=escape(f"Topology of virtual host {settings.vhost}"))
    for item in found.items:
        if item in found.missing or not isinstance(item, VirtualHost | ServiceUser):
            table.add_row(escape(str(item)), escape(_expectation(item)), _state(item, found))
    known = set(map(str, found.items))
    for line in found.differs:
        if line.item not in known:
            table.add_row(escape(line.item), "", "[yellow]should not be there[/]")
    for queue in found.others:
        table.add_row(escape(queue), "", "[yellow]not part of it; bound, and without a consumer, it fills up[/]")
    return table


def _expectation(item: Item) -> str:
    match item:
        case Queue(arguments={"x-message-ttl": milliseconds}):
            return f"holds for {milliseconds} ms, then back"
        case Queue(arguments={"x-dead-letter-routing-key": _, "x-delivery-limit": limit}):
            return f"dead after {limit} returns"
        case Queue(arguments={"x-queue-type": "stream"}):
            return "keeps every event"
        case Policy(definition={"max-age": age, "max-length-bytes": most_bytes}):
            return f"for {age}, in at most {int(most_bytes):,} bytes"
        case Queue():
            return "parks dead letters"
        case Exchange(arguments={"hash-header": header}):
            return f"partitions by the header {header}"
        case ServiceUser(permissions={"write": write, "read": read}):
            return f"write {write}, read {read}"
        case _:
            return ""


def _state(item: Item, found: Difference) -> str:
    if item in found.missing:
        return "[red]missing[/]"
    differs = [line for line in found.differs if line.item == str(item)]
    lines = [escape(f"{line.argument} is {line.found!r}, not {line.expected!r}") for line in differs]
    return "\n".join(["[yellow]differs[/]", *lines]) if lines else "[green]ok[/]"
