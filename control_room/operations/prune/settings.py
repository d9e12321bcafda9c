"""How long the records of an order are kept."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MAX_DAYS = 36_500


class RetentionSettings(BaseSettings):
    """The environment of what prunes."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    retain_days: int = Field(
        90,
        ge=1,
        le=MAX_DAYS,
        description="how long the records of an order are kept after its placement, its idempotency key with them. "
        "Longer while an order that is as old is not settled, or has a dead letter",
    )
