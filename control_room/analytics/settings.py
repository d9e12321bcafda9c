"""Where the figures of the analytics are kept."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.settings import checked_database_url

FILE = "analytics.db"


class AnalyticsSettings(BaseSettings):
    """The environment of what follows the stream of events."""

    model_config = SettingsConfigDict(env_ignore_empty=True, hide_input_in_errors=True)

    analytics_database_url: str = Field(
        "",
        repr=False,
        description="where the control room keeps the figures of its analytics: `sqlite:///folder/file.db` or "
        "`postgresql://user:password@host:port/database`. A SQLite file in `.run/` unless it is given",
    )

    @field_validator("analytics_database_url")
    @classmethod
    def _is_database(cls, value: str) -> str:
        return checked_database_url(value) if value else value

    def url_in(self, directory: Path) -> str:
        """The database's URL; without one, a file in the directory of the system."""
        return self.analytics_database_url or f"sqlite:///{directory / FILE}"
