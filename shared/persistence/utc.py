"""The type of columns that hold a time."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime, also where the database (SQLite) keeps no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def bind_processor(self, dialect: Dialect) -> Any:
        """For speed without SQLAlchemy's two steps on SQLite (`tuning.py`)."""
        return _sqlite_text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


def _sqlite_text(value: datetime | None) -> str | None:
    """As SQLAlchemy writes it, such as `2026-07-01 12:00:00.000000`."""
    return None if value is None else value.astimezone(UTC).isoformat(" ", "microseconds").removesuffix("+00:00")
