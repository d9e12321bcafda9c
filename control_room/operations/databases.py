"""`order-rail database upgrade|show`: the tables of every service's databases, brought to this version."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from control_room.text import console, counted
from shared.contract import ContractError, DatabaseContract, ServiceContract, service, services
from shared.settings import checked_database_url
from shared.urls import without_credentials
from shared.waiting import poll

if TYPE_CHECKING:
    from shared.persistence.migrations import Migration

WAIT_SECONDS = 30.0
RETRY_SECONDS = 0.5
RUN_DIRECTORY = Path(".run")
_OK = "[green]ok[/]"

app = typer.Typer(help="The tables of the services' databases: upgrade, compare.", no_args_is_help=True)


class DatabaseError(Exception):
    """A database can't be used; the message says which one, why, and what to do."""


@dataclass(frozen=True)
class SystemDatabase:
    """A database of a system. `name`: of its file and its user. `migrations`: the package of its history."""

    name: str
    url: str = field(repr=False)
    migrations: str


def database_variables(contract: ServiceContract) -> dict[str, DatabaseContract]:
    """The databases of a service, by the environment variable of a whole system that holds the URL.

    Every service reads the URL of its main database from DATABASE_URL, so a system's is `<SERVICE>_DATABASE_URL`.
    """
    own, *further = contract.databases
    return {contract.variable(own.variable): own, **{database.variable: database for database in further}}


def database_values(
    contract: ServiceContract, variables: Mapping[str, str], sqlite_url: Callable[[str], str]
) -> dict[str, str]:
    """A service's variables for its databases, from those of a whole system. `sqlite_url`: for one without a value."""
    return {
        database.variable: variables.get(variable) or f"{database.scheme}{sqlite_url(database.name)}"
        for variable, database in database_variables(contract).items()
    }


def databases_of(
    contracts: Sequence[ServiceContract], variables: Mapping[str, str], sqlite_url: Callable[[str], str]
) -> list[SystemDatabase]:
    """The databases of these services. Raises `DatabaseError` for a URL that names none."""
    found = []
    for contract in contracts:
        values = database_values(contract, variables, sqlite_url)
        for variable, database in database_variables(contract).items():
            url = values[database.variable]
            if url.startswith(database.scheme):  # else an outside system that keeps no database here
                found.append(SystemDatabase(database.name, _checked(variable, url, database), database.migrations))
    return found


def _checked(variable: str, url: str, database: DatabaseContract) -> str:
    try:
        return checked_database_url(url.removeprefix(database.scheme))
    except ValueError as error:
        raise DatabaseError(f"{variable}: {error}") from None


async def upgrade(
    databases: Sequence[SystemDatabase], report: Callable[[str], None], wait_seconds: float = WAIT_SECONDS
) -> None:
    """Bring them to this version, one after the other. Waits for one that is away or locked. Raises DatabaseError."""
    for database in databases:
        for migration in await _upgrade(database, wait_seconds):
            report(f"{database.name}: {migration.revision}, {migration.title}")


async def _upgrade(database: SystemDatabase, wait_seconds: float) -> "list[Migration]":
    from shared.persistence.migrations import History, MigrationFailed, NotYet  # noqa: PLC0415 - few commands need Alembic

    try:
        history = History.of(database.migrations)
        return await poll(
            lambda: asyncio.to_thread(history.upgrade, database.url),
            within_seconds=wait_seconds,
            every_seconds=RETRY_SECONDS,
            until=lambda _ran: True,
            not_yet=(NotYet,),
        )
    except MigrationFailed as error:
        waited = f" within {wait_seconds:g} s" if isinstance(error, NotYet) else ""
        where = f"{database.name} ({without_credentials(database.url)})"
        raise DatabaseError(f"{where} was not upgraded{waited}: {error}") from None


@app.command("upgrade")
def upgrade_command(
    service_name: Annotated[str, typer.Option("--service", help="Only the databases of this service.")] = "",
    wait_seconds: Annotated[
        float, typer.Option(min=0, help="How long to wait for one that is starting or locked.")
    ] = WAIT_SECONDS,
) -> None:
    """Create missing tables and add what this version needs. Twice is harmless; a failure changes nothing."""
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        typer.echo(line)

    try:
        asyncio.run(upgrade(_databases(service_name), report, wait_seconds))
    except (DatabaseError, ContractError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if not lines:
        typer.echo("nothing to do")


@app.command("show")
def show_command(
    service_name: Annotated[str, typer.Option("--service", help="Only the databases of this service.")] = "",
) -> None:
    """Compare the databases with this version. Exit status 1 if one has to be upgraded, or can't be read."""
    try:
        databases = _databases(service_name)
    except (DatabaseError, ContractError) as error:
        _fail(str(error))
    table = Table("database", "where", "last migration here", "state")
    states = {database: _state(database) for database in databases}
    for database, (last, state) in states.items():
        table.add_row(database.name, escape(without_credentials(database.url)), last, state)
    console().print(table)
    if any(state != _OK for _, state in states.values()):
        raise typer.Exit(1)


def _state(database: SystemDatabase) -> tuple[str, str]:
    from shared.persistence.migrations import History, MigrationFailed  # noqa: PLC0415

    try:
        history = History.of(database.migrations)
        last, pending = history.migrations[-1].revision, history.pending(database.url)
    except MigrationFailed as error:
        return "", f"[red]{escape(str(error))}[/]"
    return last, f"[yellow]{counted(len(pending), 'migration')} to run[/]" if pending else _OK


def _databases(service_name: str) -> list[SystemDatabase]:
    """Those that the environment names, else the files of `order-rail up`; of one service also by DATABASE_URL."""
    variables = {name: value for name, value in os.environ.items() if value}
    contracts = [service(service_name)] if service_name else services()
    own = {contract.variable("DATABASE_URL") for contract in contracts}
    if "DATABASE_URL" in variables and not own & variables.keys():
        if not service_name:
            raise DatabaseError("DATABASE_URL is of one service: say which with --service, or name each service's own")
        variables |= dict.fromkeys(own, variables["DATABASE_URL"])
    return databases_of(contracts, variables, lambda name: f"sqlite:///{RUN_DIRECTORY / name}.db")


def _fail(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(1)
