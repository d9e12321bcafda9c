"""Where a running system is: from a file that `order-rail up` writes, or from environment variables."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, field_validator

from control_room.operations.environment_file import read_variables
from shared.settings import BrokerSettings, OperatorToken
from shared.urls import checked_url

ENVIRONMENT_FILE = Path(".run/environment")
DISCARDS = "discarded-dead-letters.ndjson"


class NotRunning(Exception):
    """There is no system to visit, or it isn't ready; the message says which part and why."""


class SystemAddresses(BrokerSettings):
    """Where everything is; the variables of `.run/environment`."""

    order_service_url: str = Field(min_length=1)
    payment_service_url: str = Field(min_length=1)
    notification_service_url: str = Field(min_length=1)
    operator_token: OperatorToken = Field("", repr=False)

    @field_validator("order_service_url", "payment_service_url", "notification_service_url")
    @classmethod
    def _is_base_url(cls, value: str) -> str:
        checked_url(value, ("http", "https"), "http://host:port")
        return value

    @classmethod
    def of(cls, variables: Mapping[str, str | None]) -> Self:
        """From environment variables, such as a launched system's `environment`. Raises pydantic's ValidationError."""
        named = {field: variables.get(field.upper()) for field in cls.model_fields}
        return cls.model_validate({field: value for field, value in named.items() if value})

    @property
    def services(self) -> dict[str, str]:
        """Base URL by service."""
        return {
            "order_service": self.order_service_url.rstrip("/"),
            "payment_service": self.payment_service_url.rstrip("/"),
            "notification_service": self.notification_service_url.rstrip("/"),
        }


def find_system(environment_file: Path | None) -> SystemAddresses:
    """From the file if one is named, else from the environment, else from the default file. Raises NotRunning."""
    return _validated(*find_environment(environment_file))


def find_environment(environment_file: Path | None) -> tuple[Mapping[str, str | None], str]:
    """The variables that tell of the system, found likewise, and in words where that was. Raises NotRunning."""
    if environment_file is None and os.environ.get("ORDER_SERVICE_URL"):
        return dict(os.environ), "the environment"
    file = environment_file or ENVIRONMENT_FILE
    if not file.is_file():
        raise NotRunning(f"no system runs here: there is no {file}, and ORDER_SERVICE_URL is not set")
    return read_variables(file), str(file)


def discards_beside(environment_file: Path | None) -> Path:
    """The journal of discarded dead letters of the system that the file tells of."""
    return (environment_file or ENVIRONMENT_FILE).parent / DISCARDS


def _validated(variables: Mapping[str, str | None], source: str) -> SystemAddresses:
    try:
        return SystemAddresses.of(variables)
    except ValidationError as error:
        lines = [f"{problem['loc'][0]}".upper() + f": {problem['msg']}" for problem in error.errors()]
        raise NotRunning(f"{source} doesn't say where the system is:\n" + "\n".join(lines)) from None
