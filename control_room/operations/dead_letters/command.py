"""`order-rail dead-letters list|show|redrive|discard`."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer

from control_room.operations.addresses import (
    ENVIRONMENT_FILE,
    NotRunning,
    SystemAddresses,
    discards_beside,
    find_system,
)
from control_room.operations.dead_letters import NotDone, display
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.dead_letters.discard import discard
from control_room.operations.dead_letters.moot import statuses_of, why_moot
from control_room.operations.dead_letters.parked import connected
from control_room.operations.dead_letters.redrive import redrive
from control_room.operations.dead_letters.selection import Selection, groups, queue_named, selected
from control_room.text import console, silence_logs
from shared.contract import queues
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.connection import Connection

app = typer.Typer(help="Messages that were parked: look at them, send them back, remove them.", no_args_is_help=True)
Result = TypeVar("Result")
SOME_QUEUE = next(iter(queues()), "")
PRINTED_AT_ONCE = 100

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it: the message's id.")]
IdOption = Annotated[str | None, typer.Option("--id", help="Only the message with this id, as `list` shows it.")]
CauseOption = Annotated[str | None, typer.Option("--cause", help="Only those with this cause, as `list` shows it.")]
QueueOption = Annotated[str | None, typer.Option("--queue", help=f"Only those of this queue, such as {SOME_QUEUE}.")]
FileOption = Annotated[
    Path | None, typer.Option("--environment-file", help=f"Says where the system is. Default: {ENVIRONMENT_FILE}.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="For machines: a line of JSON for each message, whole.")]


@app.command("list")
def list_command(
    queue: QueueOption = None,
    cause: CauseOption = None,
    limit: Annotated[int, typer.Option(min=0, help="How many messages to show of each group.")] = 5,
    as_json: JsonOption = False,
    environment_file: FileOption = None,
) -> None:
    """Show what was parked, by queue and cause. Nothing is removed or reordered.

    What is moot, since a redrive of it would change nothing, is said to be.
    """
    selection = _selection(None, cause, queue)

    async def work(system: SystemAddresses, connection: Connection) -> None:
        if as_json:
            await _print_each(system, connection, selection)
            return
        found = await groups(connection, selection, limit)
        statuses = await statuses_of(system, [each for group in found for each in group.first])
        display.show_groups(console(), found, statuses)

    _run(environment_file, work)


@app.command("show")
def show_command(
    id: IdArgument, queue: QueueOption = None, as_json: JsonOption = False, environment_file: FileOption = None
) -> None:
    """Show one message with its headers and its event. Exit status 1 if there is none with this id."""
    selection = _selection(id, None, queue)

    async def work(system: SystemAddresses, connection: Connection) -> int:
        return await _print_each(system, connection, selection, plain=not as_json)

    if not _run(environment_file, work):
        _fail(f"there is no dead letter {id}", status=1)


@app.command("redrive")
def redrive_command(
    id: IdOption = None,
    cause: CauseOption = None,
    queue: QueueOption = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    rate: Annotated[float, typer.Option(min=0.1, max=100_000, help="Messages a second, at the most.")] = 200.0,
    force: Annotated[bool, typer.Option(help="Also while the queue has no consumer.")] = False,
    environment_file: FileOption = None,
) -> None:
    """Send messages back to the queue that they were for. It may be interrupted, and repeated.

    Exit status 1 if it was refused or stopped half-way, 2 if the broker could not be reached.
    """
    selection = _selection(id, cause, queue)
    if every == (selection != Selection()):
        raise typer.BadParameter("say which: --id, --cause, --queue (together they narrow it down), or --all")

    async def work(system: SystemAddresses, connection: Connection) -> int:
        return await redrive(system.rabbitmq_url, connection, selection, rate, force=force)

    sent = _run(environment_file, work)
    typer.echo(f"sent back {sent} messages")
    if id is not None and not sent:
        _fail(f"there is no dead letter {id}", status=1)


@app.command("discard")
def discard_command(
    id: IdArgument,
    reason: Annotated[str, typer.Option(help="Why it is right to remove it; kept in the journal.")],
    queue: QueueOption = None,
    journal: Annotated[
        Path | None, typer.Option(help="Where it is kept, a line of JSON each. Default: beside the environment file.")
    ] = None,
    environment_file: FileOption = None,
) -> None:
    """Remove a message on purpose. It is first written to a journal, whole and with the reason.

    Exit status 1 if nothing was removed, 2 if the broker could not be reached.
    """
    if not reason.strip():
        raise typer.BadParameter("expected a reason", param_hint="--reason")
    selection, file = _selection(id, None, queue), journal or discards_beside(environment_file)

    async def work(_system: SystemAddresses, connection: Connection) -> int:
        return len(await discard(connection, selection, reason, file))

    typer.echo(f"discarded {_run(environment_file, work)} messages; kept in {file}")


def _selection(id: str | None, cause: str | None, queue: str | None) -> Selection:
    try:
        return Selection(id, cause, None if queue is None else queue_named(queue))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--queue") from None


async def _print_each(
    system: SystemAddresses, connection: Connection, selection: Selection, *, plain: bool = False
) -> int:
    """Print each selected dead letter; returns how many there were."""
    count, batch = 0, list[DeadLetter]()
    async for held in selected(connection, selection):
        batch.append(held.dead_letter)
        count += 1
        if len(batch) == PRINTED_AT_ONCE:
            await _print_batch(system, batch, plain=plain)
            batch.clear()
    await _print_batch(system, batch, plain=plain)
    return count


async def _print_batch(system: SystemAddresses, batch: Sequence[DeadLetter], *, plain: bool) -> None:
    statuses, output = await statuses_of(system, batch), console()
    for dead_letter in batch:
        if plain:
            display.show_dead_letter(output, dead_letter, statuses)
        else:
            about = dead_letter.as_json() | {"moot": bool(why_moot(dead_letter, statuses))}
            typer.echo(json.dumps(about, default=str))


def _run(environment_file: Path | None, work: Callable[[SystemAddresses, Connection], Awaitable[Result]]) -> Result:
    async def connect_and_work() -> Result:
        system = find_system(environment_file)
        async with connected(system.rabbitmq_url) as connection:
            return await work(system, connection)

    silence_logs()
    try:
        return asyncio.run(connect_and_work())
    except NotDone as error:
        _fail(str(error), status=1)
    except (NotRunning, BrokerUnavailable) as error:
        _fail(str(error), status=2)


def _fail(sentence: str, *, status: int) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(status)
