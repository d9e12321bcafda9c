"""The `order-rail` command. Each group of commands has a module of its own; this file registers them."""

from typing import Any

import typer

from control_room.analytics.command import replay_command
from control_room.dashboard.page.command import control_room
from control_room.experiments.chaos.command import chaos
from control_room.experiments.flash_sale.command import flash_sale
from control_room.experiments.in_line.command import in_line
from control_room.experiments.lab.command import lab
from control_room.experiments.tour.command import tour
from control_room.generator import command as generator
from control_room.generator.channel_command import channel_command
from control_room.generator.project import project_command
from control_room.launcher.command import up
from control_room.operations import databases, topology
from control_room.operations.audit.command import audit_command
from control_room.operations.backup.command import backup_command, restore_command
from control_room.operations.dead_letters import command as dead_letters
from control_room.operations.prune.command import prune_command
from shared.output import accept_any_text


class _OrderRail(typer.Typer):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        accept_any_text()  # before --help is printed, which no callback of Typer's would be
        return super().__call__(*arguments, **options)


app = _OrderRail(
    name="order-rail",
    help="Run, watch and break a system of services that is built on RabbitMQ.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


@app.callback()
def order_rail() -> None:
    """Run, watch and break a system of services that is built on RabbitMQ."""


app.command()(up)
app.command("control-room")(control_room)
app.command()(tour)
app.command("audit")(audit_command)
app.command("prune")(prune_command)
app.command("replay")(replay_command)
app.command("flash-sale")(flash_sale)
app.command()(chaos)
app.command()(lab)
app.command("in-line")(in_line)
app.command("backup")(backup_command)
app.command("restore")(restore_command)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(topology.app, name="topology")
app.add_typer(databases.app, name="database")
app.add_typer(generator.app, name="new")
generator.app.command("channel")(channel_command)
generator.app.command("project")(project_command)
