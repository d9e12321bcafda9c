"""How long records are kept."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.events.envelope import SUBJECT

MAX_DAYS = 36_500


class RetentionSettings(BaseSettings):
    """The environment of what prunes."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    retain_days: int = Field(
        90,
        ge=1,
        le=MAX_DAYS,
        description=f"how long the records of each {SUBJECT} are kept, with its idempotency key. Longer while one that "
        "is as old is not settled, or has a dead letter",
    )
