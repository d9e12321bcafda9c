"""`python -m control_room.experiments.chaos.lock_database FILE SECONDS`: locks a SQLite database."""

import sys
import time
from pathlib import Path

from sqlalchemy import create_engine

WAIT_FOR_LOCK_SECONDS = 10.0


def hold_lock(database: Path, seconds: float) -> None:
    """Prevent other processes from writing. Prints `locked` once it has the lock, `released` once it has not."""
    engine = create_engine(f"sqlite:///{database}", connect_args={"timeout": WAIT_FOR_LOCK_SECONDS})
    with engine.connect() as connection:
        connection.connection.dbapi_connection.isolation_level = None  # type: ignore[union-attr] # the driver begins nothing
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        print("locked", flush=True)
        time.sleep(seconds)
        connection.exec_driver_sql("ROLLBACK")
    print("released", flush=True)


if __name__ == "__main__":
    hold_lock(Path(sys.argv[1]), float(sys.argv[2]))
