"""`order-rail new service`: what it prints, and what it leaves to `make`."""

from typing import Annotated

import typer

from control_room.generator.checkout import Refused, checkout, formatted, write_all
from control_room.generator.service import NewService, checked, edits, files
from control_room.text import counted
from shared.contract import services

app = typer.Typer(help="Write a new service into this checkout.", no_args_is_help=True)


@app.callback()
def new() -> None:
    """Write a new service into this checkout."""


@app.command("service")
def service_command(
    name: Annotated[str, typer.Argument(help="Such as loyalty; the package has _service behind it.")],
    on: Annotated[str, typer.Option(help="The event that it takes, such as payment.succeeded.v1.")],
    publishes: Annotated[str, typer.Option(help="An event of its own, such as loyalty.earned.v1.")] = "",
) -> None:
    """Write a service that does something once for each event: package, tests, and its lines in all that deploys it."""
    try:
        root = checkout()
        new = checked(name, on, publishes, services())
        own = files(new, root)
        shared = edits(new, services()[-1], lambda file: (root / file).read_text(encoding="utf-8"))
        write_all(root, own, shared)
        is_formatted = formatted(root, [file for file in own if file.endswith(".py")])
    except Refused as refused:
        typer.echo(f"Nothing was written: {refused}.", err=True)
        raise typer.Exit(1) from None
    typer.echo(_next(new, len(own), len(shared), is_formatted=is_formatted))


def _next(new: NewService, own: int, shared: int, *, is_formatted: bool) -> str:
    lines = {
        f"{new.name}/{new.word}.py": "the rules: what an entry is, and what an event makes of it",
        f"{new.name}/handlers.py": "what is done with an event, once an order",
        f"{new.name}/store.py": "the table; it changes together with migrations/versions/",
        **({f"shared/events/{new.word}.py": "the event that it publishes"} if new.publishes else {}),
        new.test: "its tests, which kill the handler between every two steps",
    }
    opens = "\n".join(f"  {file:44}{what}" for file, what in lines.items())
    return (
        f"{new.name} is written: {counted(own, 'file')} of its own, and its lines in {shared} others. Open:\n{opens}\n"
        "Then:\n"
        + ("" if is_formatted else f"  {'make format':44}sorts imports and breaks long lines\n")
        + f"  {'make generate':44}registers it, and writes docs/events.md and .env.example anew\n"
        f"  {f'.venv/bin/pytest {new.test}':44}\n"
        f"  {'make up':44}starts it with the others, on port {new.port}; its box is in the control room"
    )
