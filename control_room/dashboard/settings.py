"""The settings that the control room reads when it is opened; a wrong one ends its process before anything starts."""

from pydantic_settings import BaseSettings

from control_room.analytics.settings import AnalyticsSettings
from control_room.operations.prune.settings import RetentionSettings
from shared.settings import load

CHECKED: tuple[type[BaseSettings], ...] = (
    RetentionSettings,
    AnalyticsSettings,
)


def check_settings() -> None:
    """Ends the process, with a sentence, if the environment has a wrong value."""
    for each in CHECKED:
        load(each)
