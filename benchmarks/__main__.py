"""`python -m benchmarks`: measure, print a table, write JSON, Markdown and a picture."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.markup import escape

from benchmarks import (
    accept,
    at_work,
    drain,
    footprint,
    growth,
    latency,
    pass_through,
    proxy,
    prune,
    reconcile,
    replay,
    scaling,
    table,
    watching,
)
from benchmarks.bench import QUICK, Bench, Scale
from benchmarks.contenders import PEERS, PEERS_FILE, Contender, order_rail_before
from benchmarks.databases import BOTH, POSTGRESQL, SQLITE, TITLES
from benchmarks.goals import verdicts
from benchmarks.machine import describe
from benchmarks.picture import draw
from benchmarks.results import Results
from benchmarks.stage import MeasurementFailed, set_up
from control_room import text
from control_room.launcher.broker import BrokerError
from control_room.launcher.installed import NotInstalledError
from control_room.signals import run_until_signal
from shared.observability import logging
from shared.output import accept_any_text
from tests.postgres import PostgresNotInstalled

MEASUREMENTS = {
    module.NAME: module
    for module in (
        accept,
        proxy,
        at_work,
        drain,
        scaling,
        latency,
        pass_through,
        footprint,
        watching,
        growth,
        prune,
        reconcile,
        replay,
    )
}
"""In the order in which they are measured."""

ON_ONE_DATABASE = {
    **dict.fromkeys((pass_through.NAME, growth.NAME, prune.NAME, reconcile.NAME, replay.NAME), SQLITE),
    scaling.NAME: POSTGRESQL,
}
"""The first use no service's database, or fill it past SQLAlchemy in SQLite's own form; replicas need a server."""

SCRATCH, JSON_FILE, MARKDOWN_FILE, PICTURE_FILE = "scratch", "results.json", "results.md", "results.svg"
console = text.console()
console.soft_wrap = True


def main(
    only: Annotated[str, typer.Option(help=f"Some of {', '.join(MEASUREMENTS)}; separated by commas.")] = "",
    peers: Annotated[str, typer.Option(help="Some of the peers, or `none`. Default: all that are installed.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured, in turns.")] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="See that everything works; the numbers mean nothing.")
    ] = False,
    database: Annotated[str, typer.Option(help=f"{SQLITE}, {POSTGRESQL}, or {BOTH} in alternation.")] = SQLITE,
    before: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="A checkout of Order Rail to be measured as well.")
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Add the rounds to the results in the output folder.")] = False,
    output: Annotated[Path, typer.Option(help="Where the results go, and what it works with meanwhile.")] = Path(
        ".run/benchmarks"
    ),
) -> None:
    """Measure Order Rail beside what people would otherwise write, on a RabbitMQ node of its own.

    Prints tables, and writes results.json, results.md and results.svg. Leave the machine alone meanwhile. All of it
    takes about an hour.
    """
    logging.configure("benchmarks", "console")
    databases = _chosen("" if database == BOTH else database, list(TITLES), "--database")
    chosen = _measurable(_chosen(only, list(MEASUREMENTS), "--only"), databases)
    contenders = [*([order_rail_before(before.absolute())] if before else []), *_peers(peers)]
    scale = QUICK if quick else Scale()
    try:
        interrupted = run_until_signal(_measure(output.absolute(), chosen, databases, contenders, scale, rounds, add))
    except (MeasurementFailed, BrokerError, NotInstalledError, PostgresNotInstalled, OSError) as error:
        console.print(f"[red]The measurement failed.[/] {escape(str(error))}")
        raise typer.Exit(1) from None
    raise typer.Exit(130 if interrupted else 0)


def _chosen(names: str, known: list[str], option: str) -> list[str]:
    """All that are known, or those that are named, in the order of `known`."""
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: expected some of {', '.join(known)}", param_hint=option)
    return [name for name in known if name in chosen or not chosen]


def _measurable(chosen: list[str], databases: list[str]) -> list[str]:
    """Those of the measurements that use one of the databases."""
    left_out = [name for name in chosen if ON_ONE_DATABASE.get(name, databases[0]) not in databases]
    for name in left_out:
        console.print(f"Without {name}: measured on {TITLES[ON_ONE_DATABASE[name]]} alone.")
    return [name for name in chosen if name not in left_out]


def _peers(names: str) -> list[Contender]:
    if names == "none":
        return []
    chosen = _chosen(names, [peer.name for peer in PEERS], "--peers")
    missing = [peer.title for peer in PEERS if peer.name in chosen and not peer.is_installed]
    if missing and names:
        raise typer.BadParameter(f"{', '.join(missing)}: not installed; see {PEERS_FILE}", param_hint="--peers")
    if missing:
        console.print(f"Without {', '.join(missing)}: not installed; see {PEERS_FILE}.")
    return [peer for peer in PEERS if peer.name in chosen and peer.is_installed]


async def _measure(
    directory: Path,
    chosen: list[str],
    databases: list[str],
    peers: list[Contender],
    scale: Scale,
    rounds: int,
    add: bool,
) -> None:
    scratch = directory / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    async with set_up(scratch, databases) as stage:
        machine = describe(scratch, await stage.rabbitmq_version())
        results = _kept(directory, machine) if add else Results(machine)
        bench = Bench(stage, peers, scale, results, scratch, _say)
        for name in chosen:
            own = [ON_ONE_DATABASE[name]] if name in ON_ONE_DATABASE else databases
            for number in range(rounds):
                for database in own[::-1] if number % 2 else own:
                    await MEASUREMENTS[name].measure_round(replace(bench, database=database), number)
                    machine["busy_before_percent"] = median(stage.busy_percent or [0.0])
                    _write(directory, results)
    shutil.rmtree(scratch)
    table.show(console, results, verdicts(results))
    console.print(f"Written: {escape(str(directory))}/{JSON_FILE}, {MARKDOWN_FILE}, {PICTURE_FILE}")


def _kept(directory: Path, machine: dict[str, object]) -> Results:
    """The results of before, if there are any; the machine is described anew."""
    file = directory / JSON_FILE
    return replace(Results.read(file), machine=machine) if file.exists() else Results(machine)


def _write(directory: Path, results: Results) -> None:
    found = verdicts(results)
    as_json = {**results.as_json(), "goals": [each.as_json() for each in found]}
    (directory / JSON_FILE).write_text(json.dumps(as_json, indent=1) + "\n")
    (directory / MARKDOWN_FILE).write_text(table.to_markdown(results, found), encoding="utf-8")
    (directory / PICTURE_FILE).write_text(draw(results), encoding="utf-8")


def _say(sentence: str) -> None:
    console.print(f"{datetime.now(UTC):%H:%M:%S}  {escape(sentence)}")


if __name__ == "__main__":
    accept_any_text()
    typer.run(main)
