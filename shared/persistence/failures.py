"""Whether an error is a row's fault or a failure of the database, by SQLSTATE and by SQLite's result codes.

The drivers' exception classes do not say: a read-only database and a syntax error have the same one.
"""

import sqlite3
from typing import Any

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.messaging.retry import NotReady

# SQLSTATE classes and codes (PostgreSQL's manual, appendix A) that say nothing about the row.
_UNAVAILABLE_STATES = (
    "08",  # connection failure; a pooler that has no server
    "25",  # invalid transaction state: read only (25006), ended while idle
    "28",  # the login is refused
    "3D",  # no such database
    "40",  # rolled back: serialization failure, deadlock
    "42501",  # a right is missing
    "42P01",  # a table is missing
    "53",  # out of disk, memory or connections
    "55",  # locked; not in the right state, such as a standby
    "57",  # cancelled, shutting down, starting up
    "58",  # input/output error
    "F0",  # broken configuration file
    "XX",  # internal error, damaged data
)
_CONFLICT_STATES = ("40001", "40P01", "55P03")
"""A collision with another transaction: the same transaction can succeed at once."""

_UNKNOWN_STATES = ("08007", "40003")
"""The database itself does not know whether the transaction was committed."""

_UNAVAILABLE_CODES = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOTADB,
})  # fmt: skip


class DatabaseUnavailable(NotReady):
    """The database is away, locked, full or read only. Nothing was written; the same row can be written later."""


class CommitUnknown(DatabaseUnavailable):
    """The answer to COMMIT was lost: the rows may be written or not.

    The operation may run again over the same rows: it finds by their keys which are written.
    """


def translated(error: Exception) -> Exception:
    """`DatabaseUnavailable` for a failure of the database; an error that is the row's fault as it is."""
    if isinstance(error, DatabaseUnavailable) or not is_unavailable(error):
        return error
    unavailable = DatabaseUnavailable(_first_line(error))
    unavailable.__cause__ = error
    return unavailable


def commit_unknown(error: Exception) -> CommitUnknown:
    """The `CommitUnknown` for an error that was raised during a commit."""
    if isinstance(error, CommitUnknown):
        return error
    unknown = CommitUnknown(f"it is unknown whether it was committed: {_first_line(error)}")
    unknown.__cause__ = error
    return unknown


def is_unavailable(error: Exception) -> bool:
    """Whether the database failed, and not the row."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return isinstance(error, sqlite3.Error) and _is_unavailable_sqlite(error)
    if isinstance(error.orig, sqlite3.Error):
        return _is_unavailable_sqlite(error.orig)
    state = _state(error)
    if state:
        return error.connection_invalidated or state.startswith(_UNAVAILABLE_STATES)
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


def is_conflict(error: Exception) -> bool:
    """Whether the transaction was rolled back because of another one, and may be run again at once."""
    return isinstance(error, DBAPIError) and _state(error).startswith(_CONFLICT_STATES)


def is_stale_plan(error: Exception) -> bool:
    """Whether a table was altered since this connection prepared the statement; a new connection prepares it again."""
    diagnostics = getattr(getattr(error, "orig", None), "diag", None)  # psycopg's
    return diagnostics is not None and diagnostics.source_function == "RevalidateCachedQuery"


def is_lost(error: Exception) -> bool:
    """Whether the last statement got no answer: the connection broke, or an fsync failed."""
    if not isinstance(error, DBAPIError):
        return False
    code = getattr(error.orig, "sqlite_errorcode", 0)
    return error.connection_invalidated or _state(error) in _UNKNOWN_STATES or code == sqlite3.SQLITE_IOERR_FSYNC


def _is_unavailable_sqlite(error: sqlite3.Error) -> bool:
    # Extended codes carry the primary one in their low byte. A missing table is a plain OperationalError.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in _UNAVAILABLE_CODES or isinstance(error, sqlite3.OperationalError)


def _state(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _first_line(error: Any) -> str:
    return (str(getattr(error, "orig", None) or error).strip() or type(error).__name__).splitlines()[0]
