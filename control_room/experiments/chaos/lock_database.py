"""`python -m control_room.experiments.chaos.lock_database FILE`: locks a SQLite database until the process is ended."""

import signal
import sys
from pathlib import Path

from sqlalchemy import create_engine

WAIT_FOR_LOCK_SECONDS = 10.0


def hold_lock(database: Path) -> None:
    """Prevent other processes from writing. Prints `locked` once it has the lock."""
    engine = create_engine(f"sqlite:///{database}", connect_args={"timeout": WAIT_FOR_LOCK_SECONDS})
    with engine.connect() as connection:
        connection.connection.dbapi_connection.isolation_level = None  # type: ignore[union-attr] # the driver begins nothing
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        print("locked", flush=True)
        signal.pause()


if __name__ == "__main__":
    hold_lock(Path(sys.argv[1]))
