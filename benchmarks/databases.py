"""Where the programs of a run keep their data: a file each on SQLite, or a database each on PostgreSQL.

PostgreSQL is a private server, started as the tests start theirs, but with its own settings: each commit is durable.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.postgres import PrivatePostgres

SQLITE, POSTGRESQL = "sqlite", "postgresql"
BOTH = "both"
TITLES = {SQLITE: "SQLite", POSTGRESQL: "PostgreSQL"}
FILE = "sqlite:///"
SHARED_PARENT = Path("/var/tmp")
"""On a disk, as /tmp may not be. Root can't run PostgreSQL, and who does it for root may not enter root's folders."""


def new_server(directory: Path) -> PrivatePostgres:
    """A server whose data is in `directory` where the server may read it. Raises PostgresNotInstalled."""
    return PrivatePostgres({}, directory if os.geteuid() else SHARED_PARENT)


@contextmanager
def sqlite_files(names: Iterable[str], directory: Path) -> Iterator[dict[str, str]]:
    """The URL of each database."""
    yield {name: f"{FILE}{directory / name}.db" for name in names}


def path_of(url: str) -> Path | None:
    """The SQLite file, or None if it is a database of the server."""
    return Path(url.removeprefix(FILE)) if url.startswith(FILE) else None


@contextmanager
def server_databases(names: Iterable[str], server: PrivatePostgres) -> Iterator[dict[str, str]]:
    """The URL of each new database; all are deleted after the block, and kept where it failed."""
    urls = {name: server.create_database() for name in names}
    yield urls
    for url in urls.values():
        server.drop_database(url)
