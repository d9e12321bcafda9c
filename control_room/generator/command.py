"""`order-rail new`: what its commands print, and what they leave to `make`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from control_room.generator import event, service
from control_room.generator.checkout import Refused, check_registered, checkout, written
from control_room.text import counted
from shared.contract import services
from shared.events.envelope import SUBJECT

app = typer.Typer(help="Begin something new, from a living example.", no_args_is_help=True)


@app.callback()
def new() -> None:
    """Begin something new, from a living example."""


@contextmanager
def in_checkout() -> Iterator[Path]:
    """The root of the checkout. What is refused is told, and ends the command."""
    try:
        root = checkout()
        check_registered(root, services())
        yield root
    except Refused as refused:
        typer.echo(f"Nothing was written: {refused}.", err=True)
        raise typer.Exit(1) from None


@app.command("service")
def service_command(
    name: Annotated[str, typer.Argument(help="Such as loyalty; the package has _service behind it.")],
    on: Annotated[str, typer.Option(help=f"The event that it takes, such as {service.CAUSE[0]}.")],
    publishes: Annotated[str, typer.Option(help="An event of its own, such as loyalty.earned.v1.")] = "",
) -> None:
    """Write a service that does something once for each event: package, tests, and its lines in all that deploys it."""
    with in_checkout() as root:
        new = service.checked(name, on, publishes, services())
        own = service.files(new, root)
        shared = service.edits(new, services()[-1], root)
        is_formatted = written(root, own, shared)
    tell(
        f"{new.name} is written: {counted(len(own), 'file')} of its own, and its lines in {len(shared)} others",
        {
            f"{new.name}/{new.word}.py": "the rules: what an entry is, and what an event makes of it",
            f"{new.name}/handlers.py": f"what is done with an event, once for each {SUBJECT}",
            f"{new.name}/store.py": "the table; it changes together with migrations/versions/",
            **({f"shared/events/{new.word}.py": "the event that it publishes"} if new.publishes else {}),
            new.test: "its tests, which kill the handler between every two steps",
        },
        {
            "make generate": "registers it, and writes docs/events.md and .env.example anew",
            f".venv/bin/pytest {new.test}": "",
            "make up": f"starts it with the others, on port {new.port}; its box is in the control room",
        },
        is_formatted=is_formatted,
    )


@app.command("event")
def event_command(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="Such as payment.disputed.v1.")],
    by: Annotated[str, typer.Option(help="The service that publishes it, such as payment.")],
) -> None:
    """Write an event of a service: its class, its export, and its place in the contract."""
    with in_checkout() as root:
        new = event.checked(event_type, by, services())
        is_formatted = written(root, {}, event.edits(new, root))
    known = event.takers(new, services())
    tell(
        f"{new.name} is written, and {new.publisher.name} may publish it",
        {
            new.file: f"what it says: {new.name}Data, and the docstring of {new.name}",
            f"{new.publisher.name}/handlers.py": "publish it there, in the commit of what it tells",
            **{f"{name}/handlers.py": f"{queue} gets it; take it there first" for queue, name in known.items()},
            "docs/recipes/add-an-event.md": "how both are done",
        },
        {"make generate": "writes docs/events.md anew", ".venv/bin/pytest tests/unit": ""},
        is_formatted=is_formatted,
    )


def tell(done: str, files: Mapping[str, str], commands: Mapping[str, str], *, is_formatted: bool) -> None:
    """What was done, which files to open, and which commands come next, each with why."""
    if not is_formatted:
        commands = {"make format": "sorts imports and breaks long lines", **commands}
    lines = [f"{done}. Open:", *_columns(files), "Then:", *_columns(commands)]
    typer.echo("\n".join(lines))


def _columns(rows: Mapping[str, str]) -> list[str]:
    width = max(map(len, rows)) + 2
    return [f"  {left:{width}}{right}".rstrip() for left, right in rows.items()]
