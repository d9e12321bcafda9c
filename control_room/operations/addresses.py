"""The addresses of a running system: from a file that `order-rail up` writes, or from environment variables."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from control_room.operations.environment_file import read_variables
from shared.contract import service, services
from shared.settings import BrokerSettings, OperatorToken, wrong_variables
from shared.urls import checked_url

ENVIRONMENT_FILE = Path(".run/environment")
DISCARDS = "discarded-dead-letters.ndjson"


def _base_url(value: str | None) -> str:
    if not value:
        raise PydanticCustomError("missing", "Field required")
    checked_url(value, ("http", "https"), "http://host:port")
    return value.rstrip("/")


class NotRunning(Exception):
    """There is no system, or it isn't ready; the message says what is missing and why."""


class SystemAddresses(BrokerSettings):
    """Addresses and credentials of the broker and of every registered service."""

    services: dict[str, Annotated[str, BeforeValidator(_base_url)]]
    """Base URL by service."""
    operator_token: OperatorToken = Field("", repr=False)

    @classmethod
    def of(cls, variables: Mapping[str, str | None], **values: object) -> Self:
        """From environment variables, such as a launched system's `environment`. Raises pydantic's ValidationError."""
        return super().of(variables, services={each.name: variables.get(each.variable("URL")) for each in services()})

    @property
    def operator_headers(self) -> dict[str, str]:
        """What operators' calls need; empty without a token."""
        return {"Authorization": f"Bearer {self.operator_token}"} if self.operator_token else {}

    @property
    def variables(self) -> dict[str, str]:
        """As environment variables, for a command in a process of its own."""
        return {
            **{service(name).variable("URL"): url for name, url in self.services.items()},
            "RABBITMQ_URL": self.rabbitmq_url,
            "RABBITMQ_MANAGEMENT_URL": self.management_url,
            "OPERATOR_TOKEN": self.operator_token,
        }


def find_system(environment_file: Path | None) -> SystemAddresses:
    """From the file if one is named, else from the environment, else from the default file. Raises NotRunning."""
    variables, source = find_environment(environment_file)
    try:
        return SystemAddresses.of(variables)
    except ValidationError as error:
        raise NotRunning(f"{source} doesn't say where the system is:\n{wrong_variables(error)}") from None


def find_environment(environment_file: Path | None) -> tuple[Mapping[str, str | None], str]:
    """The variables that name a system's addresses, and a phrase for where they were found. Raises NotRunning."""
    variable = services()[0].variable("URL")
    if environment_file is None and os.environ.get(variable):
        return dict(os.environ), "the environment"
    file = environment_file or ENVIRONMENT_FILE
    if not file.is_file():
        raise NotRunning(f"no system runs here: there is no {file}, and {variable} is not set")
    return read_variables(file), str(file)


def discards_beside(environment_file: Path | None) -> Path:
    """The journal of discarded dead letters of the system that the file belongs to."""
    return (environment_file or ENVIRONMENT_FILE).parent / DISCARDS
